"""The card of an evaluation: embeddings of its student and teacher, and who else stands beside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from g2t.errors import IntegrityError, UsageError
from g2t.evaluate.answers import Asked
from g2t.evaluate.card.card import Ends, measure_ends
from g2t.evaluate.card.draws import make_scene
from g2t.evaluate.case import Case, Setup
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import take_rows
from g2t.graph.splits import Split
from g2t.graph.structure import induced
from g2t.student.base import CHUNK, Output
from g2t.student.store import read_student

if TYPE_CHECKING:
    from g2t.teacher.store import Teacher


@dataclass(frozen=True)
class CardSources:
    """What a card takes beside its evaluation.

    `baseline` is a student of the same graph and split to stand beside, such as one without a
    teacher. `structure` is a graph of the same nodes whose edges are measured instead, and
    `ceiling` a teacher of that graph: so a student of a rewired graph is held against the true one.
    """

    baseline: Path | None = None
    structure: Path | None = None
    ceiling: Path | None = None


class Cards:
    """Cards of students that share graph, cache and teachers; floor and ceiling are measured once.

    Raises UsageError without a teacher, IntegrityError where something belongs to other nodes,
    edges or another split.
    """

    def __init__(self, setup: Setup, sources: CardSources | None = None) -> None:
        from g2t.teacher.forward import check_graph_of
        from g2t.teacher.store import read_teacher

        sources = sources or CardSources()
        if not setup.teachers:
            raise UsageError("the card's ceiling is a teacher's last layer", "add --teacher DIR")
        if (sources.structure is None) != (sources.ceiling is None):
            raise UsageError(
                "the edges of another graph need a teacher that learned from them",
                "give --structure-of GRAPH and --ceiling TEACHER together",
            )
        self.setup, self.sources = setup, sources
        self.structure, self.ceiling = setup.graph, setup.teachers[0]
        if sources.structure is not None and sources.ceiling is not None:
            self.structure = read_graph(sources.structure)
            self.ceiling = read_teacher(sources.ceiling)
            fingerprint = self.structure.fingerprints()["graph"]
            _check_nodes(setup.graph, self.structure, sources.structure)
            check_graph_of(self.ceiling, self.structure.name, fingerprint)
        self._ends: dict[str, tuple[Ends, Tensor]] = {}

    def inputs(self, case: Case) -> dict[str, str]:
        """Return the digests of all that a card depends on beside the evaluation."""
        known = {
            "ceiling": self.ceiling.artifact.digest,
            "structure": self.structure.fingerprints()["graph"],
        }
        baseline = self._baseline(case)
        return known if baseline is None else known | {"baseline": baseline.inputs["student"]}

    def card(self, case: Case) -> dict[str, Any]:
        """Return the card as `g2t.card/1`: floor, ceiling, and a row per student.

        A student of hops has a row with all of them, one with none, and one of its hop tokens side
        by side (`tokens`): what the sum that makes one embedding of them has at hand.
        """
        if case.split.digest not in self._ends:
            self._ends[case.split.digest] = self._measure(case.split)
        ends, nodes_B = self._ends[case.split.digest]
        rows, baseline = _rows(ends, case, nodes_B, "student"), self._baseline(case)
        if baseline is not None:
            rows += _rows(ends, baseline, nodes_B, "baseline")
        last = len(ends.layers)
        named = f"{self.ceiling.name}, layer {last} of {last}"
        return {**ends.facts, "graph": self.structure.name, "teacher": named, "students": rows}

    def _measure(self, split: Split) -> tuple[Ends, Tensor]:
        """Return floor and ceiling on the nodes that both splits use, and these."""
        nodes_B = split.nodes[torch.isin(split.nodes, self.ceiling.split.nodes)]
        graph = self.structure
        scene = make_scene(induced(graph.edges, nodes_B), graph.labels[nodes_B])
        layers = _layers(self.ceiling, graph, nodes_B)
        return measure_ends(scene, take_rows(graph.features, nodes_B), layers), nodes_B

    def _baseline(self, case: Case) -> Case | None:
        if self.sources.baseline is None:
            return None
        student = read_student(self.sources.baseline)
        split = self.setup.split_of(student)
        if split.digest != case.split.digest:
            raise IntegrityError(
                f"student {self.sources.baseline} has split {split.name}, student "
                f"{case.student.artifact.path} has split {case.split.name}",
                "give a baseline of the same split and seed",
            )
        return Case(student, split, self.setup)


def _check_nodes(graph: Graph, structure: Graph, where: Path) -> None:
    ours, theirs = graph.fingerprints(), structure.fingerprints()
    for part in ("features", "labels", "ids"):
        if ours[part] != theirs[part]:
            raise IntegrityError(
                f"graph {where} has other {part} than {graph.name}: only edges may differ",
                "give the graph that this one was made from",
            )


def _layers(teacher: "Teacher", graph: Graph, nodes_B: Tensor) -> list[Tensor]:
    """Return every layer of a teacher for some nodes; the logits of a linear one."""
    from g2t.teacher.forward import trace

    known = trace(teacher, graph)
    place_B = torch.searchsorted(teacher.split.nodes, nodes_B)
    return [layer[place_B] for layer in known.layers or (known.logits_NC,)]


def _rows(ends: Ends, case: Case, nodes_B: Tensor, role: str) -> list[dict[str, Any]]:
    student = case.student.model
    asked = Asked(student, case.setup.graph, case.split, case.setup.tokens(student.hops))
    place_B = torch.searchsorted(case.split.nodes, nodes_B)

    def row(role: str, hops: int | None, blocks: list[Tensor]) -> dict[str, Any]:
        measured = ends.row(case.student.name, [block[place_B] for block in blocks])
        return {"role": role, "hops": hops, **measured}

    rows = [row(role, None, embeddings(asked))]
    if student.hops:
        rows.append(row(role, 0, embeddings(asked, 0)))
    if student.hops and role == "student":
        rows.append(row("tokens", None, tokens(asked)))
    return rows


def embeddings(asked: Asked, hops: int | None = None) -> list[Tensor]:
    """Return every block's embedding of the nodes in use, [N, D] each; `hops` None: all."""
    return _each_block(asked, hops, lambda output: output.blocks)


def tokens(asked: Asked) -> list[Tensor]:
    """Return the hop tokens 0 … K that every block leaves, side by side, [N, (K + 1) D] each."""
    count = asked.student.hops + 1
    return _each_block(
        asked, None, lambda output: [state[:, :count].flatten(1) for state in output.states]
    )


@torch.inference_mode()
def _each_block(
    asked: Asked, hops: int | None, part: Callable[[Output], Sequence[Tensor]]
) -> list[Tensor]:
    student, inputs = asked.student.eval(), asked.seen
    chunks = []
    for index_B in torch.split(torch.arange(len(inputs.features)), CHUNK):
        hops_B = None if hops is None else torch.full_like(index_B, hops)
        chunks.append(part(student(student.embed(inputs, index_B), hops_B)))
    return [torch.cat(parts) for parts in zip(*chunks, strict=True)]
