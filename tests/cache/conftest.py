"""Caches of every kind of tensor, written without a teacher: what they hold is known exactly."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from g2t.artifact import write_json
from g2t.cache.check import open_cache
from g2t.cache.format import (
    CLUSTERS,
    CODES,
    EDGE_SCORES,
    GRAPH,
    MANIFEST,
    PROJECTION,
    RELIABILITY,
    Manifest,
    NamedDigest,
    SplitEntry,
    TeacherEntry,
    TensorEntry,
)
from g2t.cache.reader import Cache
from g2t.cache.writer import CacheWriter
from g2t.graph.bundle import read_graph
from g2t.graph.csr import Csr, compact, from_pairs
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.stage import Stage
from tests.cache import outside

NODES, WIDTH, CLASSES, SHARD_ROWS = 50, 12, 5, 20


@dataclass(frozen=True)
class Made:
    """A cache on disk and what was written into it, in full precision."""

    path: Path
    values: dict[str, Tensor]

    def open(self) -> Cache:
        return open_cache(self.path)


MakeCache = Callable[..., Made]


def made_values(sparse: bool) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    features = torch.randn(NODES, WIDTH, generator=draw)
    if sparse:
        features[torch.rand(NODES, WIDTH, generator=draw) > 0.1] = 0
    return {
        "features": features,
        "tokens-1": torch.randn(NODES, WIDTH, generator=draw),
        "tokens-2": torch.randn(NODES, WIDTH, generator=draw),
        "teacher-h1": torch.randn(NODES, 8, generator=draw).relu(),
        "teacher-h2": 30 * torch.randn(NODES, 6, generator=draw),
        "teacher-logits": 4 * torch.randn(NODES, CLASSES, generator=draw),
        RELIABILITY: torch.rand(NODES, 1, generator=draw),
    }


def write_tensors(
    writer: CacheWriter, values: dict[str, Tensor], edges: Csr, dtype: Any, topk: int | None
) -> list[TensorEntry]:
    entries = []
    for name, rows in values.items():
        sparse = compact(rows) if name == "features" else rows
        kept = topk if name == "teacher-logits" else None
        own: Any = "fp32" if name in ("features", RELIABILITY) else dtype
        kind = "csr" if isinstance(sparse, Csr) else "dense" if kept is None else "topk"
        entry = {"name": name, "kind": kind, "width": rows.shape[1], "dtype": own, "topk": kept}
        entries.append(TensorEntry.model_validate(entry))
        for index in range(writer.shards):
            start, stop = writer.span(index)
            if isinstance(sparse, Csr):
                writer.write_sparse(name, index, sparse.rows(torch.arange(start, stop)))
            else:
                writer.write_rows(name, index, rows[start:stop], own, kept)
    entries.append(TensorEntry(name=CODES, width=2, dtype="int16"))
    entries.append(TensorEntry(name=CLUSTERS, width=1, dtype="int32"))
    entries.append(TensorEntry(name=EDGE_SCORES, kind="edge", width=1, dtype="fp16"))
    for index in range(writer.shards):
        start, stop = writer.span(index)
        codes = torch.arange(start, stop)[:, None].short() % torch.tensor([3, 4]).short()
        writer.write(CODES, index, {CODES: codes}, 0.0)
        clusters = 40_000 + torch.arange(start, stop, dtype=torch.int32)[:, None] // 7
        writer.write(CLUSTERS, index, {CLUSTERS: clusters}, 0.0)
        scores = torch.linspace(-1, 1, len(edges.column_E)).half()
        own_E = scores[edges.start_N[start] : edges.start_N[stop]]
        writer.write(EDGE_SCORES, index, {EDGE_SCORES: own_E}, 0.0)
    return entries


@pytest.fixture
def make_cache(tmp_path: Path) -> MakeCache:
    """Make a cache of 50 nodes in 3 shards: `make_cache(sparse=, …)`.

    `loud`: the second layer leaves the range of fp16.
    """
    count = iter(range(100))

    def make(
        sparse: bool = False,
        projected: bool = False,
        loud: bool = False,
        dtype: Any = "fp32",
        topk: int | None = None,
    ) -> Made:
        values = made_values(sparse)
        if loud:
            values["teacher-h2"] *= 1e5
        if projected:
            values |= {f"tokens-{hop}": torch.randn(NODES, 4) for hop in range(3)}
        out, seed = tmp_path / f"made-{next(count)}", torch.Generator().manual_seed(1)
        ends = torch.randint(0, NODES, (2, 130), generator=seed)
        edges = from_pairs(ends[0], ends[1], NODES)
        labels = torch.full((NODES,), -1)
        labels[:20] = torch.arange(20) % CLASSES
        part = {
            "train": torch.arange(10),
            "val": torch.arange(10, 20),
            "test": torch.arange(25, 50),
        }
        graph = {"ids": torch.arange(NODES) * 2 + 1, "labels": labels, **part}
        graph |= {"edges.start": edges.start_N, "edges.column": edges.column_E}
        with Stage(out, "cache", {"made": "by hand"}, {"graph": "sha256:01"}, 0) as stage:
            writer = CacheWriter(stage.path, NODES, SHARD_ROWS)
            entries = write_tensors(writer, values, edges, dtype, topk)
            described = [writer.entries(entry) for entry in entries]
            writer.write_file(GRAPH, {**graph, "degrees": edges.counts_N})
            projection = None
            if projected:
                writer.write_file(PROJECTION, {"projection": torch.randn(WIDTH, 4)})
                projection = writer.file_entry("projection", PROJECTION, 0, WIDTH)
            scaling: Literal["raw"] = "raw"
            manifest = Manifest(
                schema="g2t.cache/1",
                rows=NODES,
                shard_rows=SHARD_ROWS,
                hops=2,
                task="multiclass",
                metric="accuracy",
                classes=tuple("abcde"),
                graph=NamedDigest(name="by hand", digest="sha256:01"),
                split=SplitEntry(name="public", digest="sha256:02"),
                teacher=TeacherEntry(name="gcn", digest="sha256:03", layers=2, scaling=scaling),
                graph_file=writer.file_entry("graph", GRAPH, 0, NODES),
                projection_file=projection,
                tensors=tuple(entry for entry, _ in described),
                shards=tuple(shard for _, shards in described for shard in shards),
            )
            write_json(stage.path / MANIFEST, manifest.content())
            stage.commit({}, writer.identity)
        return Made(out, values)

    return make


@pytest.fixture(scope="session")
def graph_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated graph, for answers of a teacher from elsewhere."""
    out = tmp_path_factory.mktemp("graph") / "graph"
    csbm = {
        "nodes": outside.NODES,
        "degree": 5.0,
        "classes": outside.CLASSES,
        "features": 8,
        "noise": 0.3,
    }
    return import_graph("synthetic:csbm", out, csbm, None, Silent(), False).path


@pytest.fixture(scope="session")
def named_path(graph_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same graph with ids of the user's own, and sparse features."""
    graph = read_graph(graph_path)
    assert isinstance(graph.features, Tensor)
    features = graph.features.clone()
    features[features.abs() < features.abs().quantile(0.9)] = 0
    ids = tuple(f"paper {node:03d}" for node in range(outside.NODES))
    named = replace(graph, features=compact(features), ids=ids)
    return outside.store(named, tmp_path_factory.mktemp("named") / "graph")
