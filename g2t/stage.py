"""The making of an artefact: lock, partial directory, metrics, commit by rename.

Work happens in `OUT.partial/`; `commit` hashes, syncs and renames it, so a directory that exists
is complete. Same settings and inputs again: already done. Unfinished: resume. Different: refuse.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import g2t
from g2t.artifact import (
    METRICS,
    RECORD,
    SCHEMA,
    Artifact,
    file_identity,
    is_artifact,
    open_artifact,
    outputs_digest,
    read_json,
    sync,
    write_json,
)
from g2t.errors import G2TError, InputError, Stopped, UsageError
from g2t.place import Place, is_free, is_rest, remove
from g2t.ranks import ALONE, Ranks

#: Seconds that a worker waits for another one to begin or to commit.
PATIENCE = 300.0


class Stage:
    """The making of one artefact: lock, partial directory, metrics, commit.

        with Stage(out, "teacher", config, inputs, seed) as stage:
            if stage.finished is None:
                ...write into stage.path...
                stage.commit({"val": 0.8})

    `finished` is the artefact that the same settings and inputs have already made. Entering raises
    InputError where something else stands at OUT or OUT.partial and `force` is not given.

    With `grows`, an OUT of other settings is replaced at the commit and not refused. With several
    `workers`, the lock is held only to begin and to commit, so that they share OUT.partial. Of
    several `ranks`, the first one does all of this, and the others hear what comes of it.
    """

    def __init__(
        self,
        out: Path,
        kind: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        seed: int,
        force: bool = False,
        *,
        grows: bool = False,
        workers: int = 1,
        ranks: Ranks = ALONE,
    ) -> None:
        self.given = out
        self.out = out.resolve()  # a link is followed, so that what it names is replaced
        self.kind = kind
        self._place = Place(self.out)
        self.path = self._place.partial
        self.force = force
        self.grows = grows
        self.shared = workers > 1
        self.ranks = ranks
        self.finished: Artifact | None = None
        self._plan = {"kind": kind, "config": dict(config), "inputs": dict(inputs), "seed": seed}
        self._started = time.time()
        self._lock = ExitStack()
        self._locked = False

    def __enter__(self) -> Self:
        record = self.ranks.from_first(self._begin)
        if record is not None:
            self.finished = Artifact(self.given, self.kind, record["digest"], record)
        return self

    def _begin(self) -> Mapping[str, Any] | None:
        """Claim OUT under the lock; returns the record of one that is finished."""
        if self.is_done():  # needs no lock, so it works in a folder of others
            record = open_artifact(self.given, self.kind).record
            self._place.mend()
            return record
        if self.shared and self.force:
            raise UsageError("--force and several workers do not go together", f"remove {self.out}")
        self.lock()
        try:
            finished = self._claim()
        except BaseException:
            self._unlock()
            raise
        if self.shared:
            self._unlock()
        return finished

    def lock(self) -> None:
        """Take the lock until the stage ends; raises InputError where another g2t writes OUT."""
        if not self._locked:
            self._lock.enter_context(self._place.locked(PATIENCE if self.shared else 0))
            self._locked = True

    def _unlock(self) -> None:
        self._lock.close()
        self._locked = False

    def overtaken(self) -> bool:
        """Tell whether another worker has committed OUT, waiting for one that is about to."""
        if not self.shared:
            return False
        with suppress(InputError):
            self.lock()
        return self.is_done()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        mine = self.ranks.first and not self.shared
        if mine and isinstance(error, G2TError) and not _is_passing(error):
            remove(self.path)  # nothing of it could be resumed
        self._unlock()
        if isinstance(error, OSError) and error.errno is not None:
            # What fails on a descriptor, such as a write to a full disk, does not name its file.
            name = error.filename2 or error.filename or self.path
            raise InputError(
                f"cannot write {name}: {error.strerror}",
                "mend this and run the same command: it goes on where it stopped",
            ) from error

    def standing(self) -> tuple[Literal["new", "done", "unfinished", "refused", "foreign"], str]:
        """Tell how OUT stands to what is asked, and why if it is in the way; changes nothing."""
        if self.out.exists() and not is_free(self.out):
            if not is_artifact(self.out):
                return "foreign", f"{self.out} exists and is no g2t {self.kind}"
            record = read_json(self.out / RECORD)
            if record.get("kind") != self.kind:
                return "foreign", f"{self.out} is a {record.get('kind')}, not a {self.kind}"
            difference = self._difference(record)
            if not self.force and difference and not self.grows:
                return "refused", f"{self.out} was made with other settings or inputs: {difference}"
            if not self.force and not difference:
                return "done", ""
        for path in (self.path, self._place.replaced):
            if path.exists() and not is_free(path) and not is_artifact(path):
                return "foreign", f"{path} is in the way and none of ours"
        if self._begun() and not self.force:
            difference = self._difference(read_json(self.path / RECORD))
            if difference:
                return (
                    "refused",
                    f"{self.path} is unfinished work with other settings or inputs: {difference}",
                )
            return "unfinished", ""
        return "new", ""

    def is_done(self) -> bool:
        """Tell whether OUT is what is asked for, as far as can be seen without the lock."""
        with suppress(G2TError):  # such as a look between the renames of another
            return self.standing()[0] == "done"
        return False

    def _begun(self) -> bool:
        """Tell whether OUT.partial holds work beyond its record and log, or may soon, by others."""
        files = [file.name for file in self.path.glob("*")]
        if self.shared and RECORD in files:
            return True
        return RECORD in files and any(name not in (RECORD, METRICS) for name in files)

    def _claim(self) -> Mapping[str, Any] | None:
        """Take OUT if it is done, resume OUT.partial, or begin it anew; InputError if refused."""
        standing, reason = self.standing()
        if standing == "foreign":
            raise InputError(reason, "choose another --out")
        if standing == "refused":
            way_out = "remove it" if self.shared else "replace it with --force"
            hint = f"choose another --out, or {way_out}"
            raise InputError(reason, "finish that first, or remove it" if self.grows else hint)
        if standing == "done":
            return open_artifact(self.given, self.kind).record
        if standing == "unfinished":
            return None
        try:
            remove(self.path)
            self.path.mkdir()
            write_json(self.path / RECORD, {"schema": SCHEMA, "status": "unfinished", **self._plan})
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error
        return None

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
        if not self.ranks.first:
            return
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def rewind(self, lines: int) -> None:
        """Keep the first lines of `metrics.jsonl`: those that a checkpoint has seen."""
        path = self.path / METRICS
        if not self.ranks.first or not path.exists():
            return
        kept = path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
        temporary = path.with_name(path.name + ".tmp")  # a kill leaves the one or the other
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(path)

    def commit(
        self,
        summary: Mapping[str, Any],
        identity: Callable[[str], Mapping[str, Any]] | None = None,
    ) -> Artifact:
        """Hash and sync all files, write `run.json`, and rename OUT.partial to OUT.

        `identity` gives the bytes and the digest of a file by name where they are known already.
        """
        record = self.ranks.from_first(lambda: self._publish(summary, identity))
        return Artifact(self.given, self.kind, record["digest"], record)

    def _publish(
        self,
        summary: Mapping[str, Any],
        identity: Callable[[str], Mapping[str, Any]] | None,
    ) -> dict[str, Any]:
        files = [
            file
            for file in sorted(self.path.rglob("*"))
            if file.is_file() and not is_rest(file.relative_to(self.path))
        ]
        outputs = {
            str(file.relative_to(self.path)): dict(
                file_identity(file) if identity is None else identity(file.name)
            )
            for file in files
            if file.name not in (RECORD, METRICS)
        }
        record = {
            "schema": SCHEMA,
            "g2t": g2t.__version__,
            "status": "complete",
            "digest": outputs_digest(outputs),
            **self._plan,
            "outputs": outputs,
            "summary": dict(summary),
            "environment": environment(),
            "timings": {"started": self._started, "seconds": round(time.time() - self._started, 3)},
        }
        for file in files:
            sync(file)
        write_json(self.path / RECORD, record)
        self._place.publish()
        return record


def _is_passing(error: G2TError) -> bool:
    """Tell whether the same command may succeed later: after a signal, or a disk that failed."""
    return isinstance(error, Stopped) or isinstance(error.__context__, OSError)


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
