"""The students that a sweep asks for: settings, seed, folder, and the command that makes each.

A folder is called by what varies, the seed, and eight digits of the digest of all settings: other
settings, also those that do not vary, are another folder.
"""

import itertools
import json
import math
import random
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2t.artifact import content_digest
from g2t.config import layered, nested, parse_value
from g2t.distill.settings import asked_of, distill_settings
from g2t.errors import UsageError
from g2t.stage import flat
from g2t.sweep.spec import Range, Spec

#: From the settings of one command to all values of `g2t distill`: `--config`, environment, these.
Gather = Callable[[Mapping[str, Any]], dict[str, Any]]

#: Settings with an option of their own.
OPTIONS = ("student", "preset")

#: Characters of a folder's name before the digest; a name may have 255.
MOST_NAME = 150


@dataclass(frozen=True)
class Trial:
    """One student: what varies and its values, the seed, all `values` of distill, and OUT."""

    chosen: Mapping[str, Any]
    seed: int
    values: dict[str, Any]
    out: Path
    command: str


def trials_of(spec: Spec, gather: Gather) -> list[Trial]:
    """Return the students of a grid, or of random draws, each once.

    Raises UsageError naming the first wrong setting, or a range without draws.
    """
    found: dict[Path, Trial] = {}
    for chosen in _random(spec) if spec.random else _grid(spec):
        for trial in with_seeds(spec, chosen, gather):
            found.setdefault(trial.out, trial)
    return list(found.values())


def with_seeds(spec: Spec, chosen: Mapping[str, Any], gather: Gather) -> list[Trial]:
    """Return the students of one choice of settings; raises UsageError for a wrong setting."""
    return [_trial(spec, chosen, seed, gather) for seed in spec.seeds]


def _grid(spec: Spec) -> Iterator[dict[str, Any]]:
    for key, axis in spec.axes.items():
        if isinstance(axis, Range):
            raise UsageError(
                f"vary.{key} is a range, and a grid needs a list",
                "add [random] with trials = N, or use --optuna N",
            )
    for values in itertools.product(*spec.axes.values()):
        yield dict(zip(spec.axes, values, strict=True))


def _random(spec: Spec) -> Iterator[dict[str, Any]]:
    asked = spec.random
    assert asked is not None
    draw = random.Random(asked.seed)
    for _ in range(asked.trials):
        yield {
            key: _between(axis, draw) if isinstance(axis, Range) else draw.choice(axis)
            for key, axis in spec.axes.items()
        }


def _between(axis: Range, draw: random.Random) -> int | float:
    """Draw from a range; numbers that are not whole get three digits, so that they can be read."""
    step = axis.step or (1 if axis.whole and not axis.log else None)
    if step is not None:
        count = int((axis.high - axis.low) / step + 1e-9)
        value = axis.low + step * draw.randint(0, count)
        return value if axis.whole else float(f"{value:.12g}")
    if axis.log:
        value = math.exp(draw.uniform(math.log(axis.low), math.log(axis.high)))
    else:
        value = draw.uniform(axis.low, axis.high)
    value = round(value) if axis.whole else float(f"{value:.3g}")
    return min(max(value, axis.low), axis.high)


def _trial(spec: Spec, chosen: Mapping[str, Any], seed: int, gather: Gather) -> Trial:
    varied = [nested(key, value) for key, value in chosen.items()]
    own = layered(spec.fixed, *varied, {"seed": seed})
    values = gather(own)
    settings = distill_settings(values)
    if settings.second is not None and spec.second is None:
        raise UsageError(
            f"student {settings.student} of {spec.config} learns from {settings.second} too",
            'name a finished one at the top of the file: second = "DIR"',
        )
    digest = content_digest(asked_of(settings, spec.second is not None))
    out = Path(spec.out) / _name(chosen, seed, digest)
    return Trial(chosen, seed, values, out, _command(spec, own, out))


def _name(chosen: Mapping[str, Any], seed: int, digest: str) -> str:
    labels = _labels(list(chosen))
    parts = [f"{labels[key]}={_short(value)}" for key, value in chosen.items()]
    said = "_".join([*parts, f"seed={seed}"])
    return f"{said[:MOST_NAME]}_{digest.removeprefix('sha256:')[:8]}"


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else _text(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-")


def _labels(keys: Sequence[str]) -> dict[str, str]:
    """Return for every key as many of its last parts as tell it from the others."""
    labels = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [other for other in keys if other != key]
        alone = (end for end in ends if not any(f".{o}".endswith(f".{end}") for o in others))
        labels[key] = next(alone, key)
    return labels


def _command(spec: Spec, own: Mapping[str, Any], out: Path) -> str:
    words = ["g2t", "distill", spec.cache]
    words += ["--config", spec.config] if spec.config else []
    words += ["--second", spec.second] if spec.second else []
    for name in OPTIONS:
        words += [f"--{name}", str(own[name])] if name in own else []
    words += ["--seed", str(own["seed"])]
    for key, value in flat(own).items():
        words += [] if key in (*OPTIONS, "seed") else ["--set", f"{key}={_text(value)}"]
    line = shlex.join([*words, "--out", str(out)])
    if not line.isprintable():
        raise UsageError(f"{line!r} is more than one line", "leave control characters out")
    return line


def _text(value: Any) -> str:
    """Return a value as `--set` reads it; JSON of numbers, words and lists of them is TOML too."""
    bare = isinstance(value, str) and parse_value(value) == value
    return value if bare else json.dumps(value, ensure_ascii=False)
