"""A small study end to end: its cells, what a second call leaves alone, and what is refused."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from g2t.artifact import open_artifact, read_json
from g2t.distill.train import distill
from g2t.errors import TrainingError
from tests.pipeline.studies import g2t, written

ONLY = ("--only", "a/small/transductive/*")


def stamps(out: Path) -> dict[str, int]:
    """Return when every file was written, but for the tables themselves."""
    files = (path for path in out.rglob("*") if path.is_file() and path.parent != out)
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of which the transductive half of tier a was run."""
    folder = tmp_path_factory.mktemp("study")
    result = g2t("run", written(folder), *ONLY, "--out", folder / "out", "--json")
    assert result.exit_code == 0, result.stderr
    (folder / "printed.json").write_text(result.stdout)
    return folder


@pytest.fixture
def copy(walked: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be changed."""
    shutil.copytree(walked / "out", tmp_path / "out")
    written(tmp_path)
    return tmp_path


def states(folder: Path, *words: str) -> dict[str, dict[str, str]]:
    result = g2t("run", folder / "study.toml", *words, "--out", folder / "out", "--dry-run")
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)
    assert (plan["schema"], plan["stage"]) == ("g2t.plan/1", "study")
    found = [state for cell in plan["cells"] for state in cell["seeds"].values()]
    assert plan["counts"] == {name: found.count(name) for name in plan["counts"]}
    assert sum(plan["counts"].values()) == len(found)
    return {cell["cell"]: cell["seeds"] for cell in plan["cells"]}


def test_cells_share_teacher_and_cache_and_each_has_a_student_and_scores(walked: Path) -> None:
    out = walked / "out"
    assert {p.name for p in out.iterdir()} == {"small", "run.json", "STUDY.md"}
    assert {p.name for p in (out / "small").iterdir()} == {"graph", "transductive"}
    variants = {
        "mlp": ("none", "soft", "soft+gram"),
        "hop": ("none", "soft", "soft+gram", "soft+lsp"),
    }
    for seed in (0, 1):
        folder = out / "small" / "transductive" / f"seed-{seed}"
        names = {f"{student}-{v}" for student, vs in variants.items() for v in vs}
        made = {f"{kind}-{name}" for name in names for kind in ("student", "evaluation")}
        assert {p.name for p in folder.iterdir()} == {"teacher", "cache", *made}
        teacher = open_artifact(folder / "teacher", "teacher")
        assert (teacher.record["seed"], teacher.config["split"]) == (
            seed,
            f"random:20/20/60:{seed}",
        )
        for name in names:
            student = open_artifact(folder / f"student-{name}", "student")
            assert student.record["seed"] == seed
            assert student.config["train"]["epochs"] == 2  # the recipe's own, below every variant
            scores = open_artifact(folder / f"evaluation-{name}", "evaluation")
            assert scores.inputs["student"] == student.digest
            assert scores.inputs["teacher"] == teacher.digest
        gram = open_artifact(folder / "student-hop-soft+gram", "student").config["loss"]
        assert set(gram) == {"soft", "gram"}


def test_the_tables_are_those_of_the_evaluations(walked: Path) -> None:
    study = json.loads((walked / "printed.json").read_text())
    assert study == read_json(walked / "out" / "run.json")
    assert (study["schema"], study["title"]) == ("g2t.study/1", "A small study")
    keys = [(t["tier"], t["recipe"], t["setting"], t["student"]) for t in study["tables"]]
    assert keys == [
        ("a", "small", "transductive", "mlp"),
        ("a", "small", "transductive", "hop"),
        ("a", "small", "production", "mlp"),
        ("a", "small", "production", "hop"),
        ("b", "small", "transductive", "hop"),
    ]
    folder = walked / "out" / "small" / "transductive"
    for table, student in zip(study["tables"][:2], ("mlp", "hop"), strict=True):
        assert [row["variant"] for row in table["rows"]][:3] == ["none", "soft", "soft+gram"]
        for row in table["rows"]:
            part = f"evaluation-{student}-{row['variant']}"
            files = [folder / f"seed-{seed}" / part / "evaluation.json" for seed in (0, 1)]
            results = [read_json(file) for file in files]
            assert row["seeds"] == [0, 1]
            assert row["test"]["values"] == [result["student"]["test"] for result in results]
            assert row["val"]["values"] == [result["student"]["val"] for result in results]
            assert row["agreement"]["values"] == [result["agreement"] for result in results]
            assert table["teacher"]["test"]["values"] == [r["teacher"]["test"] for r in results]
            assert set(row["minus"]) == {"soft", "none"} - {row["variant"]}
            if student == "hop":
                k_0 = [result["student"]["by_hops"]["0"]["test"] for result in results]
                assert row["no_hop"]["values"] == k_0
            else:
                assert "no_hop" not in row
    assert study["tables"][2]["rows"] == []
    # Tier b asks for a part of what tier a has made: its seeds 0 and 1 are there.
    shared = study["tables"][4]["rows"]
    assert [(row["variant"], row["seeds"]) for row in shared] == [
        ("none", [0, 1]),
        ("soft", [0, 1]),
    ]


def test_what_is_not_run_is_listed_with_a_command_that_selects_it(walked: Path) -> None:
    study = read_json(walked / "out" / "run.json")
    listed = {entry["cell"]: entry for entry in study["not_run"]}
    production = [f"a/small/production/{s}/{v}" for s in ("mlp", "hop") for v in ("none", "soft")]
    assert set(production) <= set(listed)
    assert listed["b/small/transductive/hop/soft"]["seeds"] == [2]
    assert not any(name.startswith("a/small/transductive") for name in listed)
    page = (walked / "out" / "STUDY.md").read_text(encoding="utf-8")
    for name in ("a/small/production/mlp", "b/small/transductive/hop/soft"):
        assert name in page.partition("## Not run")[2]
    for entry in (listed["b/small/transductive/hop/soft"], listed[production[0]]):
        words = shlex.split(entry["command"])
        assert words[0] == "g2t"
        plan = json.loads(g2t(*words[1:], "--dry-run").stdout)
        seeds = {str(seed): "not run" for seed in entry["seeds"]}
        assert plan["cells"] == [{"cell": entry["cell"], "seeds": seeds}]


def test_a_second_call_makes_nothing_and_a_lost_cell_is_made_alone(copy: Path) -> None:
    out, before = copy / "out", stamps(copy / "out")
    words = ("run", copy / "study.toml", *ONLY, "--out", out, "--json")
    assert g2t(*words).exit_code == 0
    assert stamps(out) == before
    folder = out / "small" / "transductive" / "seed-1"
    digest = open_artifact(folder / "student-hop-soft", "student").digest
    shutil.rmtree(folder / "student-hop-soft")  # as an exit in the middle of it leaves things
    shutil.rmtree(folder / "evaluation-hop-soft")
    kept = stamps(out)
    assert states(copy, *ONLY)["a/small/transductive/hop/soft"] == {"0": "done", "1": "not run"}
    again = g2t(*words)
    assert again.exit_code == 0, again.stderr
    after = stamps(out)
    assert {name: after[name] for name in kept} == kept
    made = {name.split("/")[3] for name in after.keys() - kept.keys()}
    assert made == {"student-hop-soft", "evaluation-hop-soft"}
    assert open_artifact(folder / "student-hop-soft", "student").digest == digest


def test_a_cell_that_is_killed_leaves_the_finished_ones_and_the_tables_of_them(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trained = copy / "out", list[str]()

    def killed(cache: Path, student: Path, *rest: Any, **options: Any) -> Any:
        trained.append(f"{student.parent.name}/{student.name}")
        if len(trained) == 3:
            raise KeyboardInterrupt
        return distill(cache, student, *rest, **options)

    monkeypatch.setattr("g2t.pipeline.distill", killed)
    words = ("run", copy / "study.toml", "--only", "a/*/production/*", "--out", out, "--json")
    stopped = g2t(*words)
    assert stopped.exit_code == 130
    # Seeds come first: all of it is of seed 0, both students before any of seed 1.
    assert trained == [f"seed-0/student-mlp-{v}" for v in ("none", "soft", "soft+gram")]
    table = next(t for t in read_json(out / "run.json")["tables"] if t["setting"] == "production")
    assert [(row["variant"], row["seeds"]) for row in table["rows"]] == [
        ("none", [0]),
        ("soft", [0]),
    ]
    before = stamps(out)
    finished = g2t(*words)
    assert finished.exit_code == 0, finished.stderr
    assert len(trained) == len(set(trained)) + 1  # only the cell that was killed comes twice
    assert len(set(trained)) == 2 * (3 + 4)
    after = stamps(out)
    assert {name: after[name] for name in before} == before
    rows = json.loads(finished.stdout)["tables"][3]["rows"]
    assert all(set(row["settings"]) == {"tran", "ind", "prod"} for row in rows)
    assert [row["settings"]["prod"] for row in rows] == [row["test"] for row in rows]
    page = (out / "STUDY.md").read_text(encoding="utf-8")
    assert (
        "| variant | seeds | val | tran | ind | prod | k = 0 | agreement | − soft | − none |"
        in page
    )


def test_a_variant_that_needs_more_of_the_cache_is_added_to_it(copy: Path) -> None:
    out, words = copy / "out", ("--set", "variants.soft+codes.loss.codebook.share=0.1")
    chosen = ("--set", 'tiers.b.chosen=["soft+codes"]')
    only = ("--only", "b/*/soft+codes", "--seeds", "0")
    cache = out / "small" / "transductive" / "seed-0" / "cache"
    assert "codes" not in open_artifact(cache, "cache").config["signals"]
    before = stamps(out)
    result = g2t("run", copy / "study.toml", *words, *chosen, *only, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    assert "codes" in open_artifact(cache, "cache").config["signals"]
    after = stamps(out)
    assert all(after[name] == before[name] for name in before if "/cache/" not in name)
    table = json.loads(result.stdout)["tables"][4]
    assert [row["variant"] for row in table["rows"]] == ["none", "soft", "soft+codes"]
    # All that was done before counts as done, by the study with and without that variant.
    assert states(copy, *ONLY)["a/small/transductive/hop/soft+lsp"] == {"0": "done", "1": "done"}


@pytest.mark.parametrize(
    ("change", "cell"),
    [
        ("variants.soft.train.epochs=3", "a/small/transductive/mlp/soft"),
        ("recipes.small.teach.train.epochs=9", "a/small/transductive/mlp/none"),
        ("recipes.small.split=random:30/20/50", "a/small/transductive/mlp/none"),
        ("recipes.small.import.nodes=130", "a/small/transductive/mlp/none"),
        ("recipes.small.import.seed=1", "a/small/transductive/mlp/none"),
        ("recipes.small.source=synthetic:sbm", "a/small/transductive/mlp/none"),
        ("recipes.small.export.dtype=fp32", "a/small/transductive/mlp/none"),
    ],
)
def test_what_was_made_with_other_settings_is_no_result(
    walked: Path, change: str, cell: str
) -> None:
    found = states(walked, "--set", change, *ONLY)
    assert found[cell] == {"0": "other settings", "1": "other settings"}
    fitting = [name for name, seeds in found.items() if seeds["0"] == "done"]
    assert bool(fitting) == change.startswith("variants")


def test_other_settings_are_refused_by_name_and_listed(copy: Path) -> None:
    change = ("--set", "variants.soft.train.epochs=3")
    before = stamps(copy / "out")
    result = g2t("run", copy / "study.toml", *change, *ONLY, "--out", copy / "out")
    assert result.exit_code == 3
    assert "train.epochs is 2, now 3" in result.stderr
    assert stamps(copy / "out") == before
    missing = read_json(copy / "out" / "run.json")["not_run"]
    wrong = [entry["cell"] for entry in missing if entry["state"] == "other settings"]
    assert "a/small/transductive/mlp/soft" in wrong
    assert shlex.join(change) in next(e["command"] for e in missing)


def test_a_student_that_cannot_be_trained_is_named_and_the_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(cache: Path, student: Path, *rest: Any, **options: Any) -> Any:
        if student.name == "student-mlp-none":
            raise TrainingError("the loss is nan in epoch 0")
        return distill(cache, student, *rest, **options)

    monkeypatch.setattr("g2t.pipeline.distill", failing)
    only = ("--only", "a/*/transductive/mlp/*", "--seeds", "0")
    result = g2t("run", written(tmp_path), *only, "--out", tmp_path / "out")
    assert result.exit_code == 5
    assert "a/small/transductive/mlp/none with seed 0 (the loss is nan" in result.stderr
    table = read_json(tmp_path / "out" / "run.json")["tables"][0]
    assert [row["variant"] for row in table["rows"]] == ["soft", "soft+gram"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "a/small/transductive/hop/sotf"), "no variant is called 'sotf'; did you mean"),
        (("--only", "c/*/*/*/*"), "no tier is called 'c'"),
        (("--only", "hop"), "TIER/RECIPE/SETTING/STUDENT/VARIANT"),
        (("--only", "a/small/*/mlp/soft+lsp"), "matches no cell"),
        (("--seeds", "1:4"), "no tier of the study has seed 3"),
        (("--graph", "somewhere"), "do not go with a study"),
        (("--teachers-only",), "do not go with a study"),
        (("--card",), "do not go with a study"),
        (("--force",), "do not go with a study"),
    ],
)
def test_a_part_that_there_is_not_is_refused(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    result = g2t("run", written(tmp_path), *words, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_only_is_for_studies_and_a_study_is_no_settings_of_a_stage(
    walked: Path, tmp_path: Path
) -> None:
    one = g2t("run", "recipe:demo", "--only", "a/*", "--out", tmp_path / "out")
    assert (one.exit_code, one.stdout) == (2, "")
    assert "--only is for studies" in one.stderr
    graph = walked / "out" / "small" / "graph"
    stage = g2t("teach", graph, "--config", walked / "study.toml", "--out", tmp_path / "out")
    assert stage.exit_code == 2
    assert "g2t run" in stage.stderr
    other = g2t("run", "recipe:demo", "--dry-run", "--out", walked / "out")
    assert other.exit_code == 0  # a plan touches nothing
    other = g2t("run", "recipe:demo", "--out", walked / "out")
    assert other.exit_code == 3
    assert "is not of g2t.run/1" in other.stderr
