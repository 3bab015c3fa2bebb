"""Where an artefact is made: OUT.partial beside OUT, under a lock, and how it becomes OUT.

A kill is survived at any moment: OUT.partial gets its name when it is whole, and an OUT that is
replaced waits in OUT.replaced until the new one stands.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from g2t.artifact import RECORD, SCRATCH, is_artifact, partial_path, sync
from g2t.errors import InputError


@dataclass(frozen=True)
class Place:
    """OUT, and the names beside it that g2t takes while it makes OUT."""

    out: Path

    @property
    def partial(self) -> Path:
        """Where work on OUT goes on until it is committed."""
        return partial_path(self.out)

    @property
    def replaced(self) -> Path:
        """Where the OUT of before waits until the new one stands."""
        return self.out.with_name(self.out.name + ".replaced")

    @property
    def lock(self) -> Path:
        """The file that one writer at a time has locked."""
        return self.out.with_name(self.out.name + ".lock")

    @contextmanager
    def locked(self, patience: float = 0) -> Iterator[None]:
        """Hold the lock, after at most `patience` seconds.

        Raises InputError where another g2t keeps it, or where nothing can be written here.
        """
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.lock, timeout=patience).acquire()
        except Timeout:
            raise InputError(
                f"another g2t is writing {self.out}", "wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise InputError(f"cannot write {self.out}: {error.strerror}") from error
        with held:
            try:
                yield
            finally:  # while it is locked: who waits for this file sees that it lost its name
                self.lock.unlink(missing_ok=True)

    def publish(self) -> None:
        """Make OUT of OUT.partial, which is whole.

        The scratch folder goes last: until OUT has its name, a run after a kill needs it.
        """
        sync(self.partial)
        remove(self.replaced)
        with suppress(FileNotFoundError):
            self.out.rename(self.replaced)
        self.partial.rename(self.out)
        sync(self.out.parent)
        sweep(self.out)
        remove(self.replaced)

    def mend(self) -> None:
        """Put right what a kill in the middle of `publish` left beside OUT, where we may."""
        left = (self.lock, self.replaced, self.out / SCRATCH)
        if not any(path.exists() for path in left):
            return
        with suppress(InputError), self.locked():
            if not self.out.exists() and is_artifact(self.replaced):
                self.replaced.rename(self.out)  # the kill came between the two renames
            elif is_artifact(self.out):
                sweep(self.out)
                if is_artifact(self.replaced):
                    remove(self.replaced)


def remove(folder: Path) -> None:
    """Remove a folder of ours; its record goes last, so that after a kill it still is ours."""
    for path in folder.glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != RECORD:
            with suppress(OSError):
                path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def is_free(path: Path) -> bool:
    """Tell whether a path that exists is a folder with nothing but, maybe, half a record."""
    return path.is_dir() and all(
        file.name.startswith(RECORD) and file.suffix == ".tmp" for file in path.iterdir()
    )


def sweep(folder: Path) -> None:
    """Remove what only helped the making."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    for file in folder.rglob("*"):
        if is_rest(file.relative_to(folder)):
            file.unlink(missing_ok=True)


def is_rest(file: Path) -> bool:
    """Tell whether a file only helps the making, or was left by a kill in the middle of a write."""
    temporary = file.name.startswith(".tmp") or file.suffix == ".tmp"
    return temporary or SCRATCH in file.parts
