"""Checkpoints of a training loop: all that it needs to go on bit for bit, without pickle.

One safetensors file holds every tensor (weights, optimiser, random state) and, in its header, the
numbers as JSON. It gets its name when it is whole, and the one before stays beside it.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from g2t.artifact import sync
from g2t.errors import IntegrityError, Stopped, TrainingError
from g2t.ranks import ALONE, Ranks
from g2t.runtime import StopSignal
from g2t.tensors import load_facts, load_tensors, save_tensors

#: The newest checkpoint, and the one before.
NAMES = ("checkpoint.safetensors", "checkpoint-before.safetensors")

T = TypeVar("T")


class Checkpoint:
    """The state of one training loop on disk, in the scratch folder of OUT.partial.

    `modules` are the networks whose weights (and optimiser moments) change; `keep` holds further
    tensors by name, such as the best weights so far. `load` puts both back and returns the numbers.
    Of several ranks the first one writes, and all of them load what it finds.
    """

    def __init__(
        self,
        folder: Path,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        every_seconds: float,
        ranks: Ranks = ALONE,
    ) -> None:
        self.path, self.before = (folder / name for name in NAMES)
        self.modules = modules
        self.optimizer = optimizer
        self.every_seconds = every_seconds
        self.ranks = ranks
        self._last = time.monotonic()
        #: Random state where the batches of the epoch began.
        self._begun = torch.get_rng_state()

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Restore the modules, the optimiser and the random state; None if there is none yet."""
        newest = self.ranks.from_first(self._newest)
        if newest is None:
            return None
        path = self.path.with_name(newest)
        state, tensors = load_facts(path), load_tensors(path)
        for name, module in self.modules.items():
            module.load_state_dict(_below(tensors, f"module.{name}."))
        moments = _below(tensors, "optimizer.")
        self.optimizer.load_state_dict(
            {
                "state": {
                    int(index): {key: moments[f"{index}.{key}"] for key in keys}
                    for index, keys in state["moments"].items()
                },
                "param_groups": self.optimizer.state_dict()["param_groups"],
            }
        )
        torch.set_rng_state(tensors["random"])
        self._begun = tensors["random.begun"]
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        return json.loads(state["numbers"]), _below(tensors, "keep.")

    def _newest(self) -> str | None:
        """Return the name of the newest checkpoint that is whole."""
        for path in (self.path, self.before):
            try:
                load_facts(path)
                load_tensors(path)
            except IntegrityError:
                continue  # none written yet, or one that no kill of ours leaves: the one before
            return path.name
        return None

    def save(self, numbers: Mapping[str, Any], keep: Mapping[str, Tensor]) -> None:
        """Write the state beside the one before, which is kept, and forget the one before that."""
        optimizer = self.optimizer.state_dict()["state"]
        tensors = {"random": torch.get_rng_state(), "random.begun": self._begun}
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        for name, module in self.modules.items():
            tensors |= {f"module.{name}.{key}": value for key, value in module.state_dict().items()}
        for index, moments in optimizer.items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
        tensors |= {f"keep.{key}": value for key, value in keep.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        said = json.dumps(numbers)  # as text: a log of them keeps their order
        state = {"numbers": said, "moments": {i: list(m) for i, m in optimizer.items()}}
        save_state(self.path, tensors, state, self.before)
        self._last = time.monotonic()

    def going_on(self, batches: Iterator[T], done: int) -> Iterator[T]:
        """Return the batches of an epoch of which `done` are over, drawn as in an unbroken run."""
        now = torch.get_rng_state()
        if done:
            torch.set_rng_state(self._begun)
            for _ in range(done):
                next(batches)
            torch.set_rng_state(now)
        else:
            self._begun = now
        return batches

    def after_step(
        self,
        stop: StopSignal,
        asked: bool,
        numbers: Mapping[str, Any],
        keep: Mapping[str, Tensor],
    ) -> None:
        """Save when it is time to; leave by `Stopped` where any rank was asked to stop."""
        if self.ranks.first and (asked or time.monotonic() - self._last >= self.every_seconds):
            self.save(numbers, keep)
        if asked:
            self.ranks.wait()  # for the file: who leaves early may end the first rank too
            reason = stop.name or "a signal to another rank"
            raise Stopped(
                f"stopped by {reason} after a checkpoint", "run the same command to go on"
            )


def save_state(
    path: Path, tensors: Mapping[str, Tensor], facts: Any, before: Path | None = None
) -> None:
    """Write tensors and facts in place of what was there; a kill leaves the one or the other.

    What was there becomes `before`.
    """
    temporary = path.with_name(path.name + ".tmp")
    save_tensors(temporary, tensors, facts)
    sync(temporary)
    if before is not None and path.exists():
        path.replace(before)
    temporary.replace(path)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def check_finite(loss: Tensor, epoch: int) -> None:
    """Raise TrainingError if a loss is not finite."""
    if not math.isfinite(loss.item()):
        raise TrainingError(
            f"the loss is {loss.item()} in epoch {epoch}",
            "lower train.lr, and look for extreme feature values with: g2t data inspect",
        )
