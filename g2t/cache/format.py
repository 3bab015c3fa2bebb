"""The cache format, version 1: what the manifest says.

A cache is a directory of safetensors shards, one tensor kind per file, rows [start, stop). Row r
belongs to the r-th id of `graph.safetensors`, and those ids ascend, so rows cannot be permuted
without showing. `manifest.json` names every shard with its rows, bytes and digest.
"""

from typing import Literal

import torch
from pydantic import Field

from g2t.artifact import content_digest
from g2t.config import Settings
from g2t.metrics import Metric

SCHEMA = "g2t.cache/1"
MANIFEST = "manifest.json"
GRAPH = "graph.safetensors"
SHARD_ROWS = 65_536

DtypeName = Literal["fp32", "fp16", "bf16"]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TensorEntry(Settings):
    """One tensor of the cache: `features`, `tokens`, `teacher-h1` … or `teacher-logits`.

    `width` is the number of columns (for tokens: of one token); `relative_error` is the largest
    error of the type over the largest magnitude.
    """

    name: str
    kind: Literal["dense", "csr"] = "dense"
    width: int = Field(ge=1)
    dtype: DtypeName
    relative_error: float = 0.0


class ShardEntry(Settings):
    """Rows [start, stop) of one tensor, in one file."""

    tensor: str
    file: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    start: int = Field(ge=0)
    stop: int = Field(ge=0)
    bytes: int = Field(ge=0)
    xxh3_128: str = Field(pattern=r"^[0-9a-f]{32}$")


class NamedDigest(Settings):
    """A thing and its identity."""

    name: str
    digest: str


class TeacherEntry(Settings):
    """The teacher that wrote the layers, and how it saw the features."""

    name: str
    digest: str
    layers: int = Field(ge=0)
    scaling: Literal["raw", "row"]


class Manifest(Settings):
    """`manifest.json`."""

    schema_: Literal["g2t.cache/1"] = Field("g2t.cache/1", alias="schema")
    rows: int = Field(ge=1)
    shard_rows: int = Field(ge=1)
    hops: int = Field(0, ge=0, description="hop tokens beyond the node itself")
    task: Literal["binary", "multiclass"]
    metric: Metric
    classes: tuple[str, ...]
    graph: NamedDigest
    split: NamedDigest
    teacher: TeacherEntry
    graph_file: ShardEntry
    tensors: tuple[TensorEntry, ...]
    shards: tuple[ShardEntry, ...]

    def tensor(self, name: str) -> TensorEntry | None:
        """Return the entry of a tensor, None if the cache has none of that name."""
        return next((entry for entry in self.tensors if entry.name == name), None)

    def shards_of(self, name: str) -> list[ShardEntry]:
        """Return a tensor's shards in the order of their rows."""
        return sorted((s for s in self.shards if s.tensor == name), key=lambda s: s.start)

    def digest_of(self, name: str) -> str:
        """Identity of one tensor: students record it, so that adding a signal changes nothing."""
        shards = [self.graph_file] if name == "graph" else self.shards_of(name)
        return content_digest([[s.start, s.stop, s.xxh3_128] for s in shards])


def shard_name(tensor: str, index: int) -> str:
    """Return the file name of a tensor's shard."""
    return f"{tensor}-{index:05d}.safetensors"


def layer_name(layer: int) -> str:
    """Return the tensor name of teacher layer 1 … L."""
    return f"teacher-h{layer}"


LOGITS = "teacher-logits"
FEATURES = "features"
TOKENS = "tokens"
