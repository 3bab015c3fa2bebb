"""A whole recipe over seeds: layout, table, and what a second call leaves alone."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from g2t.artifact import open_artifact, read_json
from g2t.config import read_config, recipe_names
from g2t.errors import UsageError
from g2t.pipeline import check_recipe
from g2t.recipe import is_study, read_recipe

RECIPE = """
source = "synthetic:csbm"
split = "random:20/20/60"

[import]
nodes = 200
degree = 6.0
classes = 3
features = 6
noise = 2.0

[teach]
train = {epochs = 8}
model = {hidden = 16}

[students]
landmark = {train = {epochs = 3}}
hop = {train = {epochs = 3}, model = {hops = 2}}
mlp = {train = {epochs = 3}}
landmark-no-teacher = {student = "landmark", preset = "none", train = {epochs = 3}}
"""
STUDENTS = ("landmark", "hop", "mlp", "landmark-no-teacher")


def g2t(*words: object) -> Result:
    from g2t_cli.app import app

    return CliRunner().invoke(app, [str(word) for word in words])


def written(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe that was walked for seeds 0 and 1, with what it printed."""
    folder = tmp_path_factory.mktemp("run")
    result = g2t("run", written(folder), "--seeds", "0:2", "--out", folder / "out", "--json")
    assert result.exit_code == 0, result.stderr
    (folder / "printed.json").write_text(result.stdout)
    return folder


def stamps(out: Path) -> dict[str, int]:
    """Return when every file was written, but for the table itself."""
    files = (path for path in out.rglob("*") if path.is_file() and path != out / "run.json")
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in files}


def test_the_folder_is_laid_out_as_promised(walked: Path) -> None:
    out = walked / "out"
    assert {path.name for path in out.iterdir()} == {"graph", "seed-0", "seed-1", "run.json"}
    open_artifact(out / "graph", "graph")
    for seed in (0, 1):
        folder = out / f"seed-{seed}"
        kinds = {f"{kind}-{name}": kind for kind in ("student", "evaluation") for name in STUDENTS}
        kinds |= {"teacher": "teacher", "cache": "cache"}
        assert {path.name for path in folder.iterdir()} == set(kinds)
        for name, kind in kinds.items():
            artifact = open_artifact(folder / name, kind)
            assert kind not in ("teacher", "student") or artifact.record["seed"] == seed
        split = open_artifact(folder / "teacher", "teacher").config["split"]
        assert split == f"random:20/20/60:{seed}"


def test_the_table_follows_its_schema_and_its_figures_can_be_recomputed(walked: Path) -> None:
    table = json.loads((walked / "printed.json").read_text())
    assert table == read_json(walked / "out" / "run.json")
    assert set(table) == {"schema", "graph", "split", "metric", "seeds", "rows"}
    assert table["schema"] == "g2t.run/1"
    assert (table["graph"], table["metric"], table["seeds"]) == ("csbm", "accuracy", [0, 1])
    assert table["split"]["name"] == "random:20/20/60"
    assert [row["name"] for row in table["rows"]] == ["teacher", *STUDENTS]
    teacher = table["rows"][0]["values"]
    for row in table["rows"]:
        name = row["name"]
        folders = [walked / "out" / f"seed-{seed}" for seed in (0, 1)]
        shown = "landmark" if name == "teacher" else name
        results = [read_json(f / f"evaluation-{shown}" / "evaluation.json") for f in folders]
        part = "teacher" if name == "teacher" else "student"
        assert row["values"] == [result[part]["test"] for result in results]
        assert row["mean"] == pytest.approx(statistics.mean(row["values"]))
        assert row["std"] == pytest.approx(statistics.stdev(row["values"]))
        gaps = [ours - theirs for ours, theirs in zip(row["values"], teacher, strict=True)]
        assert row["minus_teacher"]["mean"] == pytest.approx(statistics.mean(gaps))
        error = statistics.stdev(gaps) / 2**0.5
        assert row["minus_teacher"]["standard_error"] == pytest.approx(error)
        assert all(0 <= value <= 1 for value in row["values"])
        assert ("by_hops" in row) == (name == "hop")
        digests = [result["split"]["digest"] for result in results]
        assert table["split"]["digests"] == digests
        assert len(set(digests)) == 2
    by_hops = next(row for row in table["rows"] if row["name"] == "hop")["by_hops"]
    assert list(by_hops) == ["0", "1", "2"]


