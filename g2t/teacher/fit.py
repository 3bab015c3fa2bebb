"""The training loop of one network: the best epoch by validation is kept, never a test label."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from g2t.checkpoint import Checkpoint, check_finite
from g2t.metrics import Metric, score
from g2t.runtime import stop_on_signal
from g2t.stage import Stage
from g2t.task import Task, task_loss
from g2t.teacher.batch import Batches
from g2t.teacher.descent import Descent
from g2t.teacher.settings import TrainSettings


@dataclass(frozen=True)
class Fitted:
    """The best epoch's `epoch`, `val` and `val_loss`, the weights it had, and the epochs run."""

    best: dict[str, Any]
    weights: dict[str, Tensor]
    epochs: int

    def beats(self, other: "Fitted") -> bool:
        """Tell whether this is better by validation: the metric, then the loss."""
        return _is_better(self.best, other.best)


@dataclass(frozen=True)
class Fit:
    """One training run: what to train on what, and whom to tell.

    `folder` keeps the checkpoint, `before` counts the lines of `metrics.jsonl` that earlier runs
    of the stage have written, and `tag` is added to every line of this one.
    """

    model: nn.Module
    batches: Batches
    options: TrainSettings
    weight_C: Tensor | None
    task: Task
    metric: Metric
    stage: Stage
    folder: Path
    before: int
    tag: Mapping[str, str]
    tell: Callable[[int, Mapping[str, float]], None]
    note: Callable[[str], None]

    def run(self) -> Fitted:
        """Train, from the last checkpoint if there is one.

        Raises TrainingError when a loss is not finite, Stopped after a signal.
        """
        options = self.options
        descent = Descent(self.model, options)
        if options.compile:
            validate(self.model, self.batches, self.task, self.metric)  # makes the operators
            self.model.compile()
        checkpoint = Checkpoint(
            self.folder, descent.modules, descent.optimizer, options.checkpoint_seconds
        )
        start, best = 0, {"epoch": -1, "val": -1.0, "val_loss": float("inf")}
        weights: dict[str, Tensor] = {}
        if (saved := checkpoint.load()) is not None:
            (numbers, weights) = saved
            start, best, descent.steps = numbers["epoch"] + 1, numbers["best"], numbers["steps"]
            self.note(f"going on after epoch {start - 1}")
        self.stage.rewind(self.before + start)
        epoch = start - 1
        with stop_on_signal() as stop:
            for epoch in range(start, options.epochs):
                found = self._epoch(epoch, descent)
                if _is_better(found, best):
                    best = found
                    # Clones: on the CPU a state_dict shares memory with the live weights.
                    state = descent.judged.state_dict()
                    weights = {key: value.detach().clone() for key, value in state.items()}
                if epoch - best["epoch"] >= options.patience:
                    break
                numbers = {"epoch": epoch, "best": best, "steps": descent.steps}
                checkpoint.after_epoch(stop, numbers, weights)
        return Fitted(best, weights, epoch + 1)

    def _epoch(self, epoch: int, descent: Descent) -> dict[str, Any]:
        """Train for an epoch, validate, log; returns the epoch's figures."""
        descent.begin(epoch)
        mean, rows = 0.0, 0
        for batch in self.batches.train(epoch):
            device = batch.labels_B.device.type
            with torch.autocast(device, torch.bfloat16, self.options.precision == "bf16"):
                logits_NC = self.model(batch.features, batch.structure).logits_NC
            logits_BC = logits_NC[batch.rows_B].float()
            smoothing = self.options.label_smoothing
            loss = task_loss(self.task, logits_BC, batch.labels_B, self.weight_C, smoothing)
            check_finite(loss, epoch)
            descent.step(loss)
            rows += len(logits_BC)
            mean += (loss.item() - mean) * (len(logits_BC) / rows)
        val, val_loss = validate(descent.judged, self.batches, self.task, self.metric)
        check_finite(torch.tensor(val_loss), epoch)
        figures = {"loss": mean, "val": val, "val_loss": val_loss}
        self.stage.log({"epoch": epoch, **self.tag, **figures})
        self.tell(epoch, figures)
        return {"epoch": epoch, "val": val, "val_loss": val_loss}


def _is_better(found: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    return (found["val"], -found["val_loss"]) > (best["val"], -best["val_loss"])


@torch.no_grad()
def validate(model: nn.Module, batches: Batches, task: Task, metric: Metric) -> tuple[float, float]:
    """Return the metric and the cross-entropy on the validation nodes, in full precision."""
    model.eval()
    parts = [
        (model(batch.features, batch.structure).logits_NC[batch.rows_B], batch.labels_B)
        for batch in batches.val()
    ]
    logits_BC, labels_B = (torch.cat(part) for part in zip(*parts, strict=True))
    loss = task_loss(task, logits_BC, labels_B)
    return score(metric, logits_BC, labels_B), loss.item()
