"""The cache format, version 1: what the manifest says. `data/CACHE_FORMAT.md` is the specification.

A cache is a directory of safetensors shards, one tensor kind per file, rows [start, stop). Row r
belongs to the r-th id of `graph.safetensors`, and those ids ascend, so rows cannot be permuted
without showing. `manifest.json` names every shard with its rows, bytes and digest.
"""

from typing import Any, Literal, get_args

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from g2t.artifact import content_digest
from g2t.config import Settings
from g2t.graph.splits import Setting
from g2t.metrics import Metric
from g2t.task import Task

SCHEMA = "g2t.cache/1"
MANIFEST = "manifest.json"
GRAPH = "graph.safetensors"
PROJECTION = "projection.safetensors"
SHARD_ROWS = 65_536

#: Types that a user may choose for what the teacher says.
DtypeName = Literal["fp32", "fp16", "bf16", "int8"]
#: Types that a shard may have.
StoredDtype = Literal["fp32", "fp16", "bf16", "int8", "int16", "int32"]
DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
}

#: `dense`: NAME [rows, W]; `csr`: features.start|column|value; `topk`: NAME.value and NAME.index
#: [rows, k], NAME.rest [rows]; `edge`: NAME, one value per in-edge of the rows.
Kind = Literal["dense", "csr", "topk", "edge"]


class TensorEntry(Settings):
    """One tensor of the cache: `features`, `tokens-1` …, `teacher-h1` …, `teacher-logits`, ….

    `width` is the number of columns once decoded, `topk` how many of them a row of logits keeps;
    `relative_error` is the largest error of the type over the largest magnitude.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    kind: Kind = "dense"
    width: int = Field(ge=1)
    dtype: StoredDtype
    topk: int | None = Field(None, ge=1)
    relative_error: float = Field(0.0, ge=0, allow_inf_nan=False)


class ShardEntry(Settings):
    """Rows [start, stop) of one tensor, in one file."""

    tensor: str
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    start: int = Field(ge=0)
    stop: int = Field(ge=0)
    bytes: int = Field(ge=0)
    xxh3_128: str = Field(pattern=r"^[0-9a-f]{32}$")


class NamedDigest(Settings):
    """A thing and its identity."""

    name: str
    digest: str


class SplitEntry(NamedDigest):
    """A split and its identity; in production also what the held-out test nodes were drawn from.

    The transductive setting is written by leaving both out, as before there was another.
    """

    setting: Setting = "transductive"
    seed: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "SplitEntry":
        if (self.setting == "production") != (self.seed is not None):
            raise ValueError("the production setting, and no other, has a seed")
        return self

    @model_serializer(mode="wrap")
    def _shortened(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        if self.seed is None:
            del written["setting"], written["seed"]
        return written


class TeacherEntry(Settings):
    """The teacher that wrote the layers, and how it saw the features."""

    name: str
    digest: str
    layers: int = Field(ge=0)
    scaling: Literal["raw", "row"]


Role = Literal["layers", "logits"]


class MemberEntry(Settings):
    """One of several teachers, and what of the cache is its own or has its part in it."""

    name: str
    digest: str
    roles: tuple[Role, ...]


class BeforeAfter(Settings):
    """A figure of the logits z as they are, and of z / T."""

    before: float = Field(ge=0, allow_inf_nan=False)
    after: float = Field(ge=0, allow_inf_nan=False)


class Temperature(Settings):
    """The T that makes z / T likeliest on validation nodes; told, and applied to nothing.

    `nodes` is how many there were, `nll` the mean negative log-likelihood, `calibration_error` the
    expected one over 15 bins of confidence (Guo et al. 2017).
    """

    value: float = Field(gt=0, allow_inf_nan=False)
    nodes: int = Field(ge=1)
    nll: BeforeAfter
    calibration_error: BeforeAfter


class Manifest(Settings):
    """`manifest.json`.

    `teacher` gave the layers; where there were several, `teachers` lists all, it first.
    `feature_names` are those of the columns, before any projection, where the graph has some.
    """

    schema_: Literal["g2t.cache/1"] = Field("g2t.cache/1", alias="schema")
    rows: int = Field(ge=1)
    shard_rows: int = Field(ge=1)
    hops: int = Field(0, ge=0, description="hop tokens beyond the node itself")
    task: Task
    metric: Metric
    classes: tuple[str, ...]
    feature_names: tuple[str, ...] | None = None
    graph: NamedDigest
    split: SplitEntry
    teacher: TeacherEntry
    teachers: tuple[MemberEntry, ...] | None = None
    temperature: Temperature | None = None
    graph_file: ShardEntry
    projection_file: ShardEntry | None = None
    tensors: tuple[TensorEntry, ...]
    shards: tuple[ShardEntry, ...]

    def content(self) -> dict[str, Any]:
        """Return the JSON of `manifest.json`; it does not name what only some caches have."""
        content = self.model_dump(mode="json", by_alias=True)
        some = ("feature_names", "teachers", "temperature")
        return {key: content[key] for key in content if key not in some or content[key] is not None}

    @property
    def members(self) -> tuple[MemberEntry, ...]:
        """All teachers, the one that gave the layers first."""
        if self.teachers is not None:
            return self.teachers
        alone = self.teacher
        return (MemberEntry(name=alone.name, digest=alone.digest, roles=("layers", "logits")),)

    @property
    def speakers(self) -> tuple[int, ...]:
        """The positions in `members`, from 0, of those whose mean the logits are."""
        return tuple(i for i, member in enumerate(self.members) if "logits" in member.roles)

    @property
    def speaker_names(self) -> str:
        """The names of those whose mean the logits are."""
        return " + ".join(self.members[i].name for i in self.speakers)

    def tensor(self, name: str) -> TensorEntry | None:
        """Return the entry of a tensor, None if the cache has none of that name."""
        return next((entry for entry in self.tensors if entry.name == name), None)

    def shards_of(self, name: str) -> list[ShardEntry]:
        """Return a tensor's shards in the order of their rows."""
        return sorted((s for s in self.shards if s.tensor == name), key=lambda s: s.start)

    def files(self) -> list[ShardEntry]:
        """Return every file of the cache that the manifest answers for."""
        alone = [self.graph_file, self.projection_file]
        return [entry for entry in alone if entry is not None] + list(self.shards)

    def digest_of(self, name: str) -> str:
        """Identity of one tensor: students record it, so that adding a signal changes nothing."""
        alone = {"graph": self.graph_file, "projection": self.projection_file}
        entry = alone.get(name)
        shards = self.shards_of(name) if entry is None else [entry]
        return content_digest([[s.start, s.stop, s.xxh3_128] for s in shards])


