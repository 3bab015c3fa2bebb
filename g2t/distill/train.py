"""Distilling a student: mini-batches of cached rows, the best epoch by validation.

All that is read is the cache. The teacher's tensors that no loss needs are not opened.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2t.artifact import SCRATCH, Artifact
from g2t.averaging import average, fair_share
from g2t.cache.check import open_cache
from g2t.cache.reader import Cache
from g2t.checkpoint import Checkpoint, check_finite
from g2t.distill.choice import best_memory, better_by_vote, check_memory, scored, worth
from g2t.distill.lesson import Lesson, prepare
from g2t.distill.needs import needs_of, tensors_read
from g2t.distill.objective import REBALANCE_STEPS
from g2t.distill.revive import revive
from g2t.distill.second import open_second
from g2t.distill.settings import DistillSettings, asked_of, check_second, distill_settings
from g2t.distill.together import answers_together, check_shared, study_together
from g2t.errors import UsageError
from g2t.network import write_network
from g2t.ranks import ALONE, Ranks
from g2t.runtime import (
    Progress,
    Silent,
    StopSignal,
    check_device,
    choose_device,
    leaving_on_signal,
    stop_on_signal,
)
from g2t.schedule import rate_factor
from g2t.stage import Stage
from g2t.student.base import Inputs, TrainSettings
from g2t.student.store import TrainedStudent

#: Weight of the epochs before in the running mean of validation scores.
RANK_DECAY = 0.8

#: Steps per epoch at least: a small graph in one batch would get too few.
LEAST_STEPS = 4

#: Steps per epoch at most where every step carries hop tokens over the whole graph.
MOST_SWEEPS = 8


@leaving_on_signal()
def distill(
    cache_path: Path,
    out: Path,
    values: Mapping[str, Any],
    *,
    second: Path | None = None,
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Artifact:
    """Train a student from a cache and write it to `out`; `second` is a student that teaches too.

    `values` are settings of `DistillSettings`. Several ranks that call this at once learn together
    what one would learn. Raises UsageError, InputError, IntegrityError for wrong settings, a
    missing and a damaged cache, MissingExtra where a setting needs what is not here, TrainingError
    when the loss is not finite, Stopped after a signal or where another rank is gone.
    """
    plan = plan_student(cache_path, values, second)
    where, options = choose_device(device, ranks), plan.settings.train
    check_device(options.precision, options.compile, where)
    check_shared(plan.settings, ranks)
    show, asked = progress or Silent(), (plan.asked, plan.inputs, plan.settings.seed)
    with Stage(out, "student", *asked, force, ranks=ranks) as stage:
        if stage.finished:
            show.note(f"{out} is done already")
            return stage.finished
        return stage.commit(_train(plan, where, stage, show))


@dataclass(frozen=True)
class DistillPlan:
    """A training run before it starts: what is asked for, resolved against the cache.

    `asked` are the settings that decide the result, `needs` the kinds of tensors that it reads.
    """

    settings: DistillSettings[Any, Any, Any]
    cache: Cache
    second: TrainedStudent | None
    needs: frozenset[str]
    asked: dict[str, Any]
    inputs: dict[str, str]


def plan_student(
    cache_path: Path, values: Mapping[str, Any], second: Path | None = None
) -> DistillPlan:
    """Resolve the settings, open cache and second teacher, and find out what will be read."""
    settings = distill_settings(values)
    if settings.second is not None and second is None:
        raise UsageError(
            f"this student learns from the recipe's student {settings.second} too",
            "add --second STUDENT with its path",
        )
    cache = open_cache(cache_path)
    check_memory(settings, cache.manifest.split.setting)
    needs = needs_of(settings, cache)
    inputs = tensors_read(cache, needs, getattr(settings.model, "hops", 0))
    teaching = None
    if second is not None:
        check_second(settings, str(second))
        teaching = open_second(second, cache)
        inputs["second"] = teaching.artifact.digest
    asked = asked_of(settings, teaching is not None)
    return DistillPlan(settings, cache, teaching, needs, asked, inputs)


def _train(
    plan: DistillPlan, device: torch.device, stage: Stage, progress: Progress
) -> dict[str, Any]:
    """Run the loop and write the best weights; returns the figures of the best epoch."""
    cache, settings, ranks = plan.cache, plan.settings, stage.ranks
    torch.manual_seed(settings.seed)
    options = settings.train
    lesson = prepare(cache, settings, plan.needs, plan.second, device, ranks)
    student = lesson.student
    optimizer = torch.optim.AdamW(
        [*student.parameters(), *lesson.objective.parameters()],
        options.lr,
        weight_decay=options.weight_decay,
        fused=True,
    )
    folder, seconds = stage.path / SCRATCH, options.checkpoint_seconds
    checkpoint = Checkpoint(folder, lesson.modules, optimizer, seconds, ranks)
    state: dict[str, Any] = {"epoch": -1, "step": 0, "best": {"epoch": -1, "val": -1.0}}
    state |= {"done": 0, "means": {}}  # steps of the epoch that is under way, and their figures
    best_weights: dict[str, Tensor] = {}
    if (saved := checkpoint.load()) is not None:
        state, best_weights = saved
        stage.rewind(state["epoch"] + 1)
        progress.note(f"going on after epoch {state['epoch']}")
    if options.compile:
        student.compile()
    size = _batch_size(cache.rows, options.batch, lesson.inputs)
    share = getattr(options, "revive", 0.0)  # `mlp` has no landmarks
    with stop_on_signal() as stop:
        for epoch in range(state["epoch"] + 1, options.epochs):
            rate = rate_factor(epoch, options.epochs, options.warmup, options.schedule)
            for group in optimizer.param_groups:
                group["lr"] = options.lr * rate
            ranks.follow_first(lesson.modules.values())
            for asked in _learn(lesson, optimizer, options, size, state, checkpoint, ranks, stop):
                checkpoint.after_step(stop, asked, state, best_weights)
            means = state["means"]
            if share and epoch < options.epochs // 2:
                draw = torch.Generator().manual_seed(settings.seed + epoch)
                means["revived"] = revive(student, lesson.averaged, lesson.inputs, share, draw)
            val, val_loss, val_all = _validate(lesson, cache, ranks)
            check_finite(torch.tensor(val_loss), epoch)
            scores = {"val": val, "val_all": val_all} if student.hops else {"val": val}
            stage.log({"epoch": epoch, **means, **scores, "val_loss": val_loss})
            progress.update("distill", epoch + 1, options.epochs, {**means, **scores})
            # Validation sets are small: the running mean decides, so no lucky epoch wins.
            rank = worth(val, val_loss)
            state["rank"] = rank + RANK_DECAY * (state.get("rank", rank) - rank)
            if state["rank"] > state["best"].get("rank", float("-inf")):
                found = {"epoch": epoch, "val": val, "val_loss": val_loss}
                state["best"] = {**found, "rank": state["rank"]}
                best_weights = {k: v.clone() for k, v in lesson.averaged.state_dict().items()}
            if epoch - state["best"]["epoch"] >= options.patience:
                break
            state |= {"epoch": epoch, "done": 0, "means": {}}
    student.load_state_dict(best_weights)
    chosen: dict[str, Any] = {"votes": better_by_vote(student, lesson.inputs, cache)}
    if settings.model.memory:
        student.memory = best_memory(student, lesson.inputs, cache, settings.model.memory)
        chosen["memory"] = None if student.memory is None else student.memory.facts.model_dump()
    if ranks.first:
        write_network(stage.path, {**lesson.facts, **chosen}, student.cpu())
    best = state["best"]
    found = {key: best[key] for key in ("epoch", "val", "val_loss")}
    return {**found, "rows_per_step": size, **chosen}


def _learn(
    lesson: Lesson,
    optimizer: torch.optim.Optimizer,
    options: TrainSettings,
    size: int,
    state: dict[str, Any],
    checkpoint: Checkpoint,
    ranks: Ranks,
    stop: StopSignal,
) -> Iterator[bool]:
    """Take the steps of one epoch, and tell after each whether any rank was asked to stop.

    They are counted in `state`, with the means of all that is logged.
    """
    student, objective, signals = lesson.student, lesson.objective, lesson.signals
    parameters = list(student.parameters())
    device, steps = parameters[0].device, options.epochs * -(-signals.stream.rows // size)
    means: dict[str, float] = state["means"]
    student.train()
    for own, rows_B, batch in checkpoint.going_on(signals.batches(size), state["done"]):
        rows_B, batch = rows_B.to(device), batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, options.precision == "bf16"):
            output = study_together(ranks, student, lesson.inputs, rows_B, objective)
        step = state["step"]
        anew = step % REBALANCE_STEPS == 0 or objective.begins((step - 1) / steps, step / steps)
        loss, terms = objective(output, batch, own, step / steps, parameters if anew else None)
        check_finite(loss, state["epoch"] + 1)
        optimizer.zero_grad()
        loss.backward()
        asked = ranks.add_gradients(parameters, bool(stop))
        optimizer.step()
        state["step"] += 1
        state["done"] += 1
        average(lesson.averaged, student, fair_share(options.ema, state["step"]))
        for name, value in terms.items():
            means[name] = means.get(name, 0.0) + value * own / signals.count
        yield asked


def _batch_size(rows: int, asked: int, inputs: Inputs) -> int:
    """Return the rows per step: as asked, within what the steps of an epoch are bounded by."""
    size = min(asked, -(-rows // LEAST_STEPS))
    return size if inputs.operator is None else max(size, -(-rows // MOST_SWEEPS))


def _validate(lesson: Lesson, cache: Cache, ranks: Ranks) -> tuple[float, ...]:
    """Return metric and cross-entropy on the validation nodes, and the metric with all hops.

    The first two are means over 0 … K hops at hand, by which epochs are compared.
    """
    said = answers_together(ranks, lesson.averaged, lesson.inputs, cache.parts.val)
    scores, losses = zip(*(scored(logits_BC, cache) for logits_BC in said), strict=True)
    means = sum(scores) / len(scores), sum(losses) / len(losses)
    return ranks.numbers_of_first(*means, scores[-1])
