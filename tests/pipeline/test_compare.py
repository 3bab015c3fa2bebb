"""Paired comparisons: figures by hand, what is no pair, and files that lie."""

import json
import os
import pty
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from g2t.artifact import write_json
from g2t.pipeline import tabulate
from g2t.stage import Stage

# Differences of the test scores: 0.02, 0.04, 0.03, 0.05, 0.01.
OURS = (0.82, 0.74, 0.93, 0.65, 0.71)
THEIRS = (0.80, 0.70, 0.90, 0.60, 0.70)
TEACHER = (0.81, 0.74, 0.95, 0.64, 0.70)
T_4 = 2.7764  # Student's t at 97.5 % with 4 degrees of freedom, from a printed table


def g2t(*words: object) -> Result:
    from g2t_cli.app import app

    return CliRunner().invoke(app, [str(word) for word in words])


def evaluation(
    test: float | None, seed: int | None = 0, name: str = "hop", **other: Any
) -> dict[str, Any]:
    """Return what `g2t eval --json` prints."""
    split = {"name": f"cpf:{seed}", "digest": f"sha256:{seed}"}
    return {
        "schema": "g2t.evaluation/1",
        "graph": "paper",
        "graph_digest": "sha256:graph",
        "task": "multiclass",
        "metric": "accuracy",
        "split": split,
        "seed": seed,
        "student": {"name": name, "val": 0.5, "test": test, "by_hops": {}},
        "teacher": {"name": "gcn", "val": 0.6, "test": TEACHER[seed or 0]},
        "agreement": 0.9,
        **other,
    }


def files(folder: Path, name: str, found: Sequence[dict[str, Any]]) -> str:
    """Write evaluations as JSON files and return them as an argument."""
    paths = [folder / f"{name}-{index}.json" for index in range(len(found))]
    for path, content in zip(paths, found, strict=True):
        path.write_text(json.dumps(content))
    return ",".join(map(str, paths))


def sides(folder: Path) -> tuple[str, str]:
    ours = [evaluation(test, seed) for seed, test in enumerate(OURS)]
    theirs = [evaluation(test, seed, "mlp") for seed, test in enumerate(THEIRS)]
    return files(folder, "a", ours), files(folder, "b", theirs[::-1])


def run(folder: Path, name: str = "run") -> Path:
    """Write the folder of a run of two students, without what they were made from."""
    out = folder / name
    rows: dict[str, list[dict[str, Any]]] = {"teacher": [], "hop": [], "mlp": []}
    for student, tests in (("hop", OURS), ("mlp", THEIRS)):
        for seed, test in enumerate(tests):
            result = evaluation(test, seed, student)
            del result["seed"], result["graph_digest"]  # as an older g2t wrote them
            inputs = {"graph": "sha256:graph", "student": f"sha256:{student}"}
            place = out / f"seed-{seed}" / f"evaluation-{student}"
            with Stage(place, "evaluation", {}, inputs, 0) as stage:
                write_json(stage.path / "evaluation.json", result)
                stage.commit({})
            rows[student].append(result)
    rows["teacher"] = rows["mlp"]
    write_json(out / "run.json", tabulate(rows, list(range(5)), "cpf"))
    return out


def test_a_difference_by_hand(tmp_path: Path) -> None:
    printed = g2t("compare", *sides(tmp_path), "--json")
    assert printed.exit_code == 0, printed.stderr
    found = json.loads(printed.stdout)
    assert found["schema"] == "g2t.comparison/1"
    assert (found["a"]["model"], found["b"]["model"]) == ("hop", "mlp")
    assert found["seeds"] == [0, 1, 2, 3, 4]
    assert [split["name"] for split in found["splits"]] == [f"cpf:{seed}" for seed in range(5)]
    assert list(found["parts"]) == ["val", "test"]
    test = found["parts"]["test"]
    assert (test["a"]["values"], test["b"]["values"]) == (list(OURS), list(THEIRS))
    assert test["a"]["std"] == pytest.approx(statistics.stdev(OURS))
    gap, error = test["difference"], 0.00005**0.5
    assert (gap["n"], gap["mean"]) == (5, pytest.approx(0.03))
    assert gap["standard_error"] == pytest.approx(error)
    assert (gap["low"], gap["high"]) == pytest.approx(
        (0.03 - T_4 * error, 0.03 + T_4 * error), abs=1e-6
    )
    assert gap["clear"]
    # The mean of resamples is discrete: 0.018 and 0.042 are its ends, 0.002 apart from the next.
    ends = gap["bootstrap"]
    assert (ends["low"], ends["high"]) == pytest.approx((0.018, 0.042), abs=0.0021)
    assert gap["signs"] == {"above": 5, "equal": 0, "below": 0}
    # Validation scores are all alike: a difference without a spread has no interval.
    val = found["parts"]["val"]["difference"]
    assert (val["mean"], val["standard_error"], val["low"]) == (0.0, 0.0, None)
    assert val["bootstrap"] == {"low": None, "high": None}
    assert val["signs"] == {"above": 0, "equal": 5, "below": 0}


