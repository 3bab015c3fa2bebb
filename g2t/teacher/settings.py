"""Settings of `g2t teach`, checked against the teacher that they name."""

from collections.abc import Mapping
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import Field, SerializeAsAny, model_validator

from g2t.config import Settings, layered, look_up, specialised, validate
from g2t.graph.splits import Setting
from g2t.schedule import Schedule
from g2t.teacher import TEACHERS
from g2t.teacher.frame import FrameSettings

M = TypeVar("M", bound=FrameSettings)

#: What a preset sets where nothing else does. Feature scaling moves small sets more than the kind
#: of teacher, and the mean of three seeds is the gain that never failed to come.
PRESETS: Mapping[str, Mapping[str, Any]] = {"strong": {"features": "auto", "members": 3}}

#: Between the seeds of two members: seeds near each other stay free for other splits.
STRIDE = 1000

#: Neighbours per node and hop where `train.fanouts` does not say.
FANOUT = 10


class TrainSettings(Settings):
    """`train.*` of a teacher: cross-entropy of the training nodes, all nodes at once or by batches.

    The learning rate of an epoch depends on its number alone, so that a run that goes on after an
    interruption ends as an unbroken one.
    """

    epochs: int = Field(300, ge=1)
    patience: int = Field(100, ge=1, description="epochs without a better validation score")
    lr: float = Field(0.01, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    optimizer: Literal["adam", "adamw"] = Field(
        "adam", description="adam: weight decay in the gradient, as most published GNNs; adamw"
    )
    schedule: Schedule = Field(
        "constant", description="of the learning rate; cosine: to zero at the last epoch"
    )
    warmup: int = Field(0, ge=0, description="epochs in which the learning rate rises to its value")
    label_smoothing: float = Field(0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: every class counts the same, however few its nodes"
    )
    clip: float | None = Field(None, gt=0, description="most that a gradient's norm may be")
    ema: float = Field(0, ge=0, lt=1, description="decay of the averaged weights; 0: off")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of training; bf16 needs CUDA")
    compile: bool = Field(False, description="torch.compile; needs CUDA, and all nodes at once")
    batch: int | None = Field(None, ge=1, description="nodes per step; unset: all at once")
    sampler: Literal["neighbour", "clusters"] = Field(
        "neighbour", description="what a batch is: sampled neighbourhoods, or clusters (pymetis)"
    )
    fanouts: tuple[int, ...] | None = Field(
        None, description=f"neighbours per hop, -1: all; unset: {FANOUT} each"
    )
    parts: int = Field(100, ge=2, description="clusters of `sampler=clusters`")
    checkpoint_seconds: float = Field(60, ge=0, description="time between checkpoints")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup >= self.epochs and self.warmup:
            raise ValueError(f"train.warmup {self.warmup} leaves none of {self.epochs} epochs")
        if any(count < 1 and count != -1 for count in self.fanouts or ()):
            raise ValueError("train.fanouts holds counts of at least 1, or -1 for all neighbours")
        if self.batch is None and (self.fanouts or self.sampler != "neighbour"):
            raise ValueError("train.fanouts and train.sampler need train.batch")
        if self.batch is not None and self.compile:
            raise ValueError("train.compile is for all nodes at once: every batch has a new shape")
        return self


class TeachSettings(Settings, Generic[M]):
    """All settings of `g2t teach`."""

    teacher: str = "gcn"
    split: str = "public"
    setting: Setting = Field(
        "transductive", description="production: hold a fifth of the test nodes out"
    )
    seed: int = Field(0, ge=0)
    preset: Literal["plain", "strong"] = Field(
        "plain", description="strong: features=auto, members=3"
    )
    members: int = Field(
        1, ge=1, description="teachers of one split, each with initial weights of its own"
    )
    member: int = Field(0, ge=0, description="which of them this is")
    features: Literal["auto", "raw", "row"] = Field(
        "auto", description="`row`: feature rows sum to 1; auto: the better one by validation"
    )
    model: SerializeAsAny[M]
    train: TrainSettings = TrainSettings()

    @property
    def initial_seed(self) -> int:
        """The seed of weights, dropout and batches; `seed` alone decides the split."""
        return self.seed + STRIDE * self.member


def teach_settings(values: Mapping[str, Any]) -> TeachSettings[FrameSettings]:
    """Check settings; the teacher that they name decides what `model.*` may hold.

    Raises UsageError naming the first wrong key.
    """
    teacher = look_up(TEACHERS, values.get("teacher", "gcn"), "teacher")
    preset = PRESETS.get(str(values.get("preset")), {})
    resolved = layered({"model": {}}, preset, values)
    return validate(specialised(TeachSettings, teacher.Settings), resolved)
