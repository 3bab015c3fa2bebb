"""A student that teaches too: its answers on the nodes of the cache, beside the teacher's.

A `hop` student often knows more than its teacher, and can be a target for one that reads no edges.
"""

from pathlib import Path

import torch
from torch import Tensor

from g2t.cache.format import token_name
from g2t.cache.reader import Cache
from g2t.errors import IntegrityError
from g2t.student.base import predict
from g2t.student.store import TrainedStudent, read_student


def open_second(path: Path, cache: Cache) -> TrainedStudent:
    """Open a student; raises IntegrityError unless it learned from this graph on this split."""
    second, manifest = read_student(path), cache.manifest
    known = {
        "graph": (second.facts["graph"]["digest"], manifest.graph.digest),
        "split": (second.facts["split"]["digest"], manifest.split.digest),
    }
    for what, (theirs, ours) in known.items():
        if theirs != ours:
            raise IntegrityError(
                f"student {path} learned from {what} {theirs[:19]}…, the cache "
                f"{cache.artifact.path} holds {what} {ours[:19]}…",
                "give a student that was distilled from a cache of the same graph and split",
            )
    return second


def second_logits(second: TrainedStudent, cache: Cache, device: torch.device) -> Tensor:
    """Return what the student says of all rows with all hops at hand, [N, C]."""
    student = second.model
    alike = _same(student.basis, cache.projection)
    stored = alike and student.basis is not None
    features = cache.whole(token_name(0)) if stored else student.read(cache.features())
    tokens = cache.tokens(student.hops) if alike else None  # of other columns, it makes its own
    inputs = student.prepare(features, cache.edges, tokens)
    return predict(student.to(device), inputs.to(device)).cpu()


def _same(basis: Tensor | None, projection: Tensor | None) -> bool:
    """Tell whether a student reads what the hop tokens of a cache were made of."""
    if basis is None or projection is None:
        return basis is projection
    return torch.equal(basis, projection)
