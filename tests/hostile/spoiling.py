"""Sound caches written from the specification alone, and the tools to spoil them.

`write_cache` uses nothing of `g2t.cache`, so that what reads a cache is not tested against what
wrote it. `sign` is a careful forger: after it, every digest fits again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

ROWS, SHARD, CLASSES, WIDTH = 60, 20, 3, 8
LOGITS, LAYER, FEATURES, TOKENS = "teacher-logits", "teacher-h1", "features", "tokens-1"
EDGES, CODES = "teacher-edge-scores", "teacher-codes"
MANIFEST, RECORD, GRAPH = "manifest.json", "run.json", "graph.safetensors"

Edit = Callable[[Path], object]
#: `plain`: dense fp32 and fp16; `compact`: sparse features, an int8 layer, top-2 logits.
Kind = Literal["plain", "compact"]


@dataclass(frozen=True)
class Case:
    """A way to spoil a sound cache, and what must be said of it."""

    edit: Edit
    said: str
    kind: Kind = "plain"
    code: int = 4


def file_of(tensor: str, shard: int = 0) -> str:
    return f"{tensor}-{shard:05d}.safetensors"


# Writing.


def write_cache(folder: Path, kind: Kind = "plain", seed: int = 0) -> Path:
    """Write a sound cache of 60 nodes on a ring, three shards per tensor."""
    folder.mkdir(parents=True)
    draw = torch.Generator().manual_seed(seed)
    ring_V2 = torch.stack([torch.arange(-1, ROWS - 1), torch.arange(1, ROWS + 1)], 1) % ROWS
    labels = torch.full((ROWS,), -1)
    labels[:30] = torch.arange(30) % CLASSES
    save_file(
        {
            "ids": torch.arange(ROWS) * 2,
            "labels": labels,
            "degrees": torch.full((ROWS,), 2),
            "edges.start": torch.arange(ROWS + 1) * 2,
            "edges.column": ring_V2.sort(1).values.flatten().int(),
            "train": torch.arange(20),
            "val": torch.arange(20, 30),
            "test": torch.arange(30, 50),
        },
        folder / GRAPH,
    )
    tensors = [_tensor(name, kind) for name in (FEATURES, TOKENS, LAYER, LOGITS, EDGES, CODES)]
    shards = []
    for entry in tensors:
        for index, start in enumerate(range(0, ROWS, SHARD)):
            file = file_of(entry["name"], index)
            facts = {"tensor": entry["name"], "start": start, "stop": start + SHARD}
            save_file(_shard(entry, draw), folder / file, {"g2t": json.dumps(facts)})
            shards.append({**facts, "file": file})
    manifest = {
        "schema": "g2t.cache/1",
        "rows": ROWS,
        "shard_rows": SHARD,
        "hops": 1,
        "task": "multiclass",
        "metric": "accuracy",
        "classes": ["a", "b", "c"],
        "graph": {"name": "ring", "digest": f"sha256:{seed}"},
        "split": {"name": "random", "digest": "sha256:1"},
        "teacher": {"name": "gcn", "digest": f"sha256:{seed}", "layers": 1, "scaling": "raw"},
        "graph_file": {"tensor": "graph", "file": GRAPH, "start": 0, "stop": ROWS},
        "projection_file": None,
        "tensors": tensors,
        "shards": shards,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    record = {
        "schema": "g2t.artifact/1",
        "status": "complete",
        "kind": "cache",
        "config": {},
        "inputs": {},
        "seed": seed,
    }
    (folder / RECORD).write_text(json.dumps(record))
    sign(folder)
    return folder


def _tensor(name: str, kind: Kind) -> dict[str, Any]:
    """The manifest's entry of a tensor."""
    entry = {"name": name, "kind": "dense", "width": WIDTH, "dtype": "fp16", "topk": None}
    changes: dict[str, dict[str, Any]] = {
        FEATURES: {"dtype": "fp32"},
        LOGITS: {"width": CLASSES},
        EDGES: {"kind": "edge", "width": 1},
        CODES: {"width": 1, "dtype": "int16"},
    }
    compact: dict[str, dict[str, Any]] = {
        FEATURES: {"kind": "csr", "dtype": "fp32"},
        LAYER: {"dtype": "int8"},
        LOGITS: {"kind": "topk", "topk": 2, "width": CLASSES},
    }
    changes |= compact if kind == "compact" else {}
    return {**entry, **changes.get(name, {}), "relative_error": 0.001}