def test_a_and_b_change_sides_with_the_sign(tmp_path: Path) -> None:
    ours, theirs = sides(tmp_path)
    one, two = (
        json.loads(g2t("compare", *pair, "--json").stdout)["parts"]["test"]["difference"]
        for pair in ((ours, theirs), (theirs, ours))
    )
    assert two["mean"] == pytest.approx(-one["mean"])
    assert (two["low"], two["high"]) == pytest.approx((-one["high"], -one["low"]))
    assert two["signs"] == {"above": 0, "equal": 0, "below": 5}


def test_a_run_its_evaluations_and_their_files_say_the_same(tmp_path: Path) -> None:
    out = run(tmp_path)
    ways = {
        "rows": (f"{out}:hop", f"{out}:mlp"),
        "patterns": (f"{out}/seed-*/evaluation-hop", f"{out}/seed-*/evaluation-mlp"),
        "files": sides(tmp_path),
    }
    found = {name: json.loads(g2t("compare", *way, "--json").stdout) for name, way in ways.items()}
    assert found["rows"]["parts"] == found["files"]["parts"]
    assert found["rows"]["seeds"] == [0, 1, 2, 3, 4]
    # Evaluations of an older g2t tell no seed: their splits do.
    assert found["patterns"]["parts"] == found["files"]["parts"]
    assert found["patterns"]["seeds"] == [None] * 5
    assert found["rows"]["a"] == {"given": f"{out}:hop", "model": "hop"}


def test_the_teacher_is_a_row_too(tmp_path: Path) -> None:
    out = run(tmp_path)
    pattern = f"{out}/seed-*/evaluation-hop"
    for teacher in (f"{out}:teacher", f"{pattern}:teacher"):
        found = json.loads(g2t("compare", pattern, teacher, "--json").stdout)
        assert found["b"]["model"] == "gcn"
        assert found["parts"]["test"]["b"]["values"] == list(TEACHER)
        assert found["parts"]["test"]["difference"]["signs"] == {
            "above": 3, "equal": 1, "below": 1,
        }  # fmt: skip


def test_production_is_compared_part_by_part(tmp_path: Path) -> None:
    split = {"name": "cpf:0", "digest": "sha256:0", "setting": "production", "seed": 0}

    def side(name: str, tran: float, ind: float) -> str:
        test = 0.8 * tran + 0.2 * ind
        found = evaluation(test, split=split)
        found["student"]["settings"] = {"tran": tran, "ind": ind, "prod": test}
        return files(tmp_path, name, [found])

    words = (side("a", 0.9, 0.5), side("b", 0.8, 0.7))
    parts = json.loads(g2t("compare", *words, "--json").stdout)["parts"]
    means = {part: found["difference"]["mean"] for part, found in parts.items()}
    assert means == pytest.approx({"val": 0.0, "tran": 0.1, "ind": -0.2, "test": 0.04})
    assert parts["test"]["difference"]["standard_error"] is None  # one pair


def changed(seed: int = 0, **other: Any) -> dict[str, Any]:
    return evaluation(0.5, seed, **other)


OTHER_SPLIT = {"name": "cpf:7", "digest": "sha256:7"}
PRODUCTION = {"name": "cpf:0", "digest": "sha256:0", "setting": "production"}


@pytest.mark.parametrize(
    ("ours", "theirs", "code", "said"),
    [
        ([changed()], [changed(graph_digest="sha256:other")], 4, "differ in their graph"),
        ([changed()], [changed(metric="f1")], 4, "differ in their metric: accuracy, f1"),
        ([changed()], [changed(split=PRODUCTION)], 4, "transductive, production"),
        ([changed()], [changed(split=OTHER_SPLIT)], 4, "seed 0, split cpf:7 (7)"),
        ([changed(), changed(1)], [changed()], 3, "B has no partner of"),
        ([changed()], [changed(), changed(1)], 3, "A has no partner of"),
        ([changed()], [changed(1)], 3, "B has no partner of"),
        ([changed(), changed()], [changed()], 3, "have the same seed 0, split cpf:0"),
        ([changed(), changed(1, name="mlp")], [changed()], 4, "is of a hop,"),
        ([changed()], [evaluation(None)], 3, "has no test score of hop"),
        ([changed()], [changed(graph_digest=None)], 3, "does not tell the digest of its graph"),
        ([changed()], [changed(schema="g2t.card/1")], 3, "neither an evaluation nor"),
        ([changed()], [evaluation(1.5)], 4, "is damaged: student.test"),
        ([changed()], [changed(task=3)], 4, "is damaged: task"),
        ([changed()], [changed(split=None)], 4, "is damaged: split"),
        ([changed()], [changed(student=None, teacher=None)], 2, "has no scores of 'student'"),
    ],
)
def test_what_is_no_pair_is_refused(
    tmp_path: Path,
    ours: list[dict[str, Any]],
    theirs: list[dict[str, Any]],
    code: int,
    said: str,
) -> None:
    refused = g2t("compare", files(tmp_path, "a", ours), files(tmp_path, "b", theirs))
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert said in refused.stderr
    assert refused.stderr.startswith("error: ")
    assert "unexpected" not in refused.stderr


