"""SIGTERM and SIGUSR1 while a cache is written: exit 75, and the same command goes on."""

import os
import signal
import threading
from pathlib import Path

import pytest

from g2t.errors import Stopped
from g2t.runtime import leaving_on_signal
from tests.survival.conftest import Made, Story
from tests.survival.forks import (
    SMALL_PANELS,
    Ended,
    Fault,
    Forks,
    How,
    content,
    digest,
    finished,
    names,
)

HOW = How(patches=SMALL_PANELS)


def stopped(forks: Forks, story: Story, folder: Path, number: signal.Signals, where: str) -> Ended:
    """Send a signal to a story's command when it has come to an operation."""
    folder.mkdir()
    story.prepare(folder)
    fault = Fault(folder, folder.with_suffix(".log"), 1, "wait", where)
    job = forks.start(story.command(folder), How(patches=SMALL_PANELS, fault=fault))
    fault.await_it()
    os.kill(job.pid, number)
    fault.let_go()  # a loop that is asked between two shards has to come there first
    return forks.end(job, 20)


@pytest.mark.parametrize(
    ("name", "number", "where"),
    [
        ("export", signal.SIGTERM, "write .*teacher-h1-00002"),
        ("export", signal.SIGUSR1, "open .*h2-sums-00008-00001"),
        ("export", signal.SIGTERM, "open .*manifest.json"),
        ("add", signal.SIGTERM, "open .*noisy-copy-h2-00003"),
        ("convert", signal.SIGUSR1, "open .*teacher-h2-00001"),
    ],
)
def test_a_signal_is_obeyed(
    forks: Forks,
    stories: dict[str, Story],
    tmp_path: Path,
    name: str,
    number: signal.Signals,
    where: str,
) -> None:
    story, folder = stories[name], tmp_path / "f"
    ended = stopped(forks, story, folder, number, where)
    assert (ended.code, ended.out) == (75, ""), ended
    said, hint = ended.err.splitlines()[-2:]
    assert said.startswith(f"error: stopped by {number.name}")
    assert hint == "  hint: run the same command to go on"
    assert set(names(folder)) - {"c"} == {"c.partial"}
    out = folder / "c"
    stood = finished(folder / "c.partial")
    assert len(stood) > 9
    again = forks.run(story.command(folder), HOW)
    assert (again.code, again.out) == (0, f"{out}\n"), again
    assert (content(out), digest(out)) == (content(story.whole), digest(story.whole))
    assert names(folder) == ["c"]
    now = finished(out)
    assert all(now[name] == stamp for name, stamp in stood.items() if name in now)


def test_control_c(forks: Forks, stories: dict[str, Story], tmp_path: Path) -> None:
    story, folder = stories["export"], tmp_path / "f"
    ended = stopped(forks, story, folder, signal.SIGINT, "write .*teacher-h1-00002")
    assert (ended.code, ended.out) == (130, ""), ended
    assert names(folder) == ["c.partial"]
    assert forks.run(story.command(folder), HOW).code == 0
    assert content(folder / "c") == content(story.whole)


def test_a_worker_that_waits_obeys(forks: Forks, made: Made, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    out = tmp_path / "f" / "c"
    command = [*made.export(out), "--worker", 0, "--workers", 2]
    fault = Fault(out.parent, tmp_path / "log")
    job = forks.start(command, How(patches=SMALL_PANELS, fault=fault))
    before: list[object] = []
    while len(fault.heard()) != len(before) or not before:  # until it has nothing to write
        before = list(fault.heard())
        threading.Event().wait(0.3)
    assert forks.is_running(job)
    os.kill(job.pid, signal.SIGTERM)
    ended = forks.end(job, 5)
    assert (ended.code, ended.out) == (75, ""), ended
    assert names(out.parent) == ["c.partial"]


def test_a_signal_is_no_error_to_be_handled() -> None:
    """Nothing between it and the end takes it for a file that is missing or damaged."""

    @leaving_on_signal()
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            pytest.fail("it was taken for an error")
        pytest.fail("it was not obeyed")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        work()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_leaves_signals_to_their_owner() -> None:
    found: list[object] = []

    @leaving_on_signal()
    def work() -> None:
        found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
