"""Settings of `g2t teach`, checked against the teacher that they name."""

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, SerializeAsAny

from g2t.config import Settings, layered, look_up, specialised, validate
from g2t.graph.splits import Setting
from g2t.teacher import TEACHERS
from g2t.teacher.frame import FrameSettings

M = TypeVar("M", bound=FrameSettings)


class TrainSettings(Settings):
    """`train.*` of a teacher: Adam on the training nodes' cross-entropy, all nodes at once."""

    epochs: int = Field(300, ge=1)
    patience: int = Field(100, ge=1, description="epochs without a better validation score")
    lr: float = Field(0.01, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    checkpoint_seconds: float = Field(60, ge=0, description="time between checkpoints")


class TeachSettings(Settings, Generic[M]):
    """All settings of `g2t teach`."""

    teacher: str = "gcn"
    split: str = "public"
    setting: Setting = Field(
        "transductive", description="production: hold a fifth of the test nodes out"
    )
    seed: int = Field(0, ge=0)
    features: Literal["auto", "raw", "row"] = Field(
        "auto", description="`row`: feature rows sum to 1; auto: row for sparse bags of words"
    )
    model: SerializeAsAny[M]
    train: TrainSettings = TrainSettings()


def teach_settings(values: Mapping[str, Any]) -> TeachSettings[FrameSettings]:
    """Check settings; the teacher that they name decides what `model.*` may hold.

    Raises UsageError naming the first wrong key.
    """
    teacher = look_up(TEACHERS, values.get("teacher", "gcn"), "teacher")
    return validate(specialised(TeachSettings, teacher.Settings), layered({"model": {}}, values))
