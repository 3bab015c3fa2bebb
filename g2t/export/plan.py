"""An export before it starts: what was asked for, and which tensors that makes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from pydantic import Field, field_validator, model_validator
from torch import Tensor

from g2t.cache.codec import check_one_choice
from g2t.cache.format import (
    CLUSTERS,
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
    tensors_of,
    token_name,
)
from g2t.config import Settings
from g2t.errors import InputError, UsageError
from g2t.graph.lazy import GraphFile, open_graph
from g2t.task import Task
from g2t.teacher.forward import check_graph_of
from g2t.teacher.several import check_together, digests_of
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
        ("layers", "logits"), description="what of teacher and graph to write; --for LOSS finds it"
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
    logits_from: Literal["all"] | tuple[int, ...] = Field(
        "all", description="of several teachers, those whose mean the logits are, from 1"
    )

    @field_validator("signals", mode="after")
    @classmethod
    def _in_order(cls, signals: tuple[Signal, ...]) -> tuple[Signal, ...]:
        return tuple(signal for signal in SIGNALS if signal in signals)

    @field_validator("logits_from", mode="after")
    @classmethod
    def _positions(
        cls, chosen: Literal["all"] | tuple[int, ...]
    ) -> Literal["all"] | tuple[int, ...]:
        if chosen == "all":
            return chosen
        if not chosen or min(chosen) < 1 or len(set(chosen)) < len(chosen):
            raise ValueError("logits_from is all, or positions from 1, each once")
        return tuple(sorted(chosen))

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

    def layer_entry(self, name: str, settings: ExportSettings) -> TensorEntry:
        """Return the entry of a hidden layer, after or before its activation."""
        return TensorEntry(name=name, width=self.hidden, dtype=settings.dtype)

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
        for signal in ("layers", "pre_layers"):
            names = tensors_of(signal, self.layers) if signal in settings.signals else []
            entries += [self.layer_entry(name, settings) for name in names]
        if "logits" in settings.signals:
            entries.append(self.logits_entry(settings))
        if "edge_scores" in settings.signals:
            entries.append(TensorEntry(name=EDGE_SCORES, kind="edge", width=1, dtype=small))
        if "reliability" in settings.signals:
            entries.append(TensorEntry(name=RELIABILITY, width=1, dtype="fp32"))
        if "codes" in settings.signals:
            entries.append(TensorEntry(name=CODES, width=self.layers, dtype="int16"))
        if "clusters" in settings.signals:
            entries.append(TensorEntry(name=CLUSTERS, width=1, dtype="int32"))
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
    """An export before it starts: teachers, and the graph that they were taught on, all unread.

    The first teacher gives the layers; `speakers` are the positions, from 0, of those whose mean
    the logits are.
    """

    teachers: tuple[TeacherFile, ...]
    graph: GraphFile
    settings: ExportSettings
    inputs: dict[str, str]

    @property
    def teacher(self) -> TeacherFile:
        """The one that gives the layers."""
        return self.teachers[0]

    @property
    def task(self) -> Task:
        """What a row of logits says."""
        return cast(Task, self.graph.facts["task"])

    @property
    def speakers(self) -> tuple[int, ...]:
        """Positions of those who give the logits."""
        chosen = self.settings.logits_from
        if chosen == "all":
            return tuple(range(len(self.teachers)))
        return tuple(position - 1 for position in chosen)

    def alone(self, position: int) -> "ExportPlan":
        """Return the plan of one of the teachers."""
        settings = self.settings.model_copy(update={"logits_from": "all"})
        return replace(self, teachers=(self.teachers[position],), settings=settings)

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


def plan_export(
    teacher_paths: Path | Sequence[Path], graph_path: Path, settings: ExportSettings
) -> ExportPlan:
    """Open one teacher or several, and their graph.

    Raises IntegrityError unless all learned from this graph and on the same split, UsageError where
    settings ask for what they do not have.
    """
    paths = [teacher_paths] if isinstance(teacher_paths, Path) else teacher_paths
    return plan_of([open_teacher(path) for path in paths], graph_path, settings)


def plan_of(
    teachers: Sequence[TeacherFile], graph_path: Path, settings: ExportSettings
) -> ExportPlan:
    """Return the plan of teachers that are open already, as `plan_export` does."""
    if not teachers:
        raise UsageError("there is no teacher to export", "name one at least")
    graph = open_graph(graph_path)
    for teacher in teachers:
        check_graph_of(teacher, str(graph.facts["name"]), graph.fingerprint)
    check_together(teachers)
    _check_chosen(len(teachers), settings)
    first = teachers[0]
    if not first.hidden and {"pre_layers", "edge_scores", "codes"} & set(settings.signals):
        raise InputError(
            f"teacher {first.artifact.path} has no hidden layer, so there are no pre layers, edge "
            "scores or codes",
            "teach with more model.layers, or another teacher",
        )
    classes = len(graph.facts["classes"])
    if settings.topk is not None:
        check_one_choice(graph.facts["task"])
    if settings.topk is not None and settings.topk > classes:
        raise UsageError(
            f"topk {settings.topk} is more than the {classes} classes of {graph_path}",
            "choose a smaller one",
        )
    inputs = {**digests_of(teachers), "graph": graph.fingerprint}
    return ExportPlan(tuple(teachers), graph, settings, inputs)


def _check_chosen(teachers: int, settings: ExportSettings) -> None:
    """Raise UsageError unless `logits_from` names teachers that are there, and no other idles."""
    if settings.logits_from == "all":
        return
    beyond = [i for i in settings.logits_from if i > teachers]
    if beyond:
        raise UsageError(
            f"logits_from names teacher {beyond[0]}, and there are {teachers}",
            f"choose from 1 … {teachers}",
        )
    idle = [i for i in range(2, teachers + 1) if i not in settings.logits_from]
    if idle:
        raise UsageError(
            f"teacher {idle[0]} gives neither layers, as the first does, nor logits",
            "leave it out, or name it in logits_from",
        )
