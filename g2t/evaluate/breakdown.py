"""Test scores taken apart: by degree, local homophily, seen or unseen, and class; calibration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from g2t.evaluate.answers import Answers
from g2t.export.calibrate import calibration_error, fit
from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr
from g2t.graph.splits import Split
from g2t.graph.structure import induced, without_self_loops
from g2t.metrics import agreement, defined, score
from g2t.task import Task, decide, labelled

SCHEMA = "g2t.breakdown/1"

#: Bins of the degree (by quartiles) and of the local homophily (of equal width).
BINS = 4


def breakdown_of(
    graph: Graph, split: Split, student: Answers | None, teacher: Answers | None
) -> dict[str, Any]:
    """Return the test scores of a student and its teacher by groups of nodes, `g2t.breakdown/1`.

    Groups are of all labelled test nodes, in production of the held-out ones too, each counted
    once. Degree and local homophily are those of the whole graph, whatever part of it a model saw;
    degree bins are cut at the quartiles of all nodes in use, so that seeds share them.

    A figure is None where there is no such model, where the metric is not defined in the group, or
    where a cache speaks for the teacher and does not know the nodes. `seen` is None outside
    production. For several labels per node `homophily` and `calibration` are None: both need one
    label per node.
    """
    tested = _tested(graph, split, {"student": student, "teacher": teacher})
    nodes_N, several = split.whole.nodes, graph.task == "multilabel"
    edges = without_self_loops(induced(graph.edges, nodes_N))
    place_T = torch.searchsorted(nodes_N, tested.nodes_T)
    return {
        "schema": SCHEMA,
        "nodes": len(place_T),
        "degree": _by_degree(tested, edges.counts_N, place_T),
        "homophily": None
        if several
        else _by_homophily(tested, local_homophily(edges, graph.labels[nodes_N])[place_T]),
        "seen": None if split.setting == "transductive" else _by_sight(tested),
        "classes": _by_class(tested),
        "calibration": None
        if several
        else {
            name: None if answers is None else _calibration(tested, split, name, answers)
            for name, answers in (("student", student), ("teacher", teacher))
        },
    }


@dataclass(frozen=True)
class Tested:
    """Labelled test nodes [T], the `seen` ones first, and what each model says of them.

    Logits are [T, C], of only the seen ones where nobody could ask of the others, None where there
    is no such model.
    """

    graph: Graph
    nodes_T: Tensor
    seen: int
    said: Mapping[str, Tensor | None]

    @property
    def every(self) -> Tensor:
        """The rows of all nodes."""
        return torch.arange(len(self.nodes_T))

    def labels(self, rows_B: Tensor) -> Tensor:
        """Return the labels of some rows, [B] or [B, C]."""
        return self.graph.labels[self.nodes_T[rows_B]]

    def logits(self, name: str, rows_B: Tensor) -> Tensor | None:
        """Return what a model says of some rows [B, C], None unless it knows all of them."""
        said = self.said[name]
        if said is None or (len(rows_B) and int(rows_B.max()) >= len(said)):
            return None
        return said[rows_B]

    def group(self, rows_B: Tensor) -> dict[str, Any]:
        """Return count, scores and agreement of a group of nodes."""
        labels, task, metric = self.labels(rows_B), self.graph.task, self.graph.metric
        logits = {name: self.logits(name, rows_B) for name in self.said}
        scores = {
            name: None if logits_BC is None else defined(score(metric, logits_BC, labels))
            for name, logits_BC in logits.items()
        }
        student_BC, teacher_BC = logits["student"], logits["teacher"]
        alike = None
        if student_BC is not None and teacher_BC is not None:
            alike = defined(agreement(task, student_BC, teacher_BC))
        return {"nodes": len(rows_B), **scores, "agreement": alike}


def _tested(graph: Graph, split: Split, models: Mapping[str, Answers | None]) -> Tested:
    test, held = split.parts.test, split.held
    test = test[labelled(graph.labels[test])]
    known_U = labelled(graph.labels[held])
    place = torch.searchsorted(split.nodes, test)

    def said(answers: Answers | None) -> Tensor | None:
        if answers is None:
            return None
        seen_SC = answers.seen_NC[place]
        if answers.held_UC is None:
            return seen_SC
        return torch.cat([seen_SC, answers.held_UC[known_U]])

    nodes_T = torch.cat([test, held[known_U]])
    return Tested(graph, nodes_T, len(test), {name: said(model) for name, model in models.items()})


def _by_degree(tested: Tested, degree_N: Tensor, place_T: Tensor) -> list[dict[str, Any]]:
    least, most = degree_bins(degree_N)
    bin_T = torch.searchsorted(most, degree_N[place_T])
    return [
        {"low": low, "high": high, **tested.group((bin_T == index).nonzero().flatten())}
        for index, (low, high) in enumerate(zip(least.tolist(), most.tolist(), strict=True))
    ]


def degree_bins(degree_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest degree of each bin, int64, at most four.

    The k-th bin ends at the ⌈k N / 4⌉-th smallest degree; equal ends make one bin.
    """
    ordered_N = degree_N.sort().values
    ends = [math.ceil(k * len(ordered_N) / BINS) - 1 for k in range(1, BINS + 1)]
    most = torch.unique(ordered_N[ends])
    return torch.cat([ordered_N[:1], most[:-1] + 1]), most


