"""What a report says: rows, labels, joined evaluations, and figures computed by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from g2t.errors import InputError, IntegrityError
from g2t.report.content import content_of
from g2t.report.find import find
from g2t.report.gather import gather
from g2t.report.page import page_of
from g2t.runtime import Silent
from made import evaluation, keep, scores, timed, worsened


def content(*runs: Path) -> dict[str, Any]:
    found = find(runs)
    return content_of(gather(found), found, None, False, Silent())


def rows_of(cell: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["label"]: row for row in cell["headline"]["rows"]}


def test_the_headline_is_the_table_of_the_run(small: Path) -> None:
    (cell,) = content(small / "run")["cells"]
    table = json.loads((small / "run/run.json").read_text())
    assert cell["seeds"] == table["seeds"] == [0, 1]
    mine = rows_of(cell)
    assert list(mine) == ["teacher", "mlp", "hop"]
    for row in table["rows"]:
        assert mine[row["name"]]["test"]["values"] == row["values"]
        assert mine[row["name"]]["test"]["mean"] == pytest.approx(row["mean"])
        if row["name"] != "teacher":
            minus = mine[row["name"]]["minus_teacher"]
            assert minus["mean"] == pytest.approx(row["minus_teacher"]["mean"])
            assert minus["standard_error"] == pytest.approx(row["minus_teacher"]["standard_error"])
    (hops,) = cell["hops"]
    table_hops = table["rows"][-1]["by_hops"]
    assert [point["mean"] for point in hops["test"]] == [
        pytest.approx(table_hops[str(k)]["mean"]) for k in (0, 1, 2)
    ]
    card = {row["label"]: row for row in cell["card"]["rows"] if row["hops"] is None}
    ours, theirs = card["hop"]["inheritance"], table["rows"][-1]["card"]
    for measure, share in ours.items():
        assert share["mean"] == theirs[measure]["inheritance"]["mean"] or share["n"] < 2


def test_curves_are_means_over_seeds_of_every_logged_term(small: Path) -> None:
    (cell,) = content(small / "run")["cells"]
    assert list(cell["curves"])[-1] == "val"
    assert {"soft", "hard", "lsp", "gram", "align"} < set(cell["curves"])
    line = next(line for line in cell["curves"]["soft"] if line["label"] == "hop")
    logs = [
        (small / f"run/seed-{seed}/student-hop/metrics.jsonl").read_text().splitlines()
        for seed in (0, 1)
    ]
    last = [json.loads(log[-1])["loss.soft"] for log in logs]
    assert line["epochs"] == [0, 1, 2]
    assert line["mean"][-1] == pytest.approx(sum(last) / 2, rel=1e-4)
    assert (line["low"][-1], line["high"][-1]) == pytest.approx((min(last), max(last)), rel=1e-4)


def test_evaluations_of_one_student_are_joined_by_its_digest(small: Path) -> None:
    (alone,) = content(small / "run")["cells"]
    assert {"degree", "homophily"} <= alone["absent"].keys()
    assert "--breakdown" in alone["absent"]["degree"]
    (joined,) = content(small / "run", small / "later")["cells"]
    assert joined["degree"] is not None
    assert joined["headline"] == alone["headline"]
    assert [line["label"] for line in joined["degree"]["lines"]] == ["teacher", "mlp", "hop"]
    kept = json.loads((small / "later/seed-0/evaluation-hop/evaluation.json").read_text())
    bins = [(part["low"], part["high"]) for part in kept["breakdown"]["degree"] if part["nodes"]]
    assert [(ends["low"], ends["high"]) for ends in joined["degree"]["bins"]] == bins


def test_one_evaluation_finds_its_student_beside_it_and_no_other(small: Path) -> None:
    (cell,) = content(small / "run/seed-1/evaluation-mlp")["cells"]
    assert list(rows_of(cell)) == ["teacher", "mlp"]
    assert cell["seeds"] == [1]
    assert [line["label"] for line in cell["curves"]["val"]] == ["mlp"]


def test_a_student_without_evaluation_has_its_validation_score_alone(
    small: Path, tmp_path: Path
) -> None:
    shutil.copytree(small / "run/seed-0/student-mlp", tmp_path / "0001/student")
    shutil.copytree(small / "run/seed-0/student-hop", tmp_path / "0002/student")
    (cell,) = content(tmp_path)["cells"]
    rows = rows_of(cell)
    assert list(rows) == ["mlp", "hop"]
    record = json.loads((tmp_path / "0001/student/run.json").read_text())
    assert rows["mlp"]["val"]["values"] == [record["summary"]["val"]]
    assert rows["mlp"]["test"]["mean"] is None
    assert rows["hop"]["reads"] == "0 to 2 hops"


def test_names_are_as_long_as_it_takes_to_tell_rows_apart(tmp_path: Path) -> None:
    for run in ("a", "b"):
        for seed in (0, 1):
            made = evaluation(seed, scores("mlp", 0.5 + seed / 10), 0.4)
            keep(tmp_path / run / f"seed-{seed}/evaluation-mlp", made, f"{run}{seed}")
    (one,) = content(tmp_path / "a")["cells"]
    assert list(rows_of(one)) == ["teacher", "mlp"]
    (both,) = content(tmp_path / "a", tmp_path / "b")["cells"]
    assert list(rows_of(both)) == ["teacher", "a/mlp", "b/mlp"]


def test_differences_are_paired_with_the_teacher_of_the_same_seed(tmp_path: Path) -> None:
    for seed, (mine, taught) in enumerate([(0.8, 0.7), (0.6, 0.3), (0.7, 0.5)]):
        made = evaluation(seed, scores("mlp", mine), taught)
        keep(tmp_path / f"seed-{seed}/evaluation-mlp", made, str(seed))
    (cell,) = content(tmp_path)["cells"]
    rows = rows_of(cell)
    minus = rows["mlp"]["minus_teacher"]
    assert minus["mean"] == pytest.approx(0.2)
    assert minus["standard_error"] == pytest.approx(0.1 / 3**0.5)
    # Student's t of 2 degrees of freedom at 95 %: 4.3027.
    assert minus["low"] == pytest.approx(0.2 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert rows["teacher"]["test"]["mean"] == pytest.approx(0.5)
    assert rows["teacher"]["kind"] == "2 × gcn"


def test_the_student_of_the_lead_is_chosen_on_validation(tmp_path: Path) -> None:
    better, worse = scores("mlp", 0.6), scores("landmark", 0.9)
    better["val"] = 0.8
    keep(tmp_path / "evaluation-mlp", evaluation(0, better, 0.5), "1")
    keep(tmp_path / "evaluation-landmark", evaluation(0, worse, 0.5), "2")
    assert content(tmp_path)["cells"][0]["headline"]["chosen"] == "mlp"


def test_latency_is_that_of_one_node_and_several_teachers_take_the_sum(tmp_path: Path) -> None:
    made = evaluation(0, scores("hop", 0.8, [0.6, 0.8]), 0.7)
    keep(tmp_path / "evaluation-hop", made, "1", timed(0.5, [3.0, 4.0], hops=1))
    keep(tmp_path / "evaluation-mlp", evaluation(0, scores("mlp", 0.7), 0.7), "2", timed(0.1, [9]))
    (cell,) = content(tmp_path)["cells"]
    points = {(p["label"], p["hops"]): (p["p50_ms"], p["score"]) for p in cell["latency"]}
    assert points == {
        ("teacher", None): (7.0, 0.7),  # beside the first student; others timed it again
        ("hop", None): (0.5, 0.8),
        ("hop", 0): (0.25, 0.6),
        ("mlp", None): (0.1, 0.7),
    }
    teacher = cell["latency"][0]
    assert teacher["nodes_per_second"] == pytest.approx(100 / 0.007)
    assert (teacher["parameters"], teacher["bytes"]) == (20, 80)


def test_new_times_make_a_new_report(tmp_path: Path) -> None:
    from g2t.report.gather import inputs_of

    made = evaluation(0, scores("mlp", 0.8), 0.7)
    for which, ms in (("a", 1.0), ("b", 2.0)):
        keep(tmp_path / which / "evaluation-mlp", made, "1", timed(ms, []))
    once, again = (inputs_of(gather(find([tmp_path / which]))) for which in ("a", "b"))
    assert {role for role in once if once[role] != again[role]} == {"0/mlp/seed-0/latency"}


def test_robustness_is_the_mean_of_the_means_over_seeds(tmp_path: Path) -> None:
    for seed, last in ((0, 0.4), (1, 0.6)):
        block = worsened([0.8, 0.7, last], [0.9, 0.5, 0.1])
        made = evaluation(seed, scores("mlp", 0.8), 0.9, robust=block)
        keep(tmp_path / f"seed-{seed}/evaluation-mlp", made, str(seed))
    (cell,) = content(tmp_path)["cells"]
    assert list(cell["robust"]) == ["removed"]
    mlp, teacher = cell["robust"]["removed"]
    assert (mlp["label"], teacher["label"]) == ("mlp", "teacher")
    assert mlp["shares"] == [0.0, 0.5, 1.0]
    assert [score["mean"] for score in mlp["scores"]] == pytest.approx([0.8, 0.7, 0.5])
    assert mlp["scores"][2]["std"] == pytest.approx(0.2 / 2**0.5)
    (one,) = content(tmp_path / "seed-0")["cells"]
    assert one["robust"]["removed"][0]["scores"][2]["std"] == 0.01  # of its draws


def test_evaluations_that_differ_are_told_of(tmp_path: Path) -> None:
    keep(tmp_path / "a/evaluation-mlp", evaluation(0, scores("mlp", 0.8), 0.7), "1")
    keep(tmp_path / "b/evaluation-mlp", evaluation(0, scores("mlp", 0.9), 0.7), "1")
    (cell,) = content(tmp_path / "b", tmp_path / "a")["cells"]
    assert rows_of(cell)["mlp"]["test"]["mean"] == 0.9
    assert "differ" in cell["notes"][0]


def test_teachers_alone_have_their_row(tmp_path: Path) -> None:
    for seed in (0, 1):
        made = evaluation(seed, None, 0.6 + seed / 10)
        keep(tmp_path / f"seed-{seed}/evaluation-teacher", made, None)
    (cell,) = content(tmp_path)["cells"]
    assert list(rows_of(cell)) == ["teacher"]
    assert rows_of(cell)["teacher"]["test"]["values"] == [0.6, 0.7]
    assert cell["headline"]["chosen"] is None
    assert page_of({"g2t": "0", "cells": [cell], "lineage": []}).count("<tr") == 1 + 1 + 1


def test_students_of_two_teachers_are_held_against_their_own(tmp_path: Path) -> None:
    for name, mine, taught in (("a", 0.8, 0.7), ("b", 0.8, 0.9)):
        made = evaluation(0, scores("mlp", mine), taught)
        keep(tmp_path / f"evaluation-{name}", made, name, teacher=name)
    (cell,) = content(tmp_path)["cells"]
    rows = rows_of(cell)
    assert list(rows) == ["teacher of a", "teacher of b", "a", "b"]
    assert [rows[name]["minus_teacher"]["mean"] for name in "ab"] == pytest.approx([0.1, -0.1])


def test_graphs_and_settings_do_not_share_a_table(tmp_path: Path) -> None:
    held = evaluation(0, scores("mlp", 0.8), 0.7)
    held["split"]["setting"] = "production"
    for part in ("student", "teacher"):
        held[part]["settings"] = {"tran": 0.8, "ind": 0.6, "prod": 0.76}
    keep(tmp_path / "a/evaluation-mlp", evaluation(0, scores("mlp", 0.8), 0.7), "1")
    keep(tmp_path / "b/evaluation-mlp", held, "2")
    cells = content(tmp_path)["cells"]
    assert [cell["setting"] for cell in cells] == ["transductive", "production"]
    assert rows_of(cells[1])["mlp"]["settings"]["ind"]["mean"] == 0.6


def test_what_is_no_run_is_refused_with_a_reason(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        find([tmp_path / "nothing"])
    with pytest.raises(InputError, match="no evaluation and no student"):
        find([tmp_path])
    with pytest.raises(InputError, match="is a graph"):
        find([small / "run/graph"])
    copy = tmp_path / "run"
    shutil.copytree(small / "run", copy)
    shutil.rmtree(copy / "seed-1/evaluation-hop")
    with pytest.raises(InputError, match="though its table has it"):
        find([copy])
    (copy / "seed-0/evaluation-hop/evaluation.json").write_text("{}")
    with pytest.raises(IntegrityError):
        find([copy / "seed-0/evaluation-hop"])
    log = copy / "seed-0/student-mlp/metrics.jsonl"
    log.write_text("no json\n")
    with pytest.raises(IntegrityError, match="is damaged"):
        content(copy / "seed-0/evaluation-mlp")