def test_without_a_seed_one_split_is_ambiguous(tmp_path: Path) -> None:
    public = {"name": "public", "digest": "sha256:public"}
    old = [evaluation(test, None, split=public) for test in OURS[:2]]
    refused = g2t("compare", files(tmp_path, "a", old), files(tmp_path, "b", old))
    assert refused.exit_code == 3
    assert "have the same split public" in refused.stderr
    new = [evaluation(test, seed, split=public) for seed, test in enumerate(OURS[:2])]
    assert g2t("compare", files(tmp_path, "a", new), files(tmp_path, "b", new)).exit_code == 0


def test_places_that_hold_nothing_to_compare(tmp_path: Path) -> None:
    out, good = run(tmp_path), files(tmp_path, "a", [evaluation(0.5)])
    (tmp_path / "bad.json").write_text('{"schema": "g2t.evaluation/1", "seed": NaN}')
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo")
    cases = {
        str(tmp_path / "none"): (3, "there is nothing at"),
        f"{tmp_path}/none-*": (3, "there is nothing at"),
        ",".join([str(tmp_path / "none")] * 200): (3, "there is nothing at"),
        "": (3, "there is nothing at"),
        f"{good},,": (3, "there is nothing at ''"),
        "\x00": (3, "there is nothing at"),
        str(tmp_path / "empty"): (3, "neither an evaluation nor"),
        str(tmp_path / "fifo"): (3, "neither an evaluation nor"),
        str(tmp_path / "bad.json"): (4, "is damaged"),
        str(out): (2, "say which row"),
        f"{out}:hup": (2, "it has no row 'hup'"),
        f"{good}:mlp": (2, "has no scores of 'mlp'"),
    }
    for given, (code, said) in cases.items():
        refused = g2t("compare", given, good)
        assert (refused.exit_code, refused.stdout) == (code, ""), (given, refused.stderr)
        assert said in refused.stderr, given
    assert "did you mean hop?" in g2t("compare", f"{out}:hup", good).stderr


def test_a_table_that_its_evaluations_contradict(tmp_path: Path) -> None:
    out = run(tmp_path)
    table = json.loads((out / "run.json").read_text())
    for change in ("digest", "value", "length"):
        told = json.loads(json.dumps(table))
        if change == "digest":
            told["split"]["digests"][3] = "sha256:other"
        elif change == "value":
            told["rows"][1]["values"][3] = 0.99
        else:
            told["seeds"].pop()
        write_json(out / "run.json", told)
        refused = g2t("compare", f"{out}:hop", f"{out}:mlp")
        assert refused.exit_code == 4, change
        assert "run.json" in refused.stderr
    write_json(out / "run.json", table)
    kept = out / "seed-2" / "evaluation-hop" / "evaluation.json"
    kept.write_text(kept.read_text().replace("0.93", "0.99"))
    assert g2t("compare", f"{out}:hop", f"{out}:mlp").exit_code == 4


def test_a_bound_is_kept_or_named(tmp_path: Path) -> None:
    words = ("compare", *sides(tmp_path))
    for least in ("0.0299", "-0.5"):
        assert g2t(*words, "--min-difference", least).exit_code == 0
    failed = g2t(*words, "--min-difference", "0.0301", "--json")
    assert failed.exit_code == 6
    assert json.loads(failed.stdout)["parts"]["test"]["difference"]["n"] == 5
    assert "A minus B is +0.030000" in failed.stderr
    assert "not 0.0301 or more" in failed.stderr
    for wrong in ("nan", "inf", "x", "1.1"):
        assert g2t(*words, "--min-difference", wrong).exit_code == 2


def test_the_table_is_in_percent(tmp_path: Path) -> None:
    ours, theirs = sides(tmp_path)
    printed = g2t("compare", ours, theirs).stdout
    assert "+3.00 ± 0.71" in printed
    assert "+1.04 … +4.96" in printed
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    assert ["A above", "0", "5"] in rows
    assert ["A equal", "5", "0"] in rows
    assert "seed 4, cpf:4" in printed
    single = g2t("compare", ours.split(",")[0], theirs.split(",")[-1]).stdout
    assert "+2.00 " in single
    assert "±" not in single.replace("± s.e.", "")


def test_a_terminal_and_a_closed_pipe(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "g2t_cli", "compare", *sides(tmp_path)]
    leader, follower = pty.openpty()
    narrow = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(words, stdout=follower, stderr=follower, env=narrow) as process:
        os.close(follower)
        seen = b""
        try:
            while block := os.read(leader, 4096):
                seen += block
        except OSError:  # how Linux ends what a terminal reads
            pass
    os.close(leader)
    assert process.returncode == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", seen.decode()).splitlines()
    assert 50 < max(map(len, lines)) <= 80
    assert any("+3.00 ± 0.71" in line for line in lines)
    shell = f"{shlex.join(words)} | head -c 20"
    piped = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)
    assert piped.stderr == ""
