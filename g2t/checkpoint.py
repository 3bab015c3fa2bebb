"""Checkpoints of a training loop: all that it needs to go on bit for bit, without pickle.

One safetensors file holds every tensor (weights, optimiser, random state) and, in its header, the
numbers. It is replaced atomically, so a kill during the writing leaves the one before.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from g2t.artifact import sync
from g2t.errors import IntegrityError, Stopped, TrainingError
from g2t.runtime import StopSignal
from g2t.tensors import load_facts, load_tensors, save_tensors

NAME = "checkpoint.safetensors"


class Checkpoint:
    """The state of one training loop on disk, in OUT.partial.

    `modules` are the networks whose weights (and optimiser moments) change; `keep` holds further
    tensors by name, such as the best weights so far. `load` puts both back and returns the numbers.
    """

    def __init__(
        self,
        folder: Path,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        every_seconds: float,
    ) -> None:
        self.path = folder / NAME
        self.modules = modules
        self.optimizer = optimizer
        self.every_seconds = every_seconds
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Restore the modules, the optimiser and the random state; None if there is none yet."""
        try:
            state, tensors = load_facts(self.path), load_tensors(self.path)
        except IntegrityError:
            return None  # none written yet, or one that no kill of ours leaves: begin again
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
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        return state["numbers"], _below(tensors, "keep.")

    def save(self, numbers: Mapping[str, Any], keep: Mapping[str, Tensor]) -> None:
        """Write the state, replacing the one before."""
        optimizer = self.optimizer.state_dict()["state"]
        tensors = {"random": torch.get_rng_state()}
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        for name, module in self.modules.items():
            tensors |= {f"module.{name}.{key}": value for key, value in module.state_dict().items()}
        for index, moments in optimizer.items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
        tensors |= {f"keep.{key}": value for key, value in keep.items()}
        state = {"numbers": dict(numbers), "moments": {i: list(m) for i, m in optimizer.items()}}
        save_state(self.path, tensors, state)
        self._last = time.monotonic()

    def after_epoch(
        self, stop: StopSignal, numbers: Mapping[str, Any], keep: Mapping[str, Tensor]
    ) -> None:
        """Save when it is time to, and leave by `Stopped` when a signal asked for it."""
        if stop or time.monotonic() - self._last >= self.every_seconds:
            self.save(numbers, keep)
        if stop:
            raise Stopped(
                f"stopped by {stop.name} after a checkpoint", "run the same command to go on"
            )

    def discard(self) -> None:
        """Remove the checkpoint: the training is over."""
        self.path.unlink(missing_ok=True)


def save_state(path: Path, tensors: Mapping[str, Tensor], facts: Any) -> None:
    """Write tensors and facts in place of what was there; a kill leaves the one or the other."""
    temporary = path.with_name(path.name + ".tmp")
    save_tensors(temporary, tensors, facts)
    sync(temporary)
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