def shard_name(tensor: str, index: int) -> str:
    """Return the file name of a tensor's shard."""
    return f"{tensor}-{index:05d}.safetensors"


def layer_name(layer: int) -> str:
    """Return the tensor name of teacher layer 1 … L."""
    return f"teacher-h{layer}"


def pre_layer_name(layer: int) -> str:
    """Return the tensor name of teacher layer 1 … L before its activation."""
    return f"teacher-p{layer}"


def token_name(hop: int) -> str:
    """Return the tensor name of the hop token Â^hop x, hop >= 1 (0 with a projection)."""
    return f"tokens-{hop}"


#: What a loss may ask a cache to hold, in the order in which it is listed; `clusters` are of the
#: graph, all else of the teacher. `pre_layers` are the layers before their activation.
Signal = Literal[
    "layers", "pre_layers", "logits", "edge_scores", "reliability", "codes", "clusters"
]
SIGNALS: tuple[Signal, ...] = get_args(Signal)

LOGITS = "teacher-logits"
EDGE_SCORES = "teacher-edge-scores"
RELIABILITY = "teacher-reliability"
CODES = "teacher-codes"
CLUSTERS = "clusters"
FEATURES = "features"

_LAYERS = {"layers": layer_name, "pre_layers": pre_layer_name}
_TENSORS = {
    "logits": LOGITS,
    "edge_scores": EDGE_SCORES,
    "reliability": RELIABILITY,
    "codes": CODES,
    "clusters": CLUSTERS,
}


def tensors_of(signal: str, layers: int) -> list[str]:
    """Return the tensors that hold a signal; `layers` is how many hidden ones the teacher has.

    Labels and edges, which are no signals, are in none of them.
    """
    if signal in _LAYERS:
        return [_LAYERS[signal](layer) for layer in range(1, layers + 1)]
    return [_TENSORS[signal]] if signal in _TENSORS else []
