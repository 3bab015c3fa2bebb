"""A cache from a teacher that was trained elsewhere: its logits and layers, row by row.

Features, edges, labels and the split come from a graph artefact, as in an export. Every row is
matched to its node by id, so that no order of a file has to be trusted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from g2t.artifact import Artifact, content_digest, file_digest, write_json
from g2t.cache.assemble import assemble
from g2t.cache.describe import figures
from g2t.cache.format import (
    FEATURES,
    GRAPH,
    LOGITS,
    MANIFEST,
    SHARD_ROWS,
    DtypeName,
    Manifest,
    NamedDigest,
    SplitEntry,
    TeacherEntry,
    TensorEntry,
    layer_name,
)
from g2t.cache.matching import places, refuse_not_finite
from g2t.cache.rowfile import Ids, RowFile, open_rows, read_ids
from g2t.cache.writer import CacheWriter
from g2t.config import Settings
from g2t.errors import InputError, UsageError
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import Csr, take_rows
from g2t.graph.splits import Split, hide_test_labels, make_split
from g2t.graph.structure import induced
from g2t.runtime import Progress, Silent
from g2t.stage import Stage
from g2t.task import Task


class OutsideSettings(Settings):
    """Settings of `g2t cache import`."""

    split: str = Field(description="as in g2t teach, with its last number")
    teacher_name: str = Field("outside", min_length=1, description="how results call the teacher")
    scaling: Literal["raw", "row"] = Field("raw", description="how the teacher saw the features")
    dtype: DtypeName = Field("fp16", description="type of layers and logits")
    ids_column: str | None = Field(None, description="column of ids in Parquet files")
    shard_rows: int = Field(SHARD_ROWS, ge=1)


@dataclass(frozen=True)
class OutsideFiles:
    """Where the parts lie: a graph artefact, and files of rows; `ids` names the rows of all."""

    graph: Path
    logits: Path
    layers: Sequence[Path] = ()
    ids: Path | None = None

    def by_role(self) -> dict[str, Path]:
        """Return the user's own files by their role."""
        files = {f"layer-{i}": path for i, path in enumerate(self.layers, 1)}
        files |= {"logits": self.logits}
        return files if self.ids is None else {**files, "ids": self.ids}


