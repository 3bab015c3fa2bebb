"""What of a sweep is finished, told by the records that lie there, and which settings did best.

Choosing sees validation scores only.
"""

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2t.artifact import RECORD, partial_path, read_json
from g2t.distill.train import plan_student
from g2t.errors import InputError
from g2t.stage import Stage
from g2t.sweep.spec import Spec
from g2t.sweep.trial import Trial


@dataclass(frozen=True)
class Finding:
    """How a trial stands: `new`, `unfinished` or `done`, and then its validation score and loss."""

    trial: Trial
    standing: str
    val: float | None = None
    val_loss: float | None = None


def inspect(spec: Spec, trials: Iterable[Trial]) -> list[Finding]:
    """Look at the folder of every trial; the cache is opened where one of them is there.

    Raises InputError where a folder holds something else, such as a student of another cache.
    """
    return [_inspect(spec, trial) for trial in trials]


def _inspect(spec: Spec, trial: Trial) -> Finding:
    if not trial.out.exists() and not partial_path(trial.out).exists():
        return Finding(trial, "new")
    second = None if spec.second is None else Path(spec.second)
    plan = plan_student(Path(spec.cache), trial.values, second)
    stage = Stage(trial.out, "student", plan.asked, plan.inputs, trial.seed)
    standing, reason = stage.standing()
    if standing in ("refused", "foreign"):
        raise InputError(reason, "choose another out for this sweep, or remove that folder")
    if standing != "done":
        return Finding(trial, standing)
    summary = read_json(trial.out / RECORD)["summary"]
    return Finding(trial, standing, summary["val"], summary["val_loss"])


def rank(spec: Spec, findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return the settings that all seeds are done with, best mean validation score first.

    The lower validation loss breaks ties.
    """
    groups: dict[str, list[Finding]] = {}
    for found in findings:
        groups.setdefault(json.dumps(found.trial.chosen), []).append(found)
    rows = []
    for group in groups.values():
        values = [found.val for found in group if found.val is not None]
        losses = [found.val_loss for found in group if found.val_loss is not None]
        if len(values) == len(spec.seeds):
            rows.append(
                {
                    "settings": dict(group[0].trial.chosen),
                    "seeds": [found.trial.seed for found in group],
                    "val": statistics.fmean(values),
                    "std": statistics.stdev(values) if len(values) > 1 else None,
                    "val_loss": statistics.fmean(losses),
                    "students": [str(found.trial.out) for found in group],
                }
            )
    return sorted(rows, key=lambda row: (-row["val"], row["val_loss"]))
