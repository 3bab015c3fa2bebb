"""Whether g2t can work here: versions, devices, threads, extras, folders, and a whole pipeline.

What enters is a folder that runs will be written to; what leaves is a list of findings. Only what
no run can do without counts as `failed`.
"""

import importlib
import mmap
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

import g2t
from g2t.artifact import RECORD, read_json
from g2t.errors import G2TError
from g2t.export.memory import available
from g2t.files import home
from g2t.runtime import Silent, choose_device

State = Literal["ok", "absent", "warning", "failed"]

#: Bytes that are written and read to see how fast a folder is: enough to outlast start-up costs.
SPEED_BYTES = 64 << 20

#: The self-test: small enough for seconds, with every stage in it.
SELF_TEST = {
    "source": "synthetic:csbm",
    "split": "random:20/20/60",
    "import": {"nodes": 200, "classes": 3, "features": 8},
    "teach": {"train": {"epochs": 20}},
    "students": {"landmark": {"size": "tiny", "train": {"epochs": 20}}},
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, what it is, and what to do about it."""

    group: str
    name: str
    state: State
    value: str
    hint: str = ""


def examine(folder: Path, device: str) -> Iterator[Finding]:
    """Look at everything, cheapest first; each finding is yielded as soon as it is known.

    Raises UsageError and MissingExtra for a device that has no such name or is not here.
    """
    choose_device(device)
    yield from _versions()
    yield from _devices()
    yield from _threads()
    yield from _extras()
    yield from _folders(folder)
    yield from _self_test(folder, device)


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "g2t", "ok", g2t.__version__)
    yield Finding("versions", "python", "ok", platform.python_version())
    yield Finding("versions", "platform", "ok", platform.platform())
    try:
        needed = [name for name, extra in _requirements() if not extra]
    except metadata.PackageNotFoundError:
        hint = "pip install g2t, so that it knows what it needs"
        yield Finding("versions", "install", "warning", "g2t is run without being installed", hint)
        needed = ["torch", "torch-geometric"]
    for name in needed:
        try:
            importlib.import_module(name.replace("-", "_"))
            yield Finding("versions", name, "ok", metadata.version(name))
        except Exception as error:  # a broken library raises what it likes
            said = f"cannot be imported: {error}"
            yield Finding("versions", name, "failed", said, f"pip install --upgrade {name}")


def _requirements() -> list[tuple[str, str]]:
    """Return the packages that g2t asks for, each with its extra, empty for those always needed."""
    found = []
    for line in metadata.requires("g2t") or ():
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra == ['\"]([^'\"]+)", line)
        if name:
            found.append((name[0], extra[1] if extra else ""))
    return found


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("devices", "cpu", "ok", f"{_cores()} cores for this process")
    yield Finding("devices", "memory", "ok", f"{available() / 2**30:.1f} GiB free")
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        said = f"{facts.name}, {facts.total_memory / 2**30:.1f} GiB"
        yield Finding("devices", f"cuda:{index}", "ok", said)
    if not torch.cuda.device_count():
        yield Finding("devices", "cuda", "absent", "none; --device auto takes the CPU")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads() -> Iterator[Finding]:
    import torch

    threads, cores = torch.get_num_threads(), _cores()
    hint = f"export OMP_NUM_THREADS={cores}" if threads > cores else ""
    state: State = "warning" if hint else "ok"
    yield Finding("threads", "torch", state, f"{threads} on {cores} cores", hint)
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        yield Finding("threads", name, "ok", os.environ.get(name, "not set"))


def _extras() -> Iterator[Finding]:
    with suppress(metadata.PackageNotFoundError):
        for name, extra in _requirements():
            if not extra:
                continue
            try:
                yield Finding("extras", f"{extra} ({name})", "ok", metadata.version(name))
            except metadata.PackageNotFoundError:
                hint = f"pip install 'g2t[{extra}]'"
                yield Finding("extras", f"{extra} ({name})", "absent", "not installed", hint)


def _folders(folder: Path) -> Iterator[Finding]:
    own = home()
    trouble = _trouble(own)
    hint = "set G2T_HOME to a folder that can be written; without it digests are computed anew"
    state: State = "warning" if trouble else "ok"
    yield Finding("folders", "G2T_HOME", state, trouble or str(own), hint if trouble else "")
    trouble = _trouble(folder)
    if trouble:
        yield Finding("folders", "runs", "failed", trouble, "choose another with --folder DIR")
        return
    yield Finding("folders", "runs", "ok", str(folder.resolve()))
    written, read = _speeds(_standing(folder))
    yield Finding("folders", "write", "ok", f"{written / 1e6:.0f} MB/s, to disk")
    yield Finding("folders", "mmap read", "ok", f"{read / 1e6:.0f} MB/s")


def _standing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())


def _trouble(folder: Path) -> str:
    """Return why a folder, or one to be made there, cannot be used; empty if it can.

    An artefact needs three things: files, a lock, and renames.
    """
    try:
        with tempfile.TemporaryDirectory(dir=_standing(folder), prefix=".g2t-doctor-") as name:
            made = Path(name)
            with FileLock(made / "lock", timeout=0):
                (made / "a").mkdir()
                (made / "a").rename(made / "b")
    except Timeout:
        return f"{folder}: a new file is locked already: locks do not work here"
    except (OSError, NotImplementedError) as error:
        return f"{folder}: {getattr(error, 'strerror', None) or error}"
    return ""


def _speeds(folder: Path) -> tuple[float, float]:
    """Return bytes per second of a write with fsync and of a read of that file through mmap.

    Pages are dropped from memory in between, where the system heeds that.
    """
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(SPEED_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter() - start
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            for at in range(0, SPEED_BYTES, len(block)):
                mapped[at : at + len(block)]
        read = time.perf_counter() - start
    return SPEED_BYTES / written, SPEED_BYTES / read


def _self_test(folder: Path, device: str) -> Iterator[Finding]:
    """Walk import, teach, export, distill and eval on a tiny graph in a folder that goes again."""
    from g2t.pipeline import run
    from g2t.recipe import read_recipe

    start = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(dir=_standing(folder), prefix=".g2t-doctor-") as name:
            out = Path(name)
            table = run(
                read_recipe(SELF_TEST),
                [0],
                out,
                root=None,
                device=device,
                force=False,
                progress=Silent(),
            )
            parts = {
                "import": "graph",
                "teach": "seed-0/teacher",
                "export": "seed-0/cache",
                "distill": "seed-0/student-landmark",
                "eval": "seed-0/evaluation-landmark",
            }
            for stage, part in parts.items():
                seconds = read_json(out / part / RECORD)["timings"]["seconds"]
                yield Finding("self-test", stage, "ok", f"{seconds:.1f} s")
    except (G2TError, OSError) as error:
        said = error.message if isinstance(error, G2TError) else str(error)
        yield Finding("self-test", "pipeline", "failed", said, getattr(error, "hint", ""))
        return
    scores = ", ".join(f"{row['name']} {100 * row['mean']:.0f} %" for row in table["rows"])
    took = f"{time.perf_counter() - start:.1f} s; test accuracy: {scores}"
    yield Finding("self-test", "pipeline", "ok", took)
