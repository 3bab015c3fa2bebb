"""Settings of `g2t distill`, checked against the student and the losses that they name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field, SerializeAsAny, create_model

from g2t.cache.format import SIGNALS
from g2t.config import Settings, layered, look_up, specialised, validate
from g2t.distill.losses import LOSSES
from g2t.distill.losses.base import LossSettings
from g2t.errors import UsageError, did_you_mean
from g2t.student import STUDENTS
from g2t.student.base import ModelSettings, TrainSettings

#: Structural terms at a gradient share of 0.1, gone by 70 % of the training (data/STUDY.md).
_STRUCTURE = {"share": 0.1, "until": 0.7}

PRESETS: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "soft": {"soft": {}},
    "pseudo": {"pseudo": {}},
    "none": {"hard": {}},
    "paper": {
        "soft": {},
        "hard": {"weight": 0.3},
        "lsp": _STRUCTURE,
        "gram": _STRUCTURE,
        "align": _STRUCTURE,
    },
}

M = TypeVar("M", bound=ModelSettings)
T = TypeVar("T", bound=TrainSettings)
L = TypeVar("L", bound=BaseModel)


class DistillSettings(Settings, Generic[M, T, L]):
    """All settings of `g2t distill`."""

    student: str = "landmark"
    size: str = Field("small", description="tiny, small or base; model.* changes it")
    preset: str = Field("soft", description="the losses to start from; loss.NAME.* changes them")
    seed: int = Field(0, ge=0)
    second: str | None = Field(
        None, description="the student of the same recipe that teaches too, or give --second"
    )
    second_share: float = Field(0.5, gt=0, le=1, description="its part of the teachers' mean")
    model: SerializeAsAny[M]
    train: SerializeAsAny[T]
    loss: SerializeAsAny[L]

    def losses(self) -> dict[str, LossSettings]:
        """Return the settings of every loss whose weight is not zero, by name."""
        named = {name: getattr(self.loss, name) for name in type(self.loss).model_fields}
        return {name: settings for name, settings in named.items() if settings.weight > 0}


def distill_settings(values: Mapping[str, Any]) -> DistillSettings[Any, Any, Any]:
    """Check settings; student and losses decide what `model.*`, `train.*` and `loss.*` may hold.

    Raises UsageError naming the first wrong key, or where no loss is left.
    """
    student = look_up(STUDENTS, values.get("student", "landmark"), "student")
    size = values.get("size", "small")
    if not isinstance(size, str) or size not in student.SIZES:
        raise UsageError(
            f"the student has no size {size!r}", did_you_mean(str(size), student.SIZES)
        )
    preset = values.get("preset", "soft")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise UsageError(f"no preset is called {preset!r}", did_you_mean(str(preset), PRESETS))
    start = {"model": student.SIZES[size], "train": {}, "loss": PRESETS[preset]}
    chosen = layered(start, values)
    if not isinstance(chosen["loss"], dict):
        raise UsageError("setting loss: name a loss", "e.g. --set loss.soft.weight=1")
    fields: dict[str, Any] = {
        name: (look_up(LOSSES, name, "loss").Settings, ...) for name in chosen["loss"]
    }
    losses = create_model("Losses", __base__=Settings, **fields)
    model = specialised(DistillSettings, student.Settings, student.Train, losses)
    settings: DistillSettings[Any, Any, Any] = validate(model, chosen)
    if not settings.losses():
        raise UsageError("every loss has weight 0", "set loss.soft.weight, or choose a preset")
    if all(loss.share is not None for loss in settings.losses().values()):
        raise UsageError(
            "every loss has a share, and none is left for it to be a share of",
            "give one loss a weight and no share, e.g. --set loss.soft.weight=1",
        )
    if settings.second is not None:
        check_second(settings, settings.second)
    hopping = [name for name, loss in settings.losses().items() if loss.needs_hops]
    if hopping and not getattr(settings.model, "hops", 0):
        raise UsageError(
            f"loss.{hopping[0]} as it is set reads hop tokens, and student {settings.student} has "
            "none",
            "choose --student hop, or other losses",
        )
    return settings


def check_second(settings: DistillSettings[Any, Any, Any], second: str) -> None:
    """Raise UsageError where no loss reads what a second teacher says."""
    if all("logits" not in needs for needs in needs_by_loss(settings.losses()).values()):
        raise UsageError(
            f"no loss reads what student {second} says", "choose one of logits, such as soft"
        )


def asked_of(settings: DistillSettings[Any, Any, Any], second: bool) -> dict[str, Any]:
    """Return what a student's record says was asked for.

    A checkpoint's timing changes nothing in the result, so it is left out; a second teacher counts
    by its digest and not by its name, and its share only where there is one.
    """
    left_out: dict[str, Any] = {"train": {"checkpoint_seconds"}, "second": True}
    if not second:
        left_out["second_share"] = True
    return settings.model_dump(mode="json", exclude=left_out)


def signals_for(names: Sequence[str]) -> frozenset[str]:
    """Return the signals that a cache holds for some losses, presets or signals, by their names.

    Losses are taken as they come; a signal that only a setting asks for is named itself. Labels
    and edges are in every cache. Raises UsageError for an unknown name.
    """
    found: frozenset[str] = frozenset()
    for name in names:
        if name in SIGNALS:
            found |= {name}
            continue
        try:
            found |= _signals(PRESETS.get(name, (name,)))
        except UsageError:
            raise UsageError(
                f"no loss, preset or signal is called {name!r}",
                did_you_mean(name, {*LOSSES, *PRESETS, *SIGNALS}),
            ) from None
    return found


def signals_of(settings: DistillSettings[Any, Any, Any]) -> frozenset[str]:
    """Return the signals that a training run reads of a cache.

    A student with landmarks that learns from a teacher starts at the teacher's layers, if it has
    any; one with a memory keeps the teacher's logits.
    """
    needs = needs_by_loss(settings.losses()).values()
    found = frozenset[str]().union(*needs) & set(SIGNALS)
    if found and hasattr(settings.model, "landmarks"):
        found |= {"layers"}
    return found | {"logits"} if settings.model.memory else found


def needs_by_loss(losses: Mapping[str, LossSettings]) -> dict[str, frozenset[str]]:
    """Return what every loss asks of the cache as it is set, by name."""
    kinds = {name: look_up(LOSSES, name, "loss") for name in losses}
    return {name: kind.needs_with(losses[name]) for name, kind in kinds.items()}


def _signals(losses: Iterable[str]) -> frozenset[str]:
    needs = (look_up(LOSSES, name, "loss").needs for name in losses)
    return frozenset[str]().union(*needs) & set(SIGNALS)


def as_values(settings: DistillSettings[Any, Any, Any]) -> dict[str, Any]:
    """Return settings as values that give them again.

    Losses and what a size decides are given as what differs from the preset and from the size: a
    printed file still follows `--preset` and `size`.
    """
    values = settings.model_dump(mode="json")
    named = {"student": settings.student, "size": settings.size, "preset": settings.preset}
    preset = distill_settings(named)
    sizes = look_up(STUDENTS, settings.student, "student").SIZES.values()
    sized = {key for size in sizes for key in size}
    model = {
        key: value
        for key, value in values["model"].items()
        if key not in sized or value != getattr(preset.model, key)
    }
    usual = preset.loss.model_dump(mode="json")
    losses = {
        name: {key: value for key, value in loss.items() if value != usual.get(name, {}).get(key)}
        for name, loss in values["loss"].items()
        if loss != usual.get(name)
    }
    return {**values, "model": model, "loss": losses}
