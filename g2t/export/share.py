"""Which shards are whose: one process, ranks of torchrun or SLURM, or workers of a job array.

Files are the only barrier: a worker that needs a shard of another waits until it stands.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from g2t.artifact import SCRATCH
from g2t.errors import InputError, Stopped, UsageError
from g2t.ranks import ranks_of_launcher

#: Seconds between two looks at the folder, at first.
POLL = 0.05

#: Seconds after which a worker stops waiting where nothing new appears.
PATIENCE = 3600.0


@dataclass(frozen=True)
class Share:
    """Worker `worker` of `workers`: shard i is its own if i mod `workers` is `worker`."""

    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.worker < self.workers:
            raise UsageError(
                f"worker {self.worker} of {self.workers} cannot be",
                "--worker counts from 0 to --workers minus 1",
            )

    @property
    def alone(self) -> bool:
        """Whether there is no other worker."""
        return self.workers == 1

    def mine(self, shards: int) -> range:
        """Return the shards of this worker."""
        return range(self.worker, shards, self.workers)


def share_of(worker: int | None, workers: int | None) -> Share:
    """Return the share that was asked for, else that of the launcher's environment, else all.

    Raises UsageError where only one of the two is given or they do not fit.
    """
    if (worker is None) != (workers is None):
        raise UsageError("--worker and --workers go together", "e.g. --worker 0 --workers 4")
    if worker is not None and workers is not None:
        return Share(worker, workers)
    ranks = ranks_of_launcher()
    return Share(ranks.number, ranks.count)


def wait_for(paths: Iterable[Path], watched: Path) -> None:
    """Wait until all paths exist.

    Raises Stopped where nothing has appeared in `watched` for an hour, and InputError where it is
    gone, as it is when others have finished without us.
    """
    seen, since = 0, time.monotonic()
    for path in paths:
        pause = POLL
        while not path.exists():
            last = _last_change(watched)
            if last != seen:
                seen, since = last, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                raise Stopped(
                    f"no other worker has written {path} for {PATIENCE / 60:.0f} minutes",
                    "start the workers that are missing and run the same command again",
                )
            time.sleep(pause)
            pause = min(2 * pause, 10 * POLL)


def _last_change(folder: Path) -> int:
    """Return when a file last appeared in a folder or in its scratch folder, in ns."""
    try:
        next(folder.iterdir(), None)  # on NFS a listing makes the host look afresh
        within = (folder, folder / SCRATCH)
        return max(path.stat().st_mtime_ns for path in within if path.exists())
    except FileNotFoundError:
        raise InputError(f"{folder} is gone", "run the same command again") from None
