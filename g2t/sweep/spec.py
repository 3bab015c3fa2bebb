"""A sweep's file: what stays, what varies, and how the settings are chosen.

    cache = "runs/cora/cache"            # paths as they are typed in commands
    out = "runs/cora/sweep"              # one folder per student below it
    seeds = [0, 1, 2]                    # every choice of settings with each of them
    config = "recipe:cora"               # the --config of every command; may be left out
    [fixed]                              # settings of g2t distill
    student = "landmark"
    [vary]                               # a list, or a range of numbers
    train.lr = [1e-3, 3e-3]
    model.dropout = { low = 0.1, high = 0.6 }
    train.epochs = { low = 40, high = 160, step = 20 }
    train.weight_decay = { low = 1e-4, high = 1e-2, log = true }
    [random]                             # without it: the grid of all lists
    trials = 20
    seed = 0

A range of two whole numbers is one of whole numbers; ends count.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from g2t.config import Settings, validate
from g2t.errors import UsageError


class Range(Settings):
    """Numbers from `low` to `high`, drawn evenly, in steps, or evenly in their logarithm."""

    low: int | float
    high: int | float
    step: int | float | None = Field(None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _some_numbers(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"no range: {self.low} is not below {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"{self.low} has no logarithm")
        if self.log and self.step is not None:
            raise ValueError("log and step do not go together")
        return self

    @property
    def whole(self) -> bool:
        """Whether it is one of whole numbers."""
        given = [number for number in (self.low, self.high, self.step) if number is not None]
        return all(isinstance(number, int) for number in given)


#: The values of one setting.
Axis = tuple[Any, ...] | Range


class Random(Settings):
    """How many choices are drawn; more of them begin with the same."""

    trials: int = Field(ge=1)
    seed: int = Field(0, ge=0)


class Spec(Settings):
    """A sweep."""

    cache: str
    out: str
    config: str | None = None
    second: str | None = None
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1)
    fixed: dict[str, Any] = Field(default_factory=dict)
    vary: dict[str, Any] = Field(default_factory=dict)
    random: Random | None = None

    @property
    def axes(self) -> dict[str, Axis]:
        """What varies, by setting."""
        return dict(_axes(self.vary, ""))


def read_spec(content: Mapping[str, Any]) -> Spec:
    """Check a sweep's file; raises UsageError naming the first wrong key.

    Settings of students are checked when there are trials with their values.
    """
    for key in ("cache", "out"):
        if key not in content:
            raise UsageError(f"the sweep names no {key}", f'add {key} = "DIR" at the top')
    spec = validate(Spec, content)
    if len(set(spec.seeds)) < len(spec.seeds):
        raise UsageError("seeds names a seed twice", "name it once")
    for key in {"seed", "second"} & (spec.fixed.keys() | spec.vary.keys()):
        own = "seeds" if key == "seed" else key
        raise UsageError(f"{key} is no setting to fix or vary", f"set {own} at the top of the file")
    spec.axes  # noqa: B018 - so that a wrong one is told of now
    return spec


def _axes(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Axis]]:
    for name, value in content.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and not value.keys() & Range.model_fields.keys():
            yield from _axes(value, f"{key}.")
        elif isinstance(value, Mapping):
            try:
                yield key, validate(Range, value)
            except UsageError as error:
                hint = "e.g. { low = 0.1, high = 0.3 }"
                raise UsageError(f"vary.{key}: {error.message}", hint) from None
        elif isinstance(value, list) and value and all(value.count(one) == 1 for one in value):
            yield key, tuple(value)
        else:
            raise UsageError(
                f"vary.{key} is neither a list of different values nor a range",
                "e.g. [0.1, 0.3] or { low = 0.1, high = 0.3 }; a single value goes into [fixed]",
            )