def test_a_second_call_makes_nothing_again_and_another_seed_adds_only_itself(
    walked: Path,
) -> None:
    out, recipe = walked / "out", walked / "recipe.toml"
    before = stamps(out)
    again = g2t("run", recipe, "--seeds", "0:2", "--out", out, "--json")
    assert again.exit_code == 0, again.stderr
    assert again.stdout == (walked / "printed.json").read_text()
    assert stamps(out) == before
    tables = [g2t("run", recipe, "--seeds", "0:2", "--out", out) for _ in range(2)]
    assert tables[0].stdout == tables[1].stdout
    assert tables[0].stdout.splitlines()[-1] == str(out)
    more = g2t("run", recipe, "--seeds", "0:3", "--out", out, "--json")
    assert more.exit_code == 0, more.stderr
    after = stamps(out)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"seed-2"}
    table, first = json.loads(more.stdout), json.loads(again.stdout)
    assert table["seeds"] == [0, 1, 2]
    for row, old in zip(table["rows"], first["rows"], strict=True):
        assert row["values"][:2] == old["values"]
    g2t("run", recipe, "--seeds", "0:2", "--out", out)  # for the tests that read the table


def test_a_part_that_is_gone_is_made_again_to_the_same_bytes(walked: Path) -> None:
    import shutil

    out = walked / "out"
    part = out / "seed-1" / "student-hop"
    digest = open_artifact(part, "student").digest
    shutil.rmtree(part)
    before = stamps(out)
    result = g2t("run", walked / "recipe.toml", "--seeds", "0:2", "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    assert open_artifact(part, "student").digest == digest
    assert {name: stamps(out)[name] for name in before} == before


@pytest.mark.parametrize(
    ("split", "name"), [("cpf", "cpf:{}"), ("random:30/30/40", "random:30/30/40:{}")]
)
def test_a_split_without_its_number_takes_the_seed(tmp_path: Path, split: str, name: str) -> None:
    words = ("--set", f"split={split}", "--teachers-only", "--seeds", "3,5")
    result = g2t("run", written(tmp_path), *words, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    for seed in (3, 5):
        teacher = open_artifact(tmp_path / "out" / f"seed-{seed}" / "teacher", "teacher")
        assert teacher.config["split"] == name.format(seed)
    assert json.loads(result.stdout)["split"]["name"] == split


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("students.hop.train.epoch=3", "train.epoch"),
        ("students.hop.loss.soft.wieght=3", "loss.soft.wieght"),
        ("students.mlp.model.blocks=3", "model.blocks"),
        ("students.mpl.train.epochs=3", "no student is called 'mpl'"),
        ("students.mlp.preset=sotf", "no preset is called 'sotf'"),
        ("teach.train.epoch=3", "train.epoch"),
        ("teach.teacher=gnc", "no teacher is called 'gnc'"),
        ("export.dtype=fp8", "dtype"),
        ("import.node=3", "node"),
        ("source=synthetik:csbm", "synthetik"),
        ("sauce=1", "sauce"),
    ],
)
def test_a_wrong_recipe_fails_before_any_work(tmp_path: Path, key: str, said: str) -> None:
    out = tmp_path / "out"
    result = g2t("run", written(tmp_path), "--set", key, "--out", out)
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr
    assert result.stdout == ""
    assert not out.exists()


@pytest.mark.parametrize("seeds", ["", "x", "1:1", "0,0", "2:", "-1:2"])
def test_seeds_that_are_none_are_refused(tmp_path: Path, seeds: str) -> None:
    result = g2t("run", written(tmp_path), f"--seeds={seeds}", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", [name for name in recipe_names() if not is_study(read_config(f"recipe:{name}"))]
)
def test_every_shipped_recipe_is_valid(name: str) -> None:
    checked = check_recipe(read_recipe(read_config(f"recipe:{name}")))
    assert {"landmark", "hop", "mlp", "landmark-no-teacher"} <= set(checked["students"])


def test_the_recipes_of_the_readme_are_shipped() -> None:
    assert {"demo", "cora", "citeseer", "photo-cpf", "computers-cpf"} <= set(recipe_names())
    names = ("cora", "citeseer", "photo-cpf", "computers-cpf")
    splits = {name: read_recipe(read_config(f"recipe:{name}")).split for name in names}
    assert splits["cora"] == splits["citeseer"] == "public"
    assert splits["photo-cpf"] == splits["computers-cpf"] == "cpf"


def test_a_student_s_kind_is_its_name_unless_it_says_otherwise() -> None:
    recipe = read_recipe(
        {"source": "synthetic:csbm", "students": {"hop": {}, "x": {"student": "mlp"}}}
    )
    kinds: dict[str, Any] = {name: recipe.student(name)["student"] for name in recipe.students}
    assert kinds == {"hop": "hop", "x": "mlp"}
    with pytest.raises(UsageError, match="no student 'hpo'"):
        recipe.student("hpo")