def import_cache(
    files: OutsideFiles,
    out: Path,
    settings: OutsideSettings,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Write the cache of a teacher of which there are only the answers.

    Rows follow the ids; without any, they are in the order of the graph's nodes. Raises InputError,
    naming the first id, for a row that is missing, there twice, of an unknown node or not finite,
    and for a width that does not fit.
    """
    plan = plan_import(files, settings)
    show = progress or Silent()
    config = settings.model_dump(mode="json")
    with Stage(out, "cache", config, plan.inputs, 0, force) as stage:
        if stage.finished:
            show.note(f"{out} is done already")
            return stage.finished
        if _are_probabilities(plan.answers[LOGITS].rows, plan.graph.task):
            wanted = "log p - log(1 - p)" if plan.graph.task == "multilabel" else "their logarithms"
            show.note(f"{files.logits} looks like probabilities; logits are {wanted}")
        writer = CacheWriter(stage.path, len(plan.split.nodes), settings.shard_rows)
        _write_answers(writer, plan, show)
        manifest = _write_graph(writer, plan)
        write_json(stage.path / MANIFEST, manifest.content())
        return stage.commit(figures(manifest), writer.identity)


@dataclass(frozen=True)
class Answers:
    """Rows of a file, and which of them belongs to each row of the cache, int64 [N]."""

    rows: RowFile
    place_N: Tensor


@dataclass(frozen=True)
class OutsidePlan:
    """An import before it starts: all files open, and every node's row found."""

    graph: Graph
    split: Split
    settings: OutsideSettings
    answers: dict[str, Answers]
    inputs: dict[str, str]

    @property
    def teacher_digest(self) -> str:
        """The identity of a teacher of which only the answers are known: theirs."""
        return content_digest({role: self.inputs[role] for role in self.inputs if role != "graph"})


def plan_import(files: OutsideFiles, settings: OutsideSettings) -> OutsidePlan:
    """Open graph and files and match their rows; raises InputError where one does not fit."""
    graph = read_graph(files.graph)
    split = make_split(graph, settings.split)
    inputs = {"graph": graph.fingerprints()["graph"]}
    for role, path in files.by_role().items():
        try:
            inputs[role] = f"xxh3_128:{file_digest(path)}"
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
    opened = {layer_name(i): path for i, path in enumerate(files.layers, 1)}
    rows = {
        name: open_rows(path, settings.ids_column)
        for name, path in {**opened, LOGITS: files.logits}.items()
    }
    if rows[LOGITS].width != len(graph.classes):
        raise InputError(
            f"{files.logits} has {rows[LOGITS].width} columns, graph {graph.name} has "
            f"{len(graph.classes)} classes",
            f"logits have one column per class, in this order: {', '.join(graph.classes[:5])} …",
        )
    if settings.ids_column is not None and all(file.ids is None for file in rows.values()):
        raise UsageError("--ids-column is for Parquet files", "give the ids of .npy with --ids")
    common = None if files.ids is None else (files.ids, read_ids(files.ids))
    answers = {
        name: Answers(file, _places(graph, split, file, common)) for name, file in rows.items()
    }
    return OutsidePlan(graph, split, settings, answers, inputs)


def _places(graph: Graph, split: Split, file: RowFile, common: tuple[Path, Ids] | None) -> Tensor:
    """Return which row of a file belongs to each node of the split, int64 [N]."""
    if file.ids is not None:
        return places(graph, split.nodes, file.ids, file.path)
    if common is None:
        if len(file) != graph.nodes:
            raise InputError(
                f"{file.path} has {len(file)} rows, graph {graph.name} has {graph.nodes} nodes",
                "without ids there must be one row per node; name the rows with --ids FILE",
            )
        return split.nodes
    where, ids = common
    if len(ids) != len(file):
        raise InputError(f"{where} has {len(ids)} ids, {file.path} has {len(file)} rows")
    return places(graph, split.nodes, ids, where)


def _are_probabilities(file: RowFile, task: Task) -> bool:
    """Tell whether the first rows are shares of one, or each in 0 … 1 for several labels."""
    rows = np.asarray(file.values[:1000], dtype=np.float64)
    inside = bool(((rows >= 0) & (rows <= 1)).all())
    return inside and (task == "multilabel" or np.allclose(rows.sum(1), 1, atol=1e-2))


def _write_answers(writer: CacheWriter, plan: OutsidePlan, progress: Progress) -> None:
    total = len(plan.answers) * writer.shards
    for nth, (name, answers) in enumerate(plan.answers.items()):
        for index in range(writer.shards):
            if not writer.is_done(name, index):
                rows = _read(plan, answers, *writer.span(index))
                writer.write_rows(name, index, rows, plan.settings.dtype)
            progress.update("import", nth * writer.shards + index + 1, total, {})


def _read(plan: OutsidePlan, answers: Answers, start: int, stop: int) -> Tensor:
    """Return rows [start, stop) of the cache to be, float32."""
    values, path = answers.rows.values, answers.rows.path
    with np.errstate(over="ignore"):
        rows_BW = values[answers.place_N[start:stop].numpy()].astype(np.float32)
    refuse_not_finite(plan.graph, plan.split.nodes[start:stop], rows_BW, path)
    return torch.from_numpy(rows_BW)


def _write_graph(writer: CacheWriter, plan: OutsidePlan) -> Manifest:
    """Write features and graph part; return the whole manifest."""
    graph, split, settings = plan.graph, plan.split, plan.settings
    for index in range(writer.shards):
        if not writer.is_done(FEATURES, index):
            block = take_rows(graph.features, split.nodes[slice(*writer.span(index))])
            if isinstance(block, Csr):
                writer.write_sparse(FEATURES, index, block)
            else:
                writer.write_rows(FEATURES, index, block, "fp32")
    writer.write_file(GRAPH, _graph_tensors(graph, split))
    kind: Literal["dense", "csr"] = "csr" if isinstance(graph.features, Csr) else "dense"
    wanted = [TensorEntry(name=FEATURES, kind=kind, width=graph.features.shape[1], dtype="fp32")]
    for name, answers in plan.answers.items():
        wanted.append(TensorEntry(name=name, width=answers.rows.width, dtype=settings.dtype))
    lineage = {
        "task": graph.task,
        "metric": graph.metric,
        "classes": graph.classes,
        "feature_names": graph.feature_names,
        "graph": NamedDigest(name=graph.name, digest=plan.inputs["graph"]),
        "split": SplitEntry.model_validate(split.facts),
        "teacher": TeacherEntry(
            name=settings.teacher_name,
            digest=plan.teacher_digest,
            layers=len(plan.answers) - 1,
            scaling=settings.scaling,
        ),
    }
    return assemble(writer, wanted, lineage)


def _graph_tensors(graph: Graph, split: Split) -> dict[str, Tensor]:
    """Return ids, training and validation labels, split and edges by the rows of the cache."""
    nodes, parts = split.nodes, split.parts
    edges = induced(graph.edges, nodes)
    return {
        "ids": nodes,
        "labels": hide_test_labels(graph, split).labels[nodes],
        "train": torch.searchsorted(nodes, parts.train),
        "val": torch.searchsorted(nodes, parts.val),
        "test": torch.searchsorted(nodes, parts.test),
        "edges.start": edges.start_N,
        "edges.column": edges.column_E,
        "degrees": edges.counts_N,
    }