def _shard(entry: Mapping[str, Any], draw: torch.Generator) -> dict[str, Tensor]:
    """The tensors in the file of one shard."""
    name = entry["name"]
    values = torch.randn(SHARD, entry["width"], generator=draw)
    if entry["kind"] == "csr":
        return {
            "features.start": torch.arange(SHARD + 1) * 2,
            "features.column": torch.tensor([1, 5] * SHARD, dtype=torch.int32),
            "features.value": torch.rand(2 * SHARD, generator=draw),
        }
    if entry["kind"] == "topk":
        value, index = values.topk(entry["topk"], 1)
        rest = values.min(1).values
        return {f"{name}.value": value.half(), f"{name}.index": index.int(), f"{name}.rest": rest}
    if entry["kind"] == "edge":
        return {name: torch.rand(2 * SHARD, generator=draw).half()}
    if entry["dtype"] == "int8":
        scale = values.abs().amax(0) / 127
        return {name: (values / scale).round().to(torch.int8), f"{name}.scale": scale}
    if entry["dtype"] == "int16":
        return {name: (torch.arange(SHARD)[:, None] % 4).short()}
    return {name: values if entry["dtype"] == "fp32" else values.half()}


# Spoiling.


def sign(cache: Path) -> None:
    """Make manifest and run.json agree with the files that are there."""
    content = json.loads((cache / MANIFEST).read_text())
    shards = content.get("shards", [])
    for entry in [content.get("graph_file"), *shards]:
        if entry is not None and (cache / entry["file"]).is_file():
            entry.update(identity(cache / entry["file"]))
    (cache / MANIFEST).write_text(json.dumps(content))
    sign_record(cache)


def sign_record(cache: Path) -> None:
    """Make run.json alone agree with the files that are there."""
    outputs = {
        file.name: identity(file)
        for file in sorted(cache.iterdir())
        if file.is_file() and file.name != RECORD
    }
    record = json.loads((cache / RECORD).read_text())
    (cache / RECORD).write_text(json.dumps({**record, **signed(outputs)}))


def signed(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The part of run.json that answers for the files."""
    digests = {name: entry["xxh3_128"] for name, entry in outputs.items()}
    text = json.dumps(digests, sort_keys=True, separators=(",", ":")).encode()
    return {"outputs": outputs, "digest": f"sha256:{hashlib.sha256(text).hexdigest()}"}


def identity(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    return {"bytes": len(data), "xxh3_128": xxhash.xxh3_128_hexdigest(data)}


def forged(edit: Edit) -> Edit:
    """An edit after which every digest fits again."""

    def change(cache: Path) -> None:
        edit(cache)
        sign(cache)

    return change


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def manifest(change: Callable[[Any], object]) -> Edit:
    """Change the manifest, and sign."""
    return forged(lambda cache: edit_json(cache / MANIFEST, change))


def manifest_text(change: Callable[[str], str]) -> Edit:
    """Replace the manifest's text, and sign run.json."""

    def edit(cache: Path) -> None:
        (cache / MANIFEST).write_text(change((cache / MANIFEST).read_text()))
        sign_record(cache)

    return edit


def record(change: Callable[[Any], object]) -> Edit:
    """Change run.json; what it says of its files is signed."""

    def edit(cache: Path) -> None:
        def apply(content: dict[str, Any]) -> None:
            change(content)
            if isinstance(content.get("outputs"), dict):
                content.update(signed(content["outputs"]))

        edit_json(cache / RECORD, apply)

    return edit


def tensors(file: str, change: Callable[[dict[str, Tensor]], object]) -> Edit:
    """Change the tensors in a file, and sign."""

    def edit(cache: Path) -> None:
        with safe_open(cache / file, "pt") as opened:
            facts = opened.metadata()
        content = load_file(cache / file)
        change(content)
        whole = {name: tensor.contiguous() for name, tensor in content.items()}
        save_file(whole, cache / file, facts)

    return forged(edit)


def put(name: str, tensor: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    """Replace one of a file's tensors by what becomes of it."""
    return lambda content: content.__setitem__(name, tensor(content[name]))


def at(place: object, value: object) -> Callable[[Tensor], Tensor]:
    """Set one value of a tensor."""

    def change(tensor: Tensor) -> Tensor:
        tensor[place] = value  # type: ignore[index, assignment]
        return tensor

    return change


def data(file: str, change: Callable[[bytes], bytes]) -> Edit:
    """Change the bytes of a file, and sign nothing."""
    return lambda cache: (cache / file).write_bytes(change((cache / file).read_bytes()))


def header(file: str, change: Callable[[str], str]) -> Edit:
    """Change the text of a safetensors header, its length with it, and sign."""

    def edit(content: bytes) -> bytes:
        end = 8 + int.from_bytes(content[:8], "little")
        text = change(content[8:end].decode()).encode()
        return len(text).to_bytes(8, "little") + text + content[end:]

    return forged(data(file, edit))


def flip(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def instead(file: str, make: Callable[[Path], object]) -> Edit:
    """Put something else in the place of a file."""

    def edit(cache: Path) -> None:
        (cache / file).unlink()
        make(cache / file)

    return edit
