"""Asking optuna what to try next, from one process at a time, over a journal on a shared folder.

`OUT/optuna.log` holds what was asked and what came of it. Every call first tells it the validation
scores of students that were finished since, then asks until it holds as many trials as are wanted.
So a call changes nothing where that many are asked already, and can be repeated after a kill.
"""

import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from g2t.errors import InputError, MissingExtra, UsageError
from g2t.sweep.spec import Axis, Range, Spec
from g2t.sweep.standing import inspect
from g2t.sweep.trial import Gather, Trial, with_seeds

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

JOURNAL = "optuna.log"

#: Where the journal keeps the folders of a trial's students.
FOLDERS = "folders"


def search(spec: Spec, gather: Gather, count: int) -> list[Trial]:
    """Return the students of the first `count` trials, asking for those that there are not yet.

    A trial is one choice of settings; its score is the mean over the seeds. Raises MissingExtra
    without optuna, InputError where the journal is of a sweep with other settings.
    """
    found: dict[Path, Trial] = {}
    with _opened(Path(spec.out)) as study:
        wanted = {key: _distribution(axis) for key, axis in spec.axes.items()}
        _tell(study, spec, gather, wanted)
        while len(_asked(study)) < count:
            _ask(study, spec, gather, wanted)
        for asked in _asked(study)[:count]:
            for trial in with_seeds(spec, _decode(spec, asked.params), gather):
                found.setdefault(trial.out, trial)
    return list(found.values())


@contextmanager
def _opened(out: Path) -> Iterator["Study"]:
    """Open the journal, or begin one, while no other call does."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise MissingExtra("--optuna needs optuna", "pip install 'g2t[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / f"{JOURNAL}.guard"):
            storage = JournalStorage(JournalFileBackend(str(out / JOURNAL)))
            yield optuna.create_study(
                storage=storage, study_name="g2t", direction="maximize", load_if_exists=True
            )
    except OSError as error:
        raise InputError(f"cannot write {out / JOURNAL}: {error.strerror}") from error


def _distribution(axis: Axis) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if not isinstance(axis, Range):  # as JSON: optuna takes no lists
        return CategoricalDistribution([json.dumps(value) for value in axis])
    if axis.whole:
        return IntDistribution(
            int(axis.low), int(axis.high), log=axis.log, step=int(axis.step or 1)
        )
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)


def _decode(spec: Spec, params: dict[str, Any]) -> dict[str, Any]:
    """Return a trial's values by setting, in the order of the file."""
    return {
        key: params[key] if isinstance(axis, Range) else json.loads(params[key])
        for key, axis in spec.axes.items()
    }


def _asked(study: "Study") -> list["FrozenTrial"]:
    """Return the trials in the order they were asked for, without those of impossible settings."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state is not TrialState.FAIL]


def _ask(study: "Study", spec: Spec, gather: Gather, wanted: dict[str, "BaseDistribution"]) -> None:
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    # A sampler begins anew with every process, so its seed goes on: else all would ask the same.
    seed = spec.random.seed if spec.random else 0
    study.sampler = TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    asked = study.ask(wanted)
    try:
        trials = with_seeds(spec, _decode(spec, asked.params), gather)
    except UsageError:  # no student can have these settings, and the next call is free of them
        study.tell(asked, state=TrialState.FAIL)
        raise
    asked.set_user_attr(FOLDERS, [trial.out.name for trial in trials])


def _tell(
    study: "Study", spec: Spec, gather: Gather, wanted: dict[str, "BaseDistribution"]
) -> None:
    """Tell the scores of open trials that are done; raises InputError if one is of other settings.

    Settings that do not vary count too: their digest is part of a folder's name.
    """
    from optuna.trial import TrialState

    for asked in _asked(study):
        same = asked.distributions == wanted
        trials = with_seeds(spec, _decode(spec, asked.params), gather) if same else []
        if asked.user_attrs.get(FOLDERS) != [trial.out.name for trial in trials]:
            raise InputError(
                f"{Path(spec.out) / JOURNAL} is of a sweep with other settings",
                "choose another out for this one, or remove that file",
            )
        if asked.state is TrialState.RUNNING:
            scores = [found.val for found in inspect(spec, trials)]
            known = [score for score in scores if score is not None]
            if len(known) == len(spec.seeds):
                study.tell(asked.number, statistics.fmean(known))
