"""An export before it starts: what was asked for, and which tensors that makes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor

from g2t.cache.format import (
    CODES,
    EDGE_SCORES,
    FEATURES,
    LOGITS,
    RELIABILITY,
    SHARD_ROWS,
    SIGNALS,
    DtypeName,
    Signal,
    TensorEntry,
    layer_name,
    token_name,
)
from g2t.config import Settings
from g2t.errors import InputError, UsageError
from g2t.graph.lazy import GraphFile, open_graph
from g2t.teacher.forward import check_graph_of
from g2t.teacher.store import TeacherFile, open_teacher


class ExportSettings(Settings):
    """Settings of `g2t export-features`; together with teacher and graph they decide every byte."""

    dtype: DtypeName = Field(
        "fp16", description="type of layers, logits, and tokens of sparse features"
    )
    precision: Literal["fp32", "fp16"] = Field(
        "fp32", description="type that messages are held in: fp32 is exact, fp16 takes half"
    )
    topk: int | None = Field(None, ge=1, description="keep this many logits of a row")
    signals: tuple[Signal, ...] = Field(
        ("layers", "logits"), description="what of the teacher to write; --for LOSS finds it"
    )
    hops: int = Field(0, ge=0, description="write hop tokens Âx … Â^hops x")
    project: str | None = Field(
        None,
        pattern=r"^(svd|random):[1-9][0-9]*$",
        description="project features before the tokens",
    )
    shard_rows: int = Field(SHARD_ROWS, ge=1)
    noise: float = Field(1.0, gt=0, description="reliability: standard deviation of the noise")
    codes: int = Field(64, ge=2, le=32_767, description="k-means codes of every layer")

    @field_validator("signals", mode="after")
    @classmethod
    def _in_order(cls, signals: tuple[Signal, ...]) -> tuple[Signal, ...]:
        return tuple(signal for signal in SIGNALS if signal in signals)

    @model_validator(mode="after")
    def _fits(self) -> "ExportSettings":
        if self.project is not None and not self.hops:
            raise ValueError("project is of use with hops only")
        if self.topk is not None and self.dtype == "int8":
            raise ValueError("top-k logits are not stored as int8")
        return self


@dataclass(frozen=True)
class Shape:
    """What decides the tensors of a cache beside its settings: of features, layers, and classes."""

    sparse: bool
    features: int
    layers: int
    hidden: int
    classes: int

    def layer_entry(self, layer: int, settings: ExportSettings) -> TensorEntry:
        """Return the entry of hidden layer 1 … L."""
        return TensorEntry(name=layer_name(layer), width=self.hidden, dtype=settings.dtype)

    def logits_entry(self, settings: ExportSettings) -> TensorEntry:
        """Return the entry of the logits."""
        kind: Literal["dense", "topk"] = "dense" if settings.topk is None else "topk"
        return TensorEntry(
            name=LOGITS,
            kind=kind,
            width=self.classes,
            dtype=settings.dtype,
            topk=settings.topk,
        )

    def entries(self, settings: ExportSettings) -> dict[str, TensorEntry]:
        """Return the entry of every tensor that is asked for, by name, in the manifest's order."""
        small: DtypeName = "fp16" if settings.dtype == "int8" else settings.dtype
        entries = [self._features(), *self._tokens(settings, small)]
        if "layers" in settings.signals:
            entries += [self.layer_entry(layer, settings) for layer in range(1, self.layers + 1)]
        if "logits" in settings.signals:
            entries.append(self.logits_entry(settings))
        if "edge_scores" in settings.signals:
            entries.append(TensorEntry(name=EDGE_SCORES, kind="edge", width=1, dtype=small))
        if "reliability" in settings.signals:
            entries.append(TensorEntry(name=RELIABILITY, width=1, dtype="fp32"))
        if "codes" in settings.signals:
            entries.append(TensorEntry(name=CODES, width=self.layers, dtype="int16"))
        return {entry.name: entry for entry in entries}

    def _features(self) -> TensorEntry:
        kind: Literal["dense", "csr"] = "csr" if self.sparse else "dense"
        return TensorEntry(name=FEATURES, kind=kind, width=self.features, dtype="fp32")

    def _tokens(self, settings: ExportSettings, small: DtypeName) -> list[TensorEntry]:
        """Return the entries of hop tokens.

        Students normalise what they read of a node and meet it again, uncached, when they serve:
        dense tokens stay exact; those of sparse features, wide as they are, may be rounded.
        """
        if not settings.hops:
            return []
        project = settings.project
        width = self.features if project is None else projected_width(project)
        dtype: DtypeName = small if self.sparse and project is None else "fp32"
        return [
            TensorEntry(name=token_name(hop), width=width, dtype=dtype)
            for hop in range(1 if project is None else 0, settings.hops + 1)
        ]


@dataclass(frozen=True)
class ExportPlan:
    """An export before it starts: a teacher, and the graph that it was taught on, both unread."""

    teacher: TeacherFile
    graph: GraphFile
    settings: ExportSettings
    inputs: dict[str, str]

    @property
    def nodes(self) -> Tensor:
        """The ids of the cache's rows, ascending."""
        return self.teacher.split.nodes

    @property
    def shape(self) -> Shape:
        """What decides the tensors beside the settings."""
        graph, teacher = self.graph, self.teacher
        classes = len(graph.facts["classes"])
        return Shape(graph.sparse, graph.width, teacher.hidden, teacher.width, classes)


def projected_width(project: str) -> int:
    """Return the columns that `svd:W` or `random:W` projects to."""
    return int(project.partition(":")[2])


def plan_export(teacher_path: Path, graph_path: Path, settings: ExportSettings) -> ExportPlan:
    """Open teacher and graph; raises IntegrityError unless the teacher learned from this graph."""
    teacher, graph = open_teacher(teacher_path), open_graph(graph_path)
    check_graph_of(teacher, str(graph.facts["name"]), graph.fingerprint)
    if not teacher.hidden and {"edge_scores", "codes"} & set(settings.signals):
        raise InputError(
            f"teacher {teacher_path} has no hidden layer, so there are no edge scores or codes",
            "teach with more model.layers, or another teacher",
        )
    classes = len(graph.facts["classes"])
    if settings.topk is not None and settings.topk > classes:
        raise UsageError(
            f"topk {settings.topk} is more than the {classes} classes of {graph_path}",
            "choose a smaller one",
        )
    inputs = {"teacher": teacher.artifact.digest, "graph": graph.fingerprint}
    return ExportPlan(teacher, graph, settings, inputs)
