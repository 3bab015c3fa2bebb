"""The card of an evaluation: embeddings of its student and teacher, and who else stands beside."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from g2t.errors import IntegrityError, UsageError
from g2t.evaluate.answers import Asked
from g2t.evaluate.card.card import Ends, measure_ends
from g2t.evaluate.card.draws import make_scene
from g2t.evaluate.case import Case, Sources, open_case
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import take_rows
from g2t.graph.structure import induced

if TYPE_CHECKING:
    from g2t.teacher.store import Teacher

#: Rows that a student reads at a time.
CHUNK = 65_536


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


@dataclass(frozen=True)
class CardCase:
    """Everything of one card, opened and found to belong together."""

    case: Case
    baseline: Case | None
    structure: Graph
    ceiling: "Teacher"

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of all that the card depends on beside the evaluation."""
        known = {"ceiling": self.ceiling.artifact.digest}
        known["structure"] = self.structure.fingerprints()["graph"]
        if self.baseline is not None:
            known["baseline"] = self.baseline.student.artifact.digest
        return known


def open_card(case: Case, sources: CardSources, graph: Path) -> CardCase:
    """Open what a card takes.

    Raises UsageError without a teacher, IntegrityError where something belongs to other nodes,
    edges or another split.
    """
    from g2t.teacher.forward import check_graph_of
    from g2t.teacher.store import read_teacher

    if not case.teachers:
        raise UsageError("the card's ceiling is the teacher's last layer", "add --teacher TEACHER")
    if (sources.structure is None) != (sources.ceiling is None):
        raise UsageError(
            "the edges of another graph need a teacher that learned from them",
            "give --structure-of GRAPH and --ceiling TEACHER together",
        )
    structure, ceiling = case.graph, case.teachers[0]
    if sources.structure is not None and sources.ceiling is not None:
        structure, ceiling = read_graph(sources.structure), read_teacher(sources.ceiling)
        _check_nodes(case.graph, structure, sources.structure)
        check_graph_of(ceiling, structure.name, structure.fingerprints()["graph"])
    baseline = None
    if sources.baseline is not None:
        baseline = open_case(Sources(sources.baseline, graph))
        if baseline.split.digest != case.split.digest:
            raise IntegrityError(
                f"student {sources.baseline} has split {baseline.split.name}, student "
                f"{case.student.artifact.path} has split {case.split.name}",
                "give a baseline of the same split and seed",
            )
    return CardCase(case, baseline, structure, ceiling)


def _check_nodes(graph: Graph, structure: Graph, where: Path) -> None:
    ours, theirs = graph.fingerprints(), structure.fingerprints()
    for part in ("features", "labels", "ids"):
        if ours[part] != theirs[part]:
            raise IntegrityError(
                f"graph {where} has other {part} than {graph.name}: only edges may differ",
                "give the graph that this one was made from",
            )


def card_of(opened: CardCase) -> dict[str, Any]:
    """Return the card as `g2t.card/1`: floor, ceiling, and a row per student.

    A student of hops has a row with all of them and one with none.
    """
    case, structure = opened.case, opened.structure
    nodes_B = _common(case.split.nodes, opened.ceiling.split.nodes)
    scene = make_scene(induced(structure.edges, nodes_B), structure.labels[nodes_B])
    layers, named = _layers(opened.ceiling, structure, nodes_B)
    ends = measure_ends(scene, take_rows(structure.features, nodes_B), layers)
    rows = _rows(ends, case, nodes_B, "student")
    if opened.baseline is not None:
        rows += _rows(ends, opened.baseline, nodes_B, "baseline")
    return {**ends.facts, "graph": structure.name, "teacher": named, "students": rows}


def _common(one: Tensor, other: Tensor) -> Tensor:
    return one[torch.isin(one, other)]


def _layers(teacher: "Teacher", graph: Graph, nodes_B: Tensor) -> tuple[list[Tensor], str]:
    """Return every layer of a teacher for some nodes, and what the last one is called."""
    from g2t.teacher.forward import trace

    known = trace(teacher, graph)
    place_B = torch.searchsorted(teacher.split.nodes, nodes_B)
    if not known.layers:  # a linear teacher
        return [known.logits_NC[place_B]], f"{teacher.name}, logits"
    layers = [layer[place_B] for layer in known.layers]
    return layers, f"{teacher.name}, layer {len(layers)} of {len(layers)}"


def _rows(ends: Ends, case: Case, nodes_B: Tensor, role: str) -> list[dict[str, Any]]:
    student = case.student.model
    tokens = None if case.cache is None else case.cache.tokens(student.hops)
    asked = Asked(student, case.graph, case.split, tokens)
    place_B = torch.searchsorted(case.split.nodes, nodes_B)
    rows = []
    for hops in (None, 0) if student.hops else (None,):
        blocks = [block[place_B] for block in embeddings(asked, hops)]
        rows.append({"role": role, "hops": hops, **ends.row(case.student.name, blocks)})
    return rows


@torch.inference_mode()
def embeddings(asked: Asked, hops: int | None = None) -> list[Tensor]:
    """Return every block's embedding of the nodes in use, [N, D] each; `hops` None: all."""
    student, inputs = asked.student.eval(), asked.seen
    chunks = []
    for index_B in torch.split(torch.arange(len(inputs.features)), CHUNK):
        hops_B = None if hops is None else torch.full_like(index_B, hops)
        chunks.append(student(student.embed(inputs, index_B), hops_B).blocks)
    return [torch.cat(parts) for parts in zip(*chunks, strict=True)]