def local_homophily(edges: Csr, labels_N: Tensor) -> Tensor:
    """Return the share of a node's in-neighbours that have its label, float64 [N].

    Neighbours without a label do not count; nan where no neighbour, or not the node, has one.
    `edges` are without self-loops.
    """
    row_E, other_E = edges.row_E, labels_N[edges.column_E.long()]
    known_E = other_E >= 0
    rows, same = row_E[known_E], row_E[known_E & (other_E == labels_N[row_E])]
    share_N = same.bincount(minlength=len(edges)) / rows.bincount(minlength=len(edges)).double()
    return share_N.where(labels_N >= 0, math.nan)


def _by_homophily(tested: Tested, share_T: Tensor) -> list[dict[str, Any]]:
    """Return a group per bin [low, high), the last one with its end, and one of no neighbours."""
    bin_T = (share_T.nan_to_num(0) * BINS).long().clamp(max=BINS - 1)
    bin_T[share_T.isnan()] = BINS
    ends = [(k / BINS, (k + 1) / BINS) for k in range(BINS)]
    return [
        {"low": low, "high": high, **tested.group((bin_T == index).nonzero().flatten())}
        for index, (low, high) in enumerate([*ends, (None, None)])
    ]


def _by_sight(tested: Tested) -> list[dict[str, Any]]:
    every = tested.every
    return [
        {"seen": True, **tested.group(every[: tested.seen])},
        {"seen": False, **tested.group(every[tested.seen :])},
    ]


def _by_class(tested: Tested) -> list[dict[str, Any]]:
    """Return of each class how many nodes have it, and each model's precision, recall and F1."""
    every, graph = tested.every, tested.graph
    labels = tested.labels(every)
    figures: dict[str, list[Any]] = {}
    for name in tested.said:
        logits_TC = tested.logits(name, every)
        figures[name] = [None] * len(graph.classes)
        if logits_TC is not None:
            figures[name] = per_class(graph.task, logits_TC, labels)
    has = labels > 0 if labels.dim() == 2 else None
    counts = labels.bincount(minlength=len(graph.classes)) if has is None else has.sum(0)
    return [
        {"class": text, "nodes": int(counts[i]), **{name: figures[name][i] for name in figures}}
        for i, text in enumerate(graph.classes)
    ]


def per_class(task: Task, logits_TC: Tensor, labels: Tensor) -> list[dict[str, float | None]]:
    """Return precision, recall and F1 of every class, or of every label over its known entries.

    None where nothing is said to be of it (precision), nothing is (recall), or neither (F1).
    """
    said, classes = decide(task, logits_TC), logits_TC.shape[1]
    if labels.dim() == 2:
        yes = (labels >= 0) & (said > 0)
        both_C, said_C, true_C = ((yes & (labels > 0)).sum(0), yes.sum(0), (labels > 0).sum(0))
    else:
        right = labels[said == labels]
        counts = [part.bincount(minlength=classes) for part in (right, said, labels)]
        both_C, said_C, true_C = counts
    return [
        {
            "precision": _share(both, claimed),
            "recall": _share(both, true),
            "f1": _share(2 * both, claimed + true),
        }
        for both, claimed, true in torch.stack([both_C, said_C, true_C], 1).tolist()
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _calibration(
    tested: Tested, split: Split, name: str, answers: Answers
) -> dict[str, float | None] | None:
    """Return the calibration error on test nodes, before and after a temperature.

    `calibration_error` of logits z and of z / T: expected over 15 bins of confidence of equal width
    (Guo et al. 2017). T is fitted on validation nodes alone; where none is best, `after` is None.
    """
    every, val = tested.every, split.parts.val
    logits_TC = tested.logits(name, every)
    if logits_TC is None or not len(every):
        return None
    val_VC = answers.seen_NC[torch.searchsorted(split.nodes, val)]
    found, labels_T = fit(val_VC, tested.graph.labels[val]), tested.labels(every)
    after = None if found is None else calibration_error(logits_TC / found.value, labels_T)
    return {
        "temperature": None if found is None else found.value,
        "before": calibration_error(logits_TC, labels_T),
        "after": after,
    }
