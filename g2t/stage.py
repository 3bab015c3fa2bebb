"""The making of an artefact: lock, partial directory, metrics, commit by rename.

Work happens in `OUT.partial/`; `commit` hashes, syncs and renames it, so a directory that exists
is complete. Same settings and inputs again: already done. Unfinished: resume. Different: refuse.
"""

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from filelock import FileLock, Timeout

import g2t
from g2t.artifact import (
    METRICS,
    RECORD,
    SCHEMA,
    SCRATCH,
    Artifact,
    file_identity,
    is_artifact,
    open_artifact,
    outputs_digest,
    partial_path,
    read_json,
    sync,
    write_json,
)
from g2t.errors import G2TError, InputError, Stopped


class Stage:
    """The making of one artefact: lock, partial directory, metrics, commit.

        with Stage(out, "teacher", config, inputs, seed) as stage:
            if stage.finished is None:
                ...write into stage.path...
                stage.commit({"val": 0.8})

    `finished` is the artefact that the same settings and inputs have already made. Entering raises
    InputError where something else stands at OUT or OUT.partial and `force` is not given.
    """

    def __init__(
        self,
        out: Path,
        kind: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        seed: int,
        force: bool = False,
    ) -> None:
        self.given = out
        self.out = out.resolve()  # a link is followed, so that what it names is replaced
        self.kind = kind
        self.path = partial_path(self.out)
        self.force = force
        self.finished: Artifact | None = None
        self._plan = {"kind": kind, "config": dict(config), "inputs": dict(inputs), "seed": seed}
        self._started = time.time()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self.standing()[0] == "done":  # needs no lock, so it works in a folder of others
            self.finished = open_artifact(self.given, self.kind)
            return self
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            path = self.out.with_name(self.out.name + ".lock")
            path.touch()  # filelock takes a folder that refuses the file for a lock held elsewhere
            lock = FileLock(path, timeout=0)
            self._open.enter_context(lock)
        except Timeout:
            raise InputError(
                f"another g2t is writing {self.out}", "wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise InputError(f"cannot write {self.out}: {error.strerror}") from error
        self._open.callback(Path(lock.lock_file).unlink, missing_ok=True)
        try:
            self._claim()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, G2TError) and not isinstance(error, Stopped):
            shutil.rmtree(self.path, ignore_errors=True)  # nothing of it could be resumed
        self._open.close()
        if isinstance(error, OSError) and error.filename is not None:
            raise InputError(f"cannot write {error.filename}: {error.strerror}") from error

    def standing(self) -> tuple[Literal["new", "done", "unfinished", "refused", "foreign"], str]:
        """Tell how OUT stands to what is asked, and why if it is in the way; changes nothing."""
        if self.out.exists() and not _is_free(self.out):
            if not is_artifact(self.out):
                return "foreign", f"{self.out} exists and is no g2t {self.kind}"
            record = read_json(self.out / RECORD)
            if record.get("kind") != self.kind:
                return "foreign", f"{self.out} is a {record.get('kind')}, not a {self.kind}"
            difference = self._difference(record)
            if not self.force and difference:
                return "refused", f"{self.out} was made with other settings or inputs: {difference}"
            if not self.force:
                return "done", ""
        if self.path.exists() and not _is_free(self.path) and not is_artifact(self.path):
            return "foreign", f"{self.path} is in the way and none of ours"
        if self._begun() and not self.force:
            difference = self._difference(read_json(self.path / RECORD))
            if difference:
                return (
                    "refused",
                    f"{self.path} is unfinished work with other settings or inputs: {difference}",
                )
            return "unfinished", ""
        return "new", ""

    def _begun(self) -> bool:
        """Tell whether OUT.partial holds work beyond its record and log."""
        files = [file.name for file in self.path.glob("*")]
        return RECORD in files and any(name not in (RECORD, METRICS) for name in files)

    def _claim(self) -> None:
        """Take OUT if it is done, resume OUT.partial, or begin it anew; InputError if refused."""
        standing, reason = self.standing()
        if standing == "foreign":
            raise InputError(reason, "choose another --out")
        if standing == "refused":
            raise InputError(reason, "choose another --out, or replace it with --force")
        if standing == "done":
            self.finished = open_artifact(self.given, self.kind)
            return
        if standing == "unfinished":
            return
        try:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir()
            write_json(self.path / RECORD, {"schema": SCHEMA, "status": "unfinished", **self._plan})
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error

    def _difference(self, record: Mapping[str, Any]) -> str:
        """Name what differs between a record and this stage's plan; empty if nothing does."""
        theirs, ours = flat({key: record.get(key) for key in self._plan}), flat(self._plan)
        names = sorted(key for key in theirs | ours if theirs.get(key) != ours.get(key))
        said = [
            f"{key.removeprefix('config.')} is {theirs.get(key)!r}, now {ours.get(key)!r}"
            for key in names[:3]
        ]
        return "; ".join(said) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def log(self, values: Mapping[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def rewind(self, lines: int) -> None:
        """Keep the first lines of `metrics.jsonl`: those that a checkpoint has seen."""
        path = self.path / METRICS
        kept = path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
        path.write_text("".join(kept), encoding="utf-8")

    def commit(
        self,
        summary: Mapping[str, Any],
        identity: Callable[[str], Mapping[str, Any]] | None = None,
    ) -> Artifact:
        """Hash and sync all files, write `run.json`, and rename OUT.partial to OUT.

        `identity` gives the bytes and the digest of a file by name where they are known already.
        """
        for rest in (*self.path.rglob("*.tmp"), *self.path.rglob(".tmp*")):
            rest.unlink()  # left by a kill in the middle of a write
        outputs = {
            str(file.relative_to(self.path)): dict(
                file_identity(file) if identity is None else identity(file.name)
            )
            for file in sorted(self.path.rglob("*"))
            if file.is_file() and file.name not in (RECORD, METRICS)
            if file.parent.name != SCRATCH
        }
        shutil.rmtree(self.path / SCRATCH, ignore_errors=True)
        digest = outputs_digest(outputs)
        record = {
            "schema": SCHEMA,
            "g2t": g2t.__version__,
            "status": "complete",
            "digest": digest,
            **self._plan,
            "outputs": outputs,
            "summary": dict(summary),
            "environment": environment(),
            "timings": {"started": self._started, "seconds": round(time.time() - self._started, 3)},
        }
        write_json(self.path / RECORD, record)
        for file in self.path.iterdir():
            sync(file)
        sync(self.path)
        self._replace()
        return Artifact(self.given, self.kind, digest, record)

    def _replace(self) -> None:
        replaced = self.out.with_name(self.out.name + ".replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        with suppress(FileNotFoundError):
            self.out.rename(replaced)
        self.path.rename(self.out)
        sync(self.out.parent)
        shutil.rmtree(replaced, ignore_errors=True)


def _is_free(path: Path) -> bool:
    """Tell whether a path that exists is an empty folder."""
    return path.is_dir() and not any(path.iterdir())


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into {"a.b": value}."""
    if not isinstance(content, Mapping):
        return {prefix: content}
    below = (
        flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in content.items()
    )
    return {key: value for part in below for key, value in part.items()}


def environment() -> dict[str, Any]:
    """Describe where this process runs; never part of an identity."""
    packages = {}
    for name in ("torch", "torch-geometric", "safetensors", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "packages": packages,
    }
