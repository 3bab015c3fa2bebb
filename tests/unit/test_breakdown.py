"""Breakdowns of a graph that fits on paper, every figure by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from g2t.evaluate.answers import Answers
from g2t.evaluate.breakdown import breakdown_of, degree_bins, local_homophily, per_class
from g2t.graph.bundle import Graph, Parts
from g2t.graph.csr import from_pairs
from g2t.graph.splits import Split

# A star 0 - {1, 2, 3}, a pair 4 - 5, and six nodes alone; the label of 3 is unknown.
ENDS = torch.tensor([[0, 1], [0, 2], [0, 3], [4, 5]])
LABELS = torch.tensor([0, 0, 1, -1, 1, 1, 0, 0, 0, 0, 0])
TRAIN, VAL, TEST = torch.tensor([5]), torch.tensor([7, 8, 9, 10]), torch.tensor([0, 1, 2, 3, 4, 6])
SPLIT = Split("public", torch.arange(11), Parts(TRAIN, VAL, TEST))
#: What is said of nodes 0 … 10, each with 0.9. Of the validation nodes, three are right.
STUDENT = (0, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1)
TEACHER = (1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1)


def graph(**other: Any) -> Graph:
    source, target = torch.cat([ENDS, ENDS.flip(1)]).T
    edges = from_pairs(source, target, 11)
    known = Graph("paper", torch.ones(11, 1), edges, LABELS, ("x", "y"), "accuracy", False)
    return replace(known, **other)


def said(choices: tuple[int, ...]) -> Tensor:
    return math.log(9) * torch.nn.functional.one_hot(torch.tensor(choices), 2).double()


def figures(groups: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    keys = ("low", "high", "nodes", "student", "teacher", "agreement")
    return [tuple(group[key] for key in keys) for group in groups]


def test_degree_and_homophily() -> None:
    found = breakdown_of(graph(), SPLIT, Answers(said(STUDENT)), Answers(said(TEACHER)))
    assert found["nodes"] == 5  # node 3 has no label
    # Degrees 0 (five times), 1 (five times), 3: the quartiles end at 0, 1, 1, 3.
    third = pytest.approx(1 / 3)
    assert figures(found["degree"]) == [
        (0, 0, 1, 0.0, 1.0, 0.0),
        (1, 1, 3, pytest.approx(2 / 3), pytest.approx(2 / 3), third),
        (2, 3, 1, 1.0, 0.0, 0.0),
    ]
    # Node 2: none of one; 0: one of two, as the third tells no label; 1 and 4: all; 6 is alone.
    assert figures(found["homophily"]) == [
        (0.0, 0.25, 1, 1.0, 1.0, 1.0),
        (0.25, 0.5, 0, None, None, None),
        (0.5, 0.75, 1, 1.0, 0.0, 0.0),
        (0.75, 1.0, 2, 0.5, 0.5, 0.0),
        (None, None, 1, 0.0, 1.0, 0.0),
    ]
    assert found["seen"] is None


def test_classes() -> None:
    found = breakdown_of(graph(), SPLIT, Answers(said(STUDENT)), Answers(said(TEACHER)))["classes"]
    assert [(row["class"], row["nodes"]) for row in found] == [("x", 3), ("y", 2)]
    # The student says x of node 0 alone, y of 1, 2, 4 and 6; the teacher x of 1, 4, 6, y of 0, 2.
    assert found[0]["student"] == pytest.approx({"precision": 1, "recall": 1 / 3, "f1": 1 / 2})
    assert found[1]["student"] == pytest.approx({"precision": 1 / 2, "recall": 1, "f1": 2 / 3})
    assert found[0]["teacher"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3})
    assert found[1]["teacher"] == pytest.approx({"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2})


def test_calibration_takes_its_temperature_from_validation_alone() -> None:
    found = breakdown_of(graph(), SPLIT, Answers(said(STUDENT)), None)["calibration"]
    # 3 of 4 right: ln 9 / T = ln 3. On the 5 test nodes 3 are right, said with 0.9, then with 3/4.
    assert found["student"]["temperature"] == pytest.approx(2, rel=1e-5)
    assert found["student"]["before"] == pytest.approx(0.9 - 0.6, abs=1e-6)
    assert found["student"]["after"] == pytest.approx(0.75 - 0.6, abs=1e-5)
    assert found["teacher"] is None
    sure = Answers(said((0, 1, 1, 0, 1, 0, 1, 0, 0, 0, 0)))
    found = breakdown_of(graph(), SPLIT, sure, None)["calibration"]["student"]
    assert (found["temperature"], found["after"]) == (None, None)  # all are right
    assert found["before"] == pytest.approx(0.3, abs=1e-6)


def test_test_labels_do_not_move_the_temperature() -> None:
    labels = LABELS.clone()
    labels[TEST] = 1 - labels[TEST].clamp(min=0)
    answers = Answers(said(STUDENT))
    one, two = (
        breakdown_of(known, SPLIT, answers, None)["calibration"]["student"]
        for known in (graph(), graph(labels=labels))
    )
    assert one["temperature"] == two["temperature"]
    assert one["before"] != two["before"]


def test_held_out_nodes_are_counted_once_and_a_cache_does_not_know_them() -> None:
    nodes = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8, 9, 10])
    parts = Parts(TRAIN, VAL, torch.tensor([0, 1, 2, 3, 6]))
    split = Split("public", nodes, parts, torch.tensor([4]), 0)
    student = Answers(said(STUDENT)[nodes], said(STUDENT)[[4]])
    found = breakdown_of(graph(), split, student, Answers(said(TEACHER)[nodes]))
    seen, unseen = found["seen"]
    assert seen == {"seen": True, "nodes": 4, "student": 0.5, "teacher": 0.75, "agreement": 0.25}
    assert unseen == {
        "seen": False, "nodes": 1, "student": 1.0, "teacher": None, "agreement": None,
    }  # fmt: skip
    # Degree and homophily are those of the whole graph.
    whole = breakdown_of(graph(), SPLIT, Answers(said(STUDENT)), None)
    for part in ("degree", "homophily"):
        kept = [(g["low"], g["high"], g["nodes"], g["student"]) for g in found[part]]
        assert kept == [(g["low"], g["high"], g["nodes"], g["student"]) for g in whole[part]]
    assert [group["teacher"] for group in found["degree"]] == [1.0, None, 0.0]
    assert all(row["teacher"] is None for row in found["classes"])
    assert found["calibration"]["student"] == whole["calibration"]["student"]
    assert found["calibration"]["teacher"] is None


def test_a_score_that_a_group_does_not_define_is_none() -> None:
    known = breakdown_of(graph(metric="roc_auc"), SPLIT, None, Answers(said(TEACHER)))
    # Degree 1: node 1 is of x, 2 and 4 of y; 2 is above 1, and 4 ties with it.
    assert [group["teacher"] for group in known["degree"]] == [None, 0.75, None]
    assert all(group["student"] is None for group in known["degree"])


def test_no_labelled_test_node_leaves_no_figure() -> None:
    split = replace(SPLIT, parts=Parts(TRAIN, VAL, torch.tensor([3])))
    found = breakdown_of(graph(), split, Answers(said(STUDENT)), None)
    assert found["nodes"] == 0
    assert {group["student"] for group in found["degree"]} == {None}
    assert found["classes"][0]["student"] == {"precision": None, "recall": None, "f1": None}
    assert found["calibration"]["student"] is None


def test_several_labels_per_node() -> None:
    labels = torch.full((11, 2), -1, dtype=torch.int8)
    labels[:3] = torch.tensor([[1, 0], [1, -1], [0, 1]])
    labels[VAL] = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=torch.int8)
    logits = torch.full((11, 2), -1.0)
    logits[:3] = torch.tensor([[1.0, 1], [-1, 1], [1, 1]])
    several = graph(labels=labels, metric="f1")
    found = breakdown_of(several, SPLIT, Answers(logits), None)
    assert (found["nodes"], found["homophily"], found["calibration"]) == (3, None, None)
    # Known and said of x: nodes 0 and 2, of which 0 is right, and 1 is missed; of y: 0 wrong, 2.
    assert [row["nodes"] for row in found["classes"]] == [2, 1]
    half = {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert found["classes"][0]["student"] == half
    assert found["classes"][1]["student"] == pytest.approx({**half, "recall": 1, "f1": 2 / 3})
    # Degree 1 holds nodes 1 and 2: right x2.y, wrong 2.x, missed 1.x; the unknown 1.y counts not.
    assert [group["nodes"] for group in found["degree"]] == [0, 2, 1]
    assert found["degree"][1]["student"] == pytest.approx(2 / (2 + 1 + 1))


@pytest.mark.parametrize(
    ("degrees", "least", "most"),
    [
        ([8, 7, 6, 5, 4, 3, 2, 1], [1, 3, 5, 7], [2, 4, 6, 8]),
        ([1, 1, 1, 1, 9], [1, 2], [1, 9]),  # most stand at 1: the ends are 1, 1, 1, 9
        ([0], [0], [0]),
        ([2, 2, 2], [2], [2]),
    ],
    ids=str,
)
def test_degree_bins(degrees: list[int], least: list[int], most: list[int]) -> None:
    low, high = degree_bins(torch.tensor(degrees))
    assert (low.tolist(), high.tolist()) == (least, most)


def test_homophily_of_directed_edges_looks_at_in_neighbours() -> None:
    edges = from_pairs(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 1]), 3)  # 0, 2 -> 1; 1 -> 2
    share = local_homophily(edges, torch.tensor([0, 0, 1]))
    assert share.isnan().tolist() == [True, False, False]
    assert share[1:].tolist() == [0.5, 0.0]


def test_a_class_that_is_never_said_has_no_precision() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    found = per_class("multiclass", logits, torch.tensor([0, 1]))
    assert found[1] == {"precision": None, "recall": 0.0, "f1": 0.0}
    assert found[2] == {"precision": None, "recall": None, "f1": None}
