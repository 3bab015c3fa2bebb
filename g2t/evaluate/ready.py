"""Models as they are served: asked about a few nodes, they fetch what they read and answer.

Features and edges lie ready in the machine's memory as a model reads them (normalised, scaled);
what a call fetches goes to the device. Nodes are named by their places among those in use.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from g2t.artifact import Artifact
from g2t.evaluate.case import Case
from g2t.graph.bundle import Graph
from g2t.graph.csr import take_rows
from g2t.graph.splits import Split
from g2t.graph.structure import induced
from g2t.network import WEIGHTS
from g2t.serve.near import Surroundings
from g2t.student.base import Inputs, Student, answers
from g2t.student.hop import Hop
from g2t.student.landmark import Landmark
from g2t.student.settled import Settled

if TYPE_CHECKING:
    from g2t.teacher.store import Teacher


@dataclass(frozen=True)
class Served:
    """A model ready to be asked: `ask` takes places [B], returns logits [B, C] and nodes read.

    `facts` say who it is and what it reads; `size` how large it is.
    """

    ask: Callable[[Tensor], tuple[Tensor, int]]
    facts: dict[str, Any]
    size: dict[str, int]


def served(case: Case, device: torch.device) -> list[Served]:
    """Return the student, with no and with all hops where it has hops, and every teacher twice.

    The student that gives the test score stands first. In production all nodes are in use.
    """
    graph, split = case.setup.graph, case.split.whole
    models = _students(case, graph, split, device)
    for number, teacher in enumerate(case.setup.speakers, 1):
        models += _teachers(teacher, number, graph, split, device)
    return models


def _students(case: Case, graph: Graph, split: Split, device: torch.device) -> list[Served]:
    student, known = case.student.model, case.student
    facts = {"role": "student", "name": known.name, "member": None, "fanouts": None}
    size = _size(known.artifact, student)
    if isinstance(student, Hop):
        hops = Hops(student, graph, split, device)
        return [
            Served(hops.asked(count), {**facts, "fetch": fetch, "hops": count}, size)
            for fetch, count in (("full", student.hops), ("none", 0))
        ]
    return [
        Served(alone(student, graph, split, device), {**facts, "fetch": "none", "hops": None}, size)
    ]


def alone(
    student: Student, graph: Graph, split: Split, device: torch.device
) -> Callable[[Tensor], tuple[Tensor, int]]:
    """Return how a student is asked that reads a node's own features and nothing else."""
    inputs = student.prepare(
        student.read(take_rows(graph.features, split.nodes)),
        induced(graph.edges, split.nodes),
        None,
    )
    model = copy.deepcopy(student).to(device).eval()
    fast = Settled(model) if isinstance(model, Landmark) else None
    if fast is not None and model.memory is None:

        def ask(place_B: Tensor) -> tuple[Tensor, int]:
            return fast(take_rows(inputs.features, place_B).to(device))[0], len(place_B)

        return ask

    @torch.inference_mode()
    def ask_whole(place_B: Tensor) -> tuple[Tensor, int]:
        fetched = Inputs(take_rows(inputs.features, place_B).to(device))
        every_B = torch.arange(len(place_B), device=device)
        if fast is None:
            return answers(model, fetched, every_B, (None,))[0], len(place_B)
        said_BC, _ = fast(fetched.features)
        return model.recall(said_BC, fetched, every_B, None), len(place_B)

    return ask_whole


class Hops:
    """A student of hops that reads the neighbourhood when it is asked, as `g2t predict` does."""

    def __init__(self, student: Hop, graph: Graph, split: Split, device: torch.device) -> None:
        self.student, self.device = student, device
        self.model = copy.deepcopy(student).to(device).eval()
        features = student.read(take_rows(graph.features, split.nodes))
        self.surroundings = Surroundings(features, induced(graph.edges, split.nodes))

    def asked(self, hops: int) -> Callable[[Tensor], tuple[Tensor, int]]:
        """Return how it is asked with some hops at hand."""
        return lambda place_B: self.ask(place_B, hops)

    @torch.inference_mode()
    def ask(self, place_B: Tensor, hops: int) -> tuple[Tensor, int]:
        """Return logits [B, C] of distinct nodes with some hops at hand, and the nodes read."""
        near = self.surroundings.near(place_B, hops)
        inputs = near.inputs(self.student).to(self.device)
        said = answers(self.model, inputs, torch.arange(near.count), (hops,))
        return said[0], len(near.features)


def _teachers(
    teacher: "Teacher", number: int, graph: Graph, split: Split, device: torch.device
) -> list[Served]:
    from g2t.teacher.fetch import Drawn, Fetch, Full, service
    from g2t.teacher.settings import FANOUT

    scaling, reach = teacher.facts["features"]["scaling"], teacher.model.reach
    ready = service(copy.deepcopy(teacher.model), graph, split, scaling, device)
    fanouts = [FANOUT] * reach
    facts = {"role": "teacher", "name": teacher.name, "member": number, "hops": reach}
    size = _size(teacher.artifact, teacher.model)

    def asked(fetch: Fetch) -> Callable[[Tensor], tuple[Tensor, int]]:
        return lambda place_B: ready.ask(fetch, place_B)

    return [
        Served(
            asked(Full(ready.structure, reach)), {**facts, "fetch": "full", "fanouts": None}, size
        ),
        Served(
            asked(Drawn(ready.structure, fanouts, 0)),
            {**facts, "fetch": "drawn", "fanouts": fanouts},
            size,
        ),
    ]


def _size(artifact: Artifact, model: torch.nn.Module) -> dict[str, int]:
    """Return the number of parameters, and the bytes of the weights on disk."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "bytes": (artifact.path / WEIGHTS).stat().st_size}
