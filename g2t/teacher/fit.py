"""The training loop of one network: the best epoch by validation is kept, never a test label."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from g2t.chance import drawing_for
from g2t.checkpoint import Checkpoint, check_finite
from g2t.metrics import Metric, score
from g2t.ranks import ALONE, Ranks
from g2t.runtime import StopSignal, stop_on_signal
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
        options, ranks = self.options, self.stage.ranks
        ranks.follow_first([self.model])
        descent = Descent(self.model, options, ranks)
        if options.compile:
            validate(self.model, self.batches, self.task, self.metric)  # makes the operators
            self.model.compile()
        checkpoint = Checkpoint(
            self.folder, descent.modules, descent.optimizer, options.checkpoint_seconds, ranks
        )
        # The epoch that is under way, the steps of it that are over, their mean loss and its rows.
        state: dict[str, Any] = {"epoch": 0, "done": 0, "mean": 0.0, "rows": 0, "steps": 0}
        state["best"] = best = {"epoch": -1, "val": -1.0, "val_loss": float("inf")}
        weights: dict[str, Tensor] = {}
        if (saved := checkpoint.load()) is not None:
            state, weights = saved
            best, descent.steps = state["best"], state["steps"]
            self.note(f"going on after epoch {state['epoch'] - 1}")
        self.stage.rewind(self.before + state["epoch"])
        with stop_on_signal() as stop:
            for epoch in range(state["epoch"], options.epochs):
                ranks.follow_first(descent.modules.values())
                for asked in self._steps(state, descent, checkpoint, stop):
                    checkpoint.after_step(stop, asked, state, weights)
                found = self._judge(state, descent)
                if _is_better(found, best):
                    state["best"] = best = found
                    # Clones: on the CPU a state_dict shares memory with the live weights.
                    live = descent.judged.state_dict()
                    weights = {key: value.detach().clone() for key, value in live.items()}
                state |= {"epoch": epoch + 1, "done": 0, "mean": 0.0, "rows": 0}
                if epoch - best["epoch"] >= options.patience:
                    break
        return Fitted(best, weights, state["epoch"])

    def _steps(
        self, state: dict[str, Any], descent: Descent, checkpoint: Checkpoint, stop: StopSignal
    ) -> Iterator[bool]:
        """Take the steps of an epoch; tell after each whether any rank was asked to stop."""
        epoch, smoothing = state["epoch"], self.options.label_smoothing
        descent.begin(epoch)
        for batch in checkpoint.going_on(self.batches.train(epoch), state["done"]):
            device = batch.labels_B.device.type
            bf16 = self.options.precision == "bf16"
            with torch.autocast(device, torch.bfloat16, bf16), drawing_for(batch.part):
                logits_NC = self.model(batch.features, batch.structure).logits_NC
            logits_BC = logits_NC[batch.rows_B].float()
            logits_BC = self.stage.ranks.whole(logits_BC, len(batch.labels_B))
            loss = task_loss(self.task, logits_BC, batch.labels_B, self.weight_C, smoothing)
            check_finite(loss, epoch)
            asked = descent.step(loss, bool(stop))
            state["rows"] += len(logits_BC)
            state["mean"] += (loss.item() - state["mean"]) * (len(logits_BC) / state["rows"])
            state |= {"done": state["done"] + 1, "steps": descent.steps}
            yield asked

    def _judge(self, state: Mapping[str, Any], descent: Descent) -> dict[str, Any]:
        """Validate and log an epoch; returns its figures."""
        epoch, mean, ranks = state["epoch"], state["mean"], self.stage.ranks
        val, val_loss = validate(descent.judged, self.batches, self.task, self.metric, ranks)
        check_finite(torch.tensor(val_loss), epoch)
        figures = {"loss": mean, "val": val, "val_loss": val_loss}
        self.stage.log({"epoch": epoch, **self.tag, **figures})
        self.tell(epoch, figures)
        return {"epoch": epoch, "val": val, "val_loss": val_loss}


def _is_better(found: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    return (found["val"], -found["val_loss"]) > (best["val"], -best["val_loss"])


@torch.no_grad()
def validate(
    model: nn.Module, batches: Batches, task: Task, metric: Metric, ranks: Ranks = ALONE
) -> tuple[float, ...]:
    """Return the metric and the cross-entropy on the validation nodes, in full precision."""
    model.eval()
    parts = []
    for batch in batches.val():
        logits_BC = model(batch.features, batch.structure).logits_NC[batch.rows_B]
        parts.append((ranks.whole(logits_BC, len(batch.labels_B)), batch.labels_B))
    logits_BC, labels_B = (torch.cat(part) for part in zip(*parts, strict=True))
    loss = task_loss(task, logits_BC, labels_B)
    return ranks.numbers_of_first(score(metric, logits_BC, labels_B), loss.item())
