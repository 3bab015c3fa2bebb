"""Artefacts on disk: one directory each, described by `run.json`, identified by its files.

An artefact is known by the digests of its files, never by its path, so it can move. `run.json` and
`metrics.jsonl` hold times, environment and command line and are not part of the identity. The other
half, making one, is `g2t.stage`.
"""

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from g2t.errors import InputError, IntegrityError
from g2t.files import MOST_JSON, REMAKE, open_regular, parse_json, read_bounded, shown, unreadable
from g2t.verified import Memory, identity_of

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
    """Return the xxh3_128 digest of a regular file's bytes, in hex; raises OSError."""
    digest, block = xxhash.xxh3_128(), memoryview(bytearray(1 << 20))
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
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
        return parse_json(read_bounded(path, MOST_JSON))
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: {error}", REMAKE) from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object so that a reader sees the old file or the new one, never a half.

    Raises ValueError where a number is not finite, since no reader would take it.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json_text(content), encoding="utf-8")
    sync(temporary)
    temporary.replace(path)


def json_text(content: Mapping[str, Any]) -> str:
    """Return a JSON object as it stands in our files."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def sync(path: Path) -> None:
    """Force a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_artifact(path: Path) -> bool:
    """Tell whether a directory is an artefact of ours, finished or not, of any kind."""
    return kind_of(path) is not None


def kind_of(path: Path) -> str | None:
    """Return what kind of artefact a directory says it is, unchecked; None if it is none."""
    try:
        record = read_json(path / RECORD)
    except (InputError, IntegrityError):
        return None
    return str(record.get("kind")) if str(record.get("schema")).startswith(FAMILY) else None


def open_artifact(path: Path, kind: str, remembered: bool = True) -> Artifact:
    """Open a finished artefact and check every file against its recorded size and digest.

    A digest that was computed before is taken from `g2t.verified` as long as the file's identity is
    the same; with `remembered` false every file is read again. Raises InputError if there is no
    artefact of that kind or a file cannot be read, IntegrityError if it was changed since.
    """
    try:
        _check_presence(path, kind)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    record = _read_record(path, kind)
    outputs = record["outputs"]
    facts = {name: _look_at(path, name, entry["bytes"]) for name, entry in outputs.items()}
    memory = Memory(path, remembered)
    try:
        for name, seen in facts.items():
            _check_digest(path / name, name, seen, outputs[name]["xxh3_128"], memory)
    finally:
        memory.save()
    return Artifact(path, kind, record["digest"], record)


def _check_presence(path: Path, kind: str) -> None:
    if not path.is_dir():
        unfinished = partial_path(path).is_dir()
        hint = (
            "it was begun but not finished: run its command again"
            if unfinished
            else MAKERS.get(kind, "")
        )
        raise InputError(f"there is no {kind} at {path}", hint)
    if not (path / RECORD).is_file():
        raise InputError(f"{path} is no g2t {kind}: it has no {RECORD}", MAKERS.get(kind, ""))


def _read_record(path: Path, kind: str) -> dict[str, Any]:
    """Read `run.json` and check that it describes a finished artefact of a kind."""
    record = read_json(path / RECORD)
    schema = record.get("schema", "unnamed")
    if not str(schema).startswith(FAMILY):
        said = f"{path} is no g2t {kind}, though it has a {RECORD} ({shown(schema)})"
        raise InputError(said, MAKERS.get(kind, ""))
    if schema != SCHEMA:
        raise IntegrityError(
            f"{path} has schema {shown(schema)}, this g2t reads {SCHEMA!r}",
            "upgrade g2t to read it",
        )
    if not _is_complete(record):
        reason = "fields are missing or of another type"
        raise IntegrityError(f"{path / RECORD} is damaged: {reason}", REMAKE)
    strange = [shown(name) for name in record["outputs"] if not _is_plain(name)]
    if strange:
        said = f"{path / RECORD} names a file that cannot lie in its folder: {strange[0]}"
        raise IntegrityError(said, REMAKE)
    if record["kind"] != kind:
        raise InputError(f"{path} is a {record['kind']}, not a {kind}", MAKERS.get(kind, ""))
    if record["digest"] != outputs_digest(record["outputs"]):
        said = f"{path / RECORD} was edited: its digest does not fit its outputs"
        raise IntegrityError(said, REMAKE)
    return record


def _is_complete(record: Mapping[str, Any]) -> bool:
    """Tell whether the fields that g2t relies on are there and of their types."""
    fields = {"kind": str, "digest": str, "outputs": dict, "config": dict, "inputs": dict}
    if not all(isinstance(record.get(key), kind) for key, kind in fields.items()):
        return False
    files_right = all(
        isinstance(entry, dict)
        and type(entry.get("bytes")) is int
        and re.fullmatch("[0-9a-f]{32}", str(entry.get("xxh3_128")))
        for entry in record["outputs"].values()
    )
    inputs_right = all(isinstance(digest, str) for digest in record["inputs"].values())
    return files_right and inputs_right and bool(re.fullmatch("[a-z-]{1,40}", record["kind"]))


def _is_plain(name: str) -> bool:
    """Tell whether a file's name is a path that goes down from its folder and nowhere else."""
    path = PurePosixPath(name)
    down = path.parts and not path.is_absolute() and ".." not in path.parts and str(path) == name
    return bool(down) and len(name) < 256 and name.isprintable() and "\\" not in name


def _look_at(folder: Path, name: str, size: int) -> os.stat_result:
    """Check that a file is there, has its size, and lies in its folder; read nothing of it."""
    file = folder / name
    try:
        facts = file.lstat()
        if stat.S_ISLNK(facts.st_mode) or "/" in name:
            if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder)):
                raise IntegrityError(
                    f"{file} is a link that leads out of its folder",
                    "copy the file to the place of the link: cp -rL copies a whole folder so",
                )
            facts = file.stat()
    except OSError as error:
        raise unreadable(file, error) from None
    if not stat.S_ISREG(facts.st_mode):
        raise IntegrityError(f"{file} is no regular file", REMAKE)
    if facts.st_size != size:
        raise IntegrityError(
            f"{file} has {facts.st_size} bytes, {RECORD} says {size}",
            f"the file was changed or cut short; {REMAKE}",
        )
    return facts


def _check_digest(
    file: Path, name: str, facts: os.stat_result, digest: str, memory: Memory
) -> None:
    if memory.knows(name, facts, digest):
        return
    began_ns = time.time_ns()
    try:
        found, after = file_digest(file), file.stat()
    except OSError as error:
        raise unreadable(file, error) from None
    if found != digest:
        raise IntegrityError(
            f"{file} does not match its recorded digest",
            f"the file was changed; {REMAKE}",
        )
    if identity_of(after) == identity_of(facts):
        memory.keep(name, facts, began_ns, digest)


def outputs_digest(outputs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return an artefact's identity: the digest of its files' names and digests."""
    return content_digest({name: entry["xxh3_128"] for name, entry in outputs.items()})


def partial_path(out: Path) -> Path:
    """Where work on OUT goes on until it is committed."""
    return out.with_name(out.name + ".partial")
