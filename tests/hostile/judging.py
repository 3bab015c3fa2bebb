"""Who is asked about a spoilt cache, `g2t distill` and the full check, and what they must say."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGALRM, alarm, signal

import pytest
from typer.testing import CliRunner

from g2t.cache.check import open_cache
from g2t.cache.verify import verify
from g2t.errors import G2TError
from g2t_cli.app import app
from spoiling import Case, write_cache


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def g2t(*arguments: object) -> Outcome:
    """Run the command line in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return Outcome(result.exit_code, result.stdout, result.stderr)


#: A student that reads every tensor of these caches.
DISTIL = (
    "--student", "hop", "--preset", "paper", "--device", "cpu", "--set", "model.hops=1",
    "--set", "model.hidden=8", "--set", "train.epochs=1", "--set", "loss.codebook.weight=1",
)  # fmt: skip


def distil(cache: Path, out: Path) -> Outcome:
    """Run `g2t distill` on a cache; a run that waits for something fails."""
    with in_time(60):
        return g2t("distill", cache, *DISTIL, "--out", out)


def refused(outcome: Outcome, code: int, said: str, cache: Path) -> None:
    """One sentence with the place and the reason, a hint at most, nothing on stdout."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    first, *hints = outcome.err.strip().split("\n")
    assert first.startswith("error: ")
    assert said in first
    assert str(cache) in first
    assert len(first) < len(str(cache)) + 400
    assert first.isprintable()
    assert len(hints) <= 1
    assert all(hint.startswith("  hint: ") and hint.isprintable() for hint in hints)


@contextmanager
def in_time(seconds: int) -> Iterator[None]:
    """Raise TimeoutError where something waits for ever, as reading a FIFO would."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"not done after {seconds} seconds")

    before = signal(SIGALRM, late)
    alarm(seconds)
    try:
        yield
    finally:
        alarm(0)
        signal(SIGALRM, before)


def left_beside(cache: Path) -> list[str]:
    """The names in the cache's folder other than its own."""
    return sorted(path.name for path in cache.parent.iterdir() if path != cache)


def read_all(cache: Path) -> None:
    """Open a cache, hash every file of it and read every number."""
    with in_time(60):
        verify(open_cache(cache, remembered=False))


def check(case: Case, cache: Path) -> None:
    """Spoil a cache: both who trains from it and who verifies it must refuse it, by one reason."""
    write_cache(cache, case.kind)
    case.edit(cache)
    refused(distil(cache, cache.parent / "student"), case.code, case.said, cache)
    assert left_beside(cache) == []
    with pytest.raises(G2TError) as caught:
        read_all(cache)
    assert (caught.value.code, case.said in caught.value.message) == (case.code, True)
