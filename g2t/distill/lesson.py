"""What a training run starts from: the student, what it is shown, and what it is asked."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from g2t.cache.reader import Cache
from g2t.config import look_up
from g2t.distill.losses import LOSSES
from g2t.distill.objective import Objective
from g2t.distill.settings import DistillSettings
from g2t.distill.signals import Signals, read_signals
from g2t.distill.start import landmark_centres
from g2t.errors import UsageError
from g2t.graph.csr import Csr, Features
from g2t.graph.structure import project_dense, propagation
from g2t.student import STUDENTS
from g2t.student.base import Inputs, Student, input_dropout
from g2t.student.block import start_landmarks
from g2t.student.store import SCHEMA, build


@dataclass(frozen=True)
class Lesson:
    """The moving parts of a training run; `averaged` follows the student's weights."""

    facts: dict[str, Any]
    student: Student
    averaged: Student
    objective: Objective
    inputs: Inputs
    signals: Signals

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All networks whose state changes."""
        return {"student": self.student, "averaged": self.averaged, "objective": self.objective}


def needs_of(settings: DistillSettings[Any, Any, Any], cache: Cache) -> frozenset[str]:
    """Return what the losses need and, to place the landmarks of a taught student, the layers.

    Raises UsageError where a loss needs hidden layers and the teacher has none.
    """
    needs = frozenset[str]().union(
        *(look_up(LOSSES, name, "loss").needs for name in settings.losses())
    )
    if "layers" in needs and not cache.manifest.teacher.layers:
        raise UsageError(
            "these losses need hidden layers of the teacher, and it has none",
            "teach with more model.layers, or choose other losses",
        )
    taught = not needs.isdisjoint({"logits", "layers"})
    if taught and hasattr(settings.model, "landmarks") and cache.manifest.teacher.layers:
        return needs | {"layers"}
    return needs


def prepare(
    cache: Cache,
    settings: DistillSettings[Any, Any, Any],
    needs: frozenset[str],
    device: torch.device,
) -> Lesson:
    """Read the cache and build everything with fresh weights, on a device."""
    signals = read_signals(cache, needs)
    features, edges = cache.features(), cache.edges
    facts = _facts(cache, settings, features, needs)
    student = build(facts)
    tokens = cache.tokens(student.hops)
    if tokens is None and student.hops and isinstance(features, Tensor):
        tokens = project_dense(features, propagation(edges), student.hops)  # once, for both below
    student.fit(features, edges, tokens)
    inputs = student.prepare(features, edges, tokens).to(device)
    if signals.layers and hasattr(settings.model, "landmarks"):
        count = len(student.blocks), settings.model.landmarks
        start_landmarks(student.blocks, landmark_centres(signals.layers, *count, settings.seed))
    student = student.to(device)
    widths = tuple(layer.shape[1] for layer in signals.layers)
    objective = Objective(settings.losses(), _block_widths(student, inputs), widths).to(device)
    return Lesson(facts, student, copy.deepcopy(student), objective, inputs, signals)


def _block_widths(student: Student, inputs: Inputs) -> tuple[int, ...]:
    student.eval()
    with torch.no_grad():
        first = torch.zeros(1, dtype=torch.int64, device=next(student.parameters()).device)
        output = student(student.embed(inputs, first))
    return tuple(block.shape[1] for block in output.blocks)


def _facts(
    cache: Cache,
    settings: DistillSettings[Any, Any, Any],
    features: Features,
    needs: frozenset[str],
) -> dict[str, Any]:
    """Return what `model.json` says: enough to rebuild the student and to check its lineage."""
    manifest = cache.manifest
    kind = "csr" if isinstance(features, Csr) else "dense"
    student = look_up(STUDENTS, settings.student, "student")
    rate = input_dropout(settings.model.input_dropout, student.WORD_DROPOUT, features)
    taught = not needs.isdisjoint({"logits", "layers"})
    return {
        "schema": SCHEMA,
        "student": settings.student,
        "model": {**settings.model.model_dump(mode="json"), "input_dropout": rate},
        "features": {"kind": kind, "width": features.shape[1]},
        "classes": list(manifest.classes),
        "task": manifest.task,
        "metric": manifest.metric,
        "losses": {name: loss.model_dump() for name, loss in settings.losses().items()},
        "graph": manifest.graph.model_dump(),
        "split": manifest.split.model_dump(),
        "teacher": manifest.teacher.model_dump() if taught else None,
    }
