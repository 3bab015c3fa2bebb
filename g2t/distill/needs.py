"""What a training run needs of a cache, whether it is there, and the command that adds it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from g2t.cache.format import FEATURES, SIGNALS, tensors_of, token_name
from g2t.cache.reader import Cache
from g2t.distill.settings import DistillSettings, needs_by_loss, signals_for, signals_of
from g2t.errors import UsageError

#: What can only be written with a hidden layer, and what only the teacher itself can tell.
FROM_LAYERS = frozenset({"layers", "pre_layers", "edge_scores", "codes"})
FROM_TEACHER = frozenset({"layers", "pre_layers", "logits", "reliability"})

#: Who asks for what no loss does.
OTHERS = {"layers": "the start of the landmarks", "logits": "model.memory"}


def needs_of(settings: DistillSettings[Any, Any, Any], cache: Cache) -> frozenset[str]:
    """Return what the losses need, layers to place landmarks by, and logits to remember.

    Raises UsageError where a loss needs hidden layers and the teacher has none, or where the cache
    lacks something, with the command that adds it.
    """
    by_loss = needs_by_loss(settings.losses())
    asked = frozenset[str]().union(*by_loss.values())
    started = signals_of(settings)
    if not cache.manifest.teacher.layers:
        if not asked.isdisjoint(FROM_LAYERS):
            raise UsageError(
                "these losses need hidden layers of the teacher, and it has none",
                "teach with more model.layers, or choose other losses",
            )
        started -= {"layers"}  # landmarks start at random
    missing = [signal for signal in SIGNALS if signal in asked | started and _lacks(cache, signal)]
    if missing:
        raise _not_there(cache, by_loss, missing)
    return asked | started


def _lacks(cache: Cache, signal: str) -> bool:
    names = tensors_of(signal, cache.manifest.teacher.layers)
    return any(cache.manifest.tensor(name) is None for name in names)


def _not_there(
    cache: Cache, by_loss: Mapping[str, frozenset[str]], missing: Sequence[str]
) -> UsageError:
    """Name what is missing and who asks for it."""
    said, added = [], []
    for signal in missing:
        losses = [name for name, needs in by_loss.items() if signal in needs]
        asking = ", ".join(losses) or OTHERS[signal]
        said.append(f"{signal.replace('_', ' ')} (for {asking})")
        # The name of a loss stands for what it needs as it comes.
        names = [name for name in losses if signal in signals_for([name])]
        added += [name for name in names or [signal] if name not in added]
    command = f"g2t cache add {shlex.quote(str(cache.artifact.path))} --for {','.join(added)}"
    derived = not FROM_LAYERS.isdisjoint(missing)
    if not FROM_TEACHER.isdisjoint(missing) or (derived and _lacks(cache, "layers")):
        command += " --teacher TEACHER --graph GRAPH"
    return UsageError(
        f"cache {cache.artifact.path} lacks {' and '.join(said)}", f"add it with: {command}"
    )


def tensors_read(cache: Cache, needs: frozenset[str], hops: int) -> dict[str, str]:
    """Return the digest of every cache tensor that training reads, by name."""
    names = ["graph", FEATURES]
    if hops and cache.manifest.hops >= hops:
        names += [token_name(hop) for hop in range(1, hops + 1)]
    if hops and cache.projection is not None:
        names += ["projection", token_name(0)]
    for signal in SIGNALS:
        if signal in needs:
            names += tensors_of(signal, cache.manifest.teacher.layers)
    return {f"cache/{name}": cache.manifest.digest_of(name) for name in names}