def test_dry_run_and_print_config_write_nothing(tmp_path: Path) -> None:
    recipe = written(tmp_path)
    for flag in ("--dry-run", "--print-config"):
        result = g2t("run", recipe, flag, "--out", tmp_path / "out")
        assert result.exit_code == 0, result.stderr
        assert result.stdout
        assert not (tmp_path / "out").exists()


def test_a_student_may_teach_another_that_stands_below_it(tmp_path: Path) -> None:
    hop = "hop = {train = {epochs = 3}, model = {hops = 2}}"
    last = 'taught = {student = "mlp", second = "hop", train = {epochs = 3}}'
    text = RECIPE.partition("landmark = ")[0] + f"{hop}\n{last}\n"
    result = g2t("run", written(tmp_path, text), "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    first, taught = (tmp_path / "out" / "seed-0" / f"student-{name}" for name in ("hop", "taught"))
    digest = open_artifact(first, "student").digest
    assert open_artifact(taught, "student").inputs["second"] == digest
    cache, recipe = tmp_path / "out" / "seed-0" / "cache", tmp_path / "recipe.toml"
    words = "distill", cache, "--config", recipe, "--student", "taught", "--out", tmp_path / "again"
    alone = g2t(*words)
    assert alone.exit_code == 2
    assert "add --second STUDENT" in alone.stderr
    assert g2t(*words, "--second", first).exit_code == 0
    assert open_artifact(tmp_path / "again", "student").inputs["second"] == digest


@pytest.mark.parametrize("second", ["landmark-no-teacher", "hpo", "landmark"])
def test_a_student_learns_from_none_that_is_not_made_before_it(tmp_path: Path, second: str) -> None:
    text = RECIPE.replace("landmark = {", f'landmark = {{second = "{second}", ')
    result = g2t("run", written(tmp_path, text), "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "no student before it" in result.stderr


def test_two_rows_compare_as_their_table_says(walked: Path) -> None:
    out = walked / "out"
    rows = {row["name"]: row for row in read_json(out / "run.json")["rows"]}
    for rival in ("teacher", "mlp"):
        printed = g2t("compare", f"{out}:hop", f"{out}:{rival}", "--json")
        assert printed.exit_code == 0, printed.stderr
        test = json.loads(printed.stdout)["parts"]["test"]
        assert test["a"]["values"] == rows["hop"]["values"]
        assert test["b"]["values"] == rows[rival]["values"]
        if rival == "teacher":
            known = rows["hop"]["minus_teacher"]
            assert test["difference"]["mean"] == pytest.approx(known["mean"])
            assert test["difference"]["standard_error"] == pytest.approx(known["standard_error"])


BESIDE = RECIPE.replace(
    "[students]",
    """
[[beside]]
teacher = "sgc"
members = 2
train = {epochs = 8}

[students]""",
)


def test_teachers_of_several_kinds_teach_together(walked: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, BESIDE)
    line = ("run", recipe, "--seeds", "1", "--out", tmp_path / "out")
    plan = json.loads(g2t(*line, "--dry-run").stdout)
    made = g2t(*line, "--json")
    assert made.exit_code == 0, made.stderr
    seed = tmp_path / "out" / "seed-1"
    assert all((tmp_path / "out" / part).exists() for part in plan["to_do"])
    teachers = [open_artifact(seed / "teacher" / str(place), "teacher") for place in range(3)]
    kinds = [(one.record["config"]["teacher"], one.record["config"]["member"]) for one in teachers]
    assert kinds == [("gcn", 0), ("sgc", 0), ("sgc", 1)]
    # The first is the one of [teach] alone, and the cache has its layers and the mean of all.
    alone = open_artifact(walked / "out" / "seed-1" / "teacher", "teacher")
    assert teachers[0].digest == alone.digest
    manifest = read_json(seed / "cache" / "manifest.json")
    assert manifest["teacher"]["name"] == "gcn"
    assert len(manifest["teachers"]) == 3
    assert g2t(*line, "--json").stdout == made.stdout


def test_print_config_gives_kinds_that_are_read_again(tmp_path: Path) -> None:
    printed = g2t("run", written(tmp_path, BESIDE), "--print-config")
    assert printed.exit_code == 0
    again = written(tmp_path, printed.stdout)
    assert g2t("run", again, "--print-config").stdout == printed.stdout
    assert read_recipe(read_config(str(again))).kinds[1]["teacher"] == "sgc"


@pytest.mark.parametrize("key", ["seed = 3", 'split = "public"', "layer = 4"])
def test_a_kind_beside_is_checked_like_the_first(tmp_path: Path, key: str) -> None:
    recipe = written(tmp_path, BESIDE.replace('teacher = "sgc"', f'teacher = "sgc"\n{key}'))
    refused = g2t("run", recipe, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert key.split()[0] in refused.stderr
    assert not (tmp_path / "out").exists()
