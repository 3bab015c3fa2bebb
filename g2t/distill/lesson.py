"""What a training run starts from: the student, what it is shown, and what it is asked."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from g2t.cache.format import SIGNALS, tensors_of, token_name
from g2t.cache.reader import Cache
from g2t.config import look_up
from g2t.distill.losses.base import Sizes
from g2t.distill.objective import Objective
from g2t.distill.second import second_logits
from g2t.distill.settings import DistillSettings
from g2t.distill.signals import Signals, count_codes, open_signals
from g2t.distill.start import landmark_centres
from g2t.graph.csr import Csr, Features
from g2t.graph.structure import project_dense, propagation
from g2t.ranks import ALONE, Ranks
from g2t.student import STUDENTS
from g2t.student.base import Inputs, Student, input_dropout
from g2t.student.block import start_landmarks
from g2t.student.store import SCHEMA, TrainedStudent, build


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


def prepare(
    cache: Cache,
    settings: DistillSettings[Any, Any, Any],
    needs: frozenset[str],
    second: TrainedStudent | None,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Lesson:
    """Open the cache and build everything with fresh weights, on a device; alike on all ranks."""
    # Hop tokens of projected features are stored, so their reader sees features projected too.
    basis = cache.projection if getattr(settings.model, "hops", 0) else None
    features = cache.features() if basis is None else cache.whole(token_name(0))
    edges = cache.edges
    facts = _facts(cache, settings, features, needs)
    facts["second"] = None if second is None else second.identity
    if basis is not None:
        facts["features"]["projected_from"] = len(basis)
    student = build(facts)
    student.basis = basis
    tokens = cache.tokens(student.hops)
    if tokens is None and student.hops and isinstance(features, Tensor):
        tokens = project_dense(features, propagation(edges), student.hops)  # once, for both below
    student.fit(features, edges, tokens)
    inputs = student.prepare(features, edges, tokens).to(device)
    if "layers" in needs and hasattr(settings.model, "landmarks"):
        layers = [cache.open(name) for name in tensors_of("layers", cache.manifest.teacher.layers)]
        count = len(student.blocks), settings.model.landmarks
        centres = landmark_centres(layers, *count, settings.seed)
        start_landmarks(student.blocks, centres)
    student = student.to(device)
    sizes = _sizes(cache, needs, student, inputs)
    objective = Objective(settings.losses(), sizes, ranks).to(device)
    ranks.follow_first([student, objective])
    second_NC = None if second is None else second_logits(second, cache, device)
    wanted = objective.needs, objective.edge_needs
    shares = second_NC, settings.second_share
    signals = open_signals(cache, *wanted, settings.train, *shares, ranks)
    return Lesson(facts, student, copy.deepcopy(student), objective, inputs, signals)


def _sizes(cache: Cache, needs: frozenset[str], student: Student, inputs: Inputs) -> Sizes:
    held = [signal for signal in ("layers", "pre_layers") if signal in needs]  # of the same widths
    names = tensors_of(held[0], cache.manifest.teacher.layers) if held else []
    codes = count_codes(cache) if "codes" in needs else ()
    widths = tuple(cache.entry(name).width for name in names)
    own = _block_widths(student, inputs)
    return Sizes(own, widths, codes, cache.manifest.task, student.hops)


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
    taught = not needs.isdisjoint(SIGNALS)
    read: dict[str, Any] = {"kind": kind, "width": features.shape[1]}
    if manifest.feature_names is not None:
        read["names"] = list(manifest.feature_names)
    return {
        "schema": SCHEMA,
        "student": settings.student,
        "model": {**settings.model.model_dump(mode="json"), "input_dropout": rate},
        "features": read,
        "classes": list(manifest.classes),
        "task": manifest.task,
        "metric": manifest.metric,
        "losses": {name: loss.model_dump() for name, loss in settings.losses().items()},
        "graph": manifest.graph.model_dump(),
        "split": manifest.split.model_dump(),
        "teacher": manifest.teacher.model_dump() if taught else None,
    }
