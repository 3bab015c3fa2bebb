"""Teacher + graph → cache: every layer and the logits, once, so that the GNN never runs again.

The teacher's forward is taken over the whole graph here; `trace` is the seam where a layer-wise,
out-of-core route can stand in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from g2t.artifact import Artifact, write_json
from g2t.cache.format import (
    FEATURES,
    GRAPH,
    LOGITS,
    MANIFEST,
    SHARD_ROWS,
    DtypeName,
    Manifest,
    NamedDigest,
    TeacherEntry,
    TensorEntry,
    layer_name,
    token_name,
)
from g2t.cache.writer import CacheWriter
from g2t.config import Settings
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import Features, take_rows
from g2t.graph.splits import hide_test_labels
from g2t.graph.structure import induced, project_dense, propagation
from g2t.runtime import Progress, Silent
from g2t.stage import Stage
from g2t.teacher.forward import check_graph_of, trace
from g2t.teacher.store import Teacher, read_teacher


class ExportSettings(Settings):
    """Settings of `g2t export-features`."""

    dtype: DtypeName = Field(
        "fp16", description="type of layers, logits, and tokens of sparse features"
    )
    hops: int = Field(0, ge=0, description="write hop tokens Âx … Â^hops x")
    shard_rows: int = Field(SHARD_ROWS, ge=1)


def export(
    teacher_path: Path,
    graph_path: Path,
    out: Path,
    settings: ExportSettings,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Write the cache of a teacher.

    Raises InputError and IntegrityError where teacher or graph is missing, damaged, or not of each
    other, and InputError where a value does not fit the type.
    """
    plan = plan_export(teacher_path, graph_path, settings)
    show = progress or Silent()
    with Stage(out, "cache", settings.model_dump(mode="json"), plan.inputs, 0, force) as stage:
        if stage.finished:
            show.note(f"{out} is done already")
            return stage.finished
        writer = CacheWriter(stage.path, len(plan.teacher.split.nodes), settings.shard_rows)
        _write_tensors(writer, plan, show)
        manifest = _write_graph(writer, plan)
        write_json(stage.path / MANIFEST, manifest.model_dump(mode="json", by_alias=True))
        return stage.commit(_summary(manifest), writer.identity)


@dataclass(frozen=True)
class ExportPlan:
    """An export before it starts: a teacher, and the graph that it was taught on."""

    teacher: Teacher
    graph: Graph
    settings: ExportSettings
    inputs: dict[str, str]

    def dtype_of(self, name: str) -> DtypeName:
        """Return the type that a tensor is stored in.

        Students normalise what they read of a node and meet it again, uncached, when they serve:
        features and the tokens of dense features stay exact, only what the teacher says may not.
        """
        dense = isinstance(self.graph.features, Tensor)
        return (
            "fp32"
            if name == FEATURES or (name.startswith("tokens") and dense)
            else self.settings.dtype
        )

    def widths(self) -> dict[str, int]:
        """Return the columns of every dense tensor to come (tokens: of all hops together)."""
        model = self.teacher.facts["model"]
        widths = {layer_name(i): model["hidden"] for i in range(1, self.teacher.model.hidden + 1)}
        widths[LOGITS] = len(self.graph.classes)
        widths[FEATURES] = self.graph.features.shape[1]
        for hop in range(1, self.settings.hops + 1):
            widths[token_name(hop)] = widths[FEATURES]
        return widths


def plan_export(teacher_path: Path, graph_path: Path, settings: ExportSettings) -> ExportPlan:
    """Open teacher and graph; raises IntegrityError unless the teacher learned from this graph."""
    teacher, graph = read_teacher(teacher_path), read_graph(graph_path)
    check_graph_of(teacher, graph)
    fingerprint = teacher.facts["graph"]["fingerprint"]
    return ExportPlan(
        teacher, graph, settings, {"teacher": teacher.artifact.digest, "graph": fingerprint}
    )


def _write_tensors(writer: CacheWriter, plan: ExportPlan, progress: Progress) -> None:
    teacher, graph, hops = plan.teacher, plan.graph, plan.settings.hops
    nodes = teacher.split.nodes
    known = trace(teacher, graph)
    features = take_rows(graph.features, nodes)
    tensors: dict[str, Features] = {layer_name(i): layer for i, layer in enumerate(known.layers, 1)}
    tensors |= {LOGITS: known.logits_NC, FEATURES: features}
    if hops:
        operator = propagation(induced(graph.edges, nodes))
        tokens_NKF = project_dense(features, operator, hops)
        tensors |= {token_name(hop): tokens_NKF[:, hop - 1] for hop in range(1, hops + 1)}
    for done, (name, rows) in enumerate(tensors.items(), 1):
        for index in range(writer.shards):
            if writer.is_done(name, index):
                continue
            block = take_rows(rows, torch.arange(*writer.span(index)))
            if isinstance(block, Tensor):
                writer.write_rows(name, index, block, plan.dtype_of(name))
            else:
                writer.write_sparse(name, index, block)
        progress.update("export", done, len(tensors), {})


def _write_graph(writer: CacheWriter, plan: ExportPlan) -> Manifest:
    """Write ids, training and validation labels, split and edges; return the whole manifest."""
    teacher, graph, settings = plan.teacher, plan.graph, plan.settings
    split = teacher.split
    nodes, parts = split.nodes, split.parts
    edges = induced(graph.edges, nodes)
    tensors = {
        "ids": nodes,
        "labels": hide_test_labels(graph, split).labels[nodes],
        "train": torch.searchsorted(nodes, parts.train),
        "val": torch.searchsorted(nodes, parts.val),
        "test": torch.searchsorted(nodes, parts.test),
        "edges.start": edges.start_N,
        "edges.column": edges.column_E,
        "degrees": edges.counts_N,
    }
    writer.write_file(GRAPH, tensors)
    entries = []
    for name, width in plan.widths().items():
        kind = "csr" if name == FEATURES and not isinstance(graph.features, Tensor) else "dense"
        entry = TensorEntry(name=name, kind=kind, width=width, dtype=plan.dtype_of(name))
        entries.append(writer.entries(entry))
    return Manifest(
        schema="g2t.cache/1",
        rows=len(nodes),
        shard_rows=settings.shard_rows,
        hops=settings.hops,
        task=graph.task,
        metric=graph.metric,
        classes=graph.classes,
        graph=NamedDigest(name=graph.name, digest=plan.inputs["graph"]),
        split=NamedDigest(name=split.name, digest=split.digest),
        teacher=TeacherEntry(
            name=teacher.name,
            digest=teacher.artifact.digest,
            layers=teacher.model.hidden,
            scaling=teacher.facts["features"]["scaling"],
        ),
        graph_file=writer.file_entry("graph", GRAPH, 0, len(nodes)),
        tensors=tuple(entry for entry, _ in entries),
        shards=tuple(shard for _, shards in entries for shard in shards),
    )


def _summary(manifest: Manifest) -> Mapping[str, Any]:
    return {
        "rows": manifest.rows,
        "bytes": sum(file.bytes for file in manifest.files()),
        "relative_error": {entry.name: entry.relative_error for entry in manifest.tensors},
    }
