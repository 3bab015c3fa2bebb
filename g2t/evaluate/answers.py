"""What models say of the nodes that they are asked about, and how good that is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from g2t.graph.bundle import Graph
from g2t.graph.csr import take_rows
from g2t.graph.splits import HELD_SHARE, Split
from g2t.graph.structure import induced
from g2t.metrics import agreement, defined, score
from g2t.student.base import Inputs, Student, answers
from g2t.task import mean_logits

if TYPE_CHECKING:
    from g2t.teacher.store import Teacher


@dataclass(frozen=True)
class Answers:
    """What a model says of the nodes in use, [N, C], and of the held-out ones, [U, C].

    `held_UC` is None where there are none, or where nobody could ask the model.
    """

    seen_NC: Tensor
    held_UC: Tensor | None = None


class Asked:
    """A student beside a graph, ready to be asked with any number of hops.

    `tokens` are those of a cache; they stop at the observed graph, so those of held-out nodes come
    from the whole one.
    """

    def __init__(self, student: Student, graph: Graph, split: Split, tokens: Tensor | None) -> None:
        self.student, self.split = student, split
        self.seen = _inputs(student, graph, split, tokens)
        self.unseen = _inputs(student, graph, split.whole, None) if len(split.held) else None

    def answers(self, *hops: int | None) -> list[Answers]:
        """Return what it says with each of some numbers of hops at hand, None: all it knows."""
        seen = _asked(self.student, self.seen, hops)
        if self.unseen is None:
            return [Answers(seen_NC) for seen_NC in seen]
        rows_U = _held_rows(self.split)
        unseen = _asked(self.student, self.unseen, hops)
        return [Answers(a_NC, b_NC[rows_U]) for a_NC, b_NC in zip(seen, unseen, strict=True)]


def _asked(student: Student, inputs: Inputs, hops: Sequence[int | None]) -> list[Tensor]:
    return answers(student, inputs, torch.arange(len(inputs.features)), hops)


def _inputs(student: Student, graph: Graph, split: Split, tokens: Tensor | None) -> Inputs:
    """Return what a student may know of the nodes in use of a split."""
    features = student.read(take_rows(graph.features, split.nodes))
    return student.prepare(features, induced(graph.edges, split.nodes), tokens)


def _held_rows(split: Split) -> Tensor:
    """Return where the held-out nodes stand among all nodes of the split."""
    return torch.searchsorted(split.whole.nodes, split.held)


def answers_of(
    teachers: "Sequence[Teacher]", graph: Graph, split: Split, changed: bool = False
) -> Answers:
    """Return what the mean of teachers says, by a pass of each over the graph.

    Nodes in use are answered from the observed graph, held-out ones from the whole. Raises
    IntegrityError unless the graph is theirs, or `changed`, so that it cannot be.
    """
    seen_NC = _mean_trace(teachers, graph, split, changed)
    if not len(split.held):
        return Answers(seen_NC)
    every_NC = _mean_trace(teachers, graph, split.whole, changed)
    return Answers(seen_NC, every_NC[_held_rows(split)])


def _mean_trace(teachers: "Sequence[Teacher]", graph: Graph, split: Split, changed: bool) -> Tensor:
    from g2t.teacher.forward import trace, trace_any

    run = trace_any if changed else trace
    asked = [replace(teacher, split=split) for teacher in teachers]
    return mean_logits(graph.task, [run(teacher, graph).logits_NC for teacher in asked])


def scores_in(graph: Graph, split: Split, answers: Answers) -> dict[str, Any]:
    """Score validation and test nodes; in production `settings` says what `test` is made of."""

    def scored(logits_BC: Tensor, nodes_B: Tensor) -> float | None:
        return defined(score(graph.metric, logits_BC, graph.labels[nodes_B]))

    def seen(nodes_B: Tensor) -> float | None:
        return scored(answers.seen_NC[torch.searchsorted(split.nodes, nodes_B)], nodes_B)

    scores: dict[str, Any] = {"val": seen(split.parts.val), "test": seen(split.parts.test)}
    if split.setting == "transductive":
        return scores
    tran = scores["test"]
    ind = None if answers.held_UC is None else scored(answers.held_UC, split.held)
    prod = None
    if tran is not None and ind is not None:
        prod = (1 - HELD_SHARE) * tran + HELD_SHARE * ind
    return {**scores, "test": prod, "settings": {"tran": tran, "ind": ind, "prod": prod}}


def agreement_of(graph: Graph, split: Split, own: Answers, teacher: Answers) -> float | None:
    """Return how often both decide alike: on test nodes, held-out ones if both know them."""
    test = torch.searchsorted(split.nodes, split.parts.test)
    mine, theirs = [own.seen_NC[test]], [teacher.seen_NC[test]]
    if own.held_UC is not None and teacher.held_UC is not None:
        mine.append(own.held_UC)
        theirs.append(teacher.held_UC)
    return defined(agreement(graph.task, torch.cat(mine), torch.cat(theirs)))
