"""Artefacts on disk: one directory each, described by `run.json`, identified by its files.

An artefact is known by the digests of its files, never by its path, so it can move. `run.json` and
`metrics.jsonl` hold times, environment and command line and are not part of the identity. The other
half, making one, is `g2t.stage`.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from g2t.errors import InputError, IntegrityError

FAMILY = "g2t.artifact/"
SCHEMA = FAMILY + "1"
RECORD = "run.json"
METRICS = "metrics.jsonl"
#: Folder in OUT.partial for what only helps the making; it goes at the commit.
SCRATCH = "scratch"
#: What to type where an artefact is missing.
MAKERS = {
    "graph": "make it with g2t import",
    "teacher": "make it with g2t teach",
    "cache": "make it with g2t export-features",
    "student": "make it with g2t distill",
}


@dataclass(frozen=True)
class Artifact:
    """A complete artefact on disk: where it is, what it is, and its identity."""

    path: Path
    kind: str
    digest: str
    record: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved settings that made it."""
        return dict(self.record["config"])

    @property
    def inputs(self) -> Mapping[str, str]:
        """Digests of what it was made from, by role."""
        return dict(self.record["inputs"])


def file_digest(path: Path) -> str:
    """Return the xxh3_128 digest of a file's bytes, in hex."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
    return digest.hexdigest()


def file_identity(path: Path) -> dict[str, Any]:
    """Return what an artefact's record says of a file: `bytes` and `xxh3_128`."""
    return {"bytes": path.stat().st_size, "xxh3_128": file_digest(path)}


def content_digest(content: Any) -> str:
    """Return the sha256 of a JSON-able value in canonical form: identities are made with it."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of ours; raises IntegrityError if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing from its artefact") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise IntegrityError(f"{path} is damaged: not a JSON object")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object so that a reader sees the old file or the new one, never a half."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sync(temporary)
    temporary.replace(path)


def sync(path: Path) -> None:
    """Force a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_artifact(path: Path) -> bool:
    """Tell whether a directory is an artefact of ours, finished or not, of any kind."""
    try:
        schema = json.loads((path / RECORD).read_text(encoding="utf-8"))["schema"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False
    return isinstance(schema, str) and schema.startswith(FAMILY)


def open_artifact(path: Path, kind: str) -> Artifact:
    """Open a finished artefact and check every file against its recorded size and digest.

    Raises InputError if there is none of that kind, IntegrityError if it was changed since.
    """
    if not path.is_dir():
        unfinished = partial_path(path).is_dir()
        hint = (
            "it was begun but not finished: run its command again"
            if unfinished
            else MAKERS.get(kind, "")
        )
        raise InputError(f"there is no {kind} at {path}", hint)
    if not (path / RECORD).is_file():
        raise InputError(f"{path} is no g2t {kind}: it has no {RECORD}")
    record = read_json(path / RECORD)
    schema = str(record.get("schema", ""))
    if not schema.startswith(FAMILY):
        raise InputError(
            f"{path} is no g2t {kind}, though it has a {RECORD} ({schema or 'unnamed'})"
        )
    if schema != SCHEMA:
        raise IntegrityError(
            f"{path} has schema {schema!r}, this g2t reads {SCHEMA!r}", "upgrade g2t to read it"
        )
    try:
        found, digest, outputs = record["kind"], record["digest"], record["outputs"]
        entries = [
            (path / name, entry["bytes"], entry["xxh3_128"]) for name, entry in outputs.items()
        ]
    except (KeyError, TypeError, AttributeError):
        raise IntegrityError(f"{path / RECORD} is damaged: fields are missing") from None
    if any(".." in Path(name).parts or Path(name).is_absolute() for name in outputs):
        raise IntegrityError(f"{path / RECORD} names a file outside its folder")
    if found != kind:
        raise InputError(f"{path} is a {found}, not a {kind}")
    for file, size, digest_of_file in entries:
        _check_file(file, size, digest_of_file)
    if digest != outputs_digest(outputs):
        raise IntegrityError(f"{path / RECORD} was edited: its digest does not fit its outputs")
    return Artifact(path, kind, digest, record)


def _check_file(file: Path, size: int, digest: str) -> None:
    if not file.is_file():
        raise IntegrityError(f"{file} is missing", "make the artefact again with --force")
    if file.stat().st_size != size:
        raise IntegrityError(
            f"{file} has {file.stat().st_size} bytes, {RECORD} says {size}",
            "the file was changed or cut short; make the artefact again with --force",
        )
    if file_digest(file) != digest:
        raise IntegrityError(
            f"{file} does not match its recorded digest",
            "the file was changed; make the artefact again with --force",
        )


def outputs_digest(outputs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return an artefact's identity: the digest of its files' names and digests."""
    return content_digest({name: entry["xxh3_128"] for name, entry in outputs.items()})


def partial_path(out: Path) -> Path:
    """Where work on OUT goes on until it is committed."""
    return out.with_name(out.name + ".partial")
