"""Several commands that write one cache at once: one makes it, the others say why they do not."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from g2t.cache.check import open_cache
from g2t.errors import InputError
from g2t.place import Place
from tests.survival.conftest import Made, Story
from tests.survival.forks import PANELS, ROOT, Ended, Fault, Forks, How, content, digest, names

HOW = How(patches=PANELS)


def paused(folder: Path, log: Path, only: str, at: int = 1) -> tuple[Fault, How]:
    """Return how a command runs that waits at an operation."""
    fault = Fault(folder, log, at, "wait", only)
    return fault, How(patches=PANELS, fault=fault)


def check_refusal(ended: Ended, said: str) -> None:
    assert (ended.code, ended.out) == (3, ""), ended
    assert ended.err.splitlines()[-2].startswith(f"error: {said}"), ended.err


def check_whole(out: Path, story: Story) -> None:
    assert content(out) == content(story.whole)
    assert digest(out) == digest(story.whole)
    assert names(out.parent) == ["c"]


@pytest.mark.parametrize("name", ["export", "add", "convert"])
def test_the_second_is_refused_and_changes_nothing(
    forks: Forks, stories: dict[str, Story], tmp_path: Path, name: str
) -> None:
    story, folder = stories[name], tmp_path / "f"
    folder.mkdir()
    story.prepare(folder)
    fault, how = paused(folder, tmp_path / "log", r"os\.rename .*/manifest\.json$")
    first = forks.start(story.command(folder), how)
    fault.await_it()
    before = content(folder)
    check_refusal(forks.run(story.command(folder)), f"another g2t is writing {folder / 'c'}")
    assert content(folder) == before
    fault.let_go()
    ended = forks.end(first)
    assert (ended.code, ended.out) == (0, f"{folder / 'c'}\n"), ended
    check_whole(folder / "c", story)


@pytest.mark.parametrize("count", [2, 4])
def test_started_together(
    forks: Forks, stories: dict[str, Story], tmp_path: Path, count: int
) -> None:
    story = stories["export"]
    jobs = [forks.start(story.command(tmp_path), HOW) for _ in range(count)]
    ended = [forks.end(job) for job in jobs]
    made = [one for one in ended if one.code == 0]
    assert made
    assert {one.out for one in made} == {f"{tmp_path / 'c'}\n"}
    for one in ended:
        if one.code != 0:
            check_refusal(one, "another g2t is writing")
    check_whole(tmp_path / "c", story)


def test_an_add_does_not_undo_another(forks: Forks, made: Made, tmp_path: Path) -> None:
    """Each has read the cache before the other one writes it; the later one has to look again."""
    folder = tmp_path / "f"
    folder.mkdir()
    out = folder / "c"
    assert forks.run(made.export(out, "layers,logits"), HOW).code == 0
    fault, how = paused(folder, tmp_path / "log", r"open .*c\.lock")
    late = forks.start(made.add(out, "codes"), how)
    fault.await_it()
    assert forks.run(made.add(out, "edge_scores"), HOW).code == 0
    fault.let_go()
    check_refusal(forks.end(late), f"{out} has just been changed")
    assert open_cache(out).manifest.tensor("teacher-edge-scores") is not None
    assert names(folder) == ["c"]
    assert forks.run(made.add(out, "codes"), HOW).code == 0
    held = open_cache(out).manifest
    assert held.tensor("teacher-edge-scores") is not None
    assert held.tensor("teacher-codes") is not None


def worker(made: Made, out: Path, number: int, of: int) -> list[object]:
    return [*made.export(out), "--worker", number, "--workers", of]


@pytest.mark.parametrize(
    ("where", "at"),
    [
        ("open .*teacher-h1-00002", 1),
        (r"os\.rename .*tokens-2-00002\.safetensors$", 1),
        (r"os\.mkdir .*scratch$", 8),  # where the note of a shard goes
    ],
)
def test_a_worker_that_was_overtaken_leaves_nothing(
    forks: Forks, made: Made, stories: dict[str, Story], tmp_path: Path, where: str, at: int
) -> None:
    """A plain export finishes beside a worker that is in the middle of a shard."""
    folder = tmp_path / "f"
    folder.mkdir()
    out = folder / "c"
    fault, how = paused(folder, tmp_path / "log", where, at)
    slow, other = (forks.start(worker(made, out, i, 2), (how, HOW)[i]) for i in (0, 1))
    fault.await_it()
    plain = forks.run(made.export(out), HOW)
    assert (plain.code, plain.out) == (0, f"{out}\n"), plain
    fault.let_go()
    for job in (slow, other):
        ended = forks.end(job)
        assert (ended.code, ended.out) == (0, ""), ended
    check_whole(out, stories["export"])


def test_workers_do_not_join_a_plain_export(forks: Forks, made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    out = folder / "c"
    fault, how = paused(folder, tmp_path / "log", "open .*teacher-h1-00002")
    plain = forks.start(made.export(out), how)
    fault.await_it()
    hasty = How(patches={**PANELS, "g2t.stage.PATIENCE": 0.2})
    check_refusal(forks.run(worker(made, out, 1, 2), hasty), f"another g2t is writing {out}")
    patient = forks.start(worker(made, out, 0, 2), HOW)
    fault.let_go()
    ended = forks.end(plain)
    assert (ended.code, ended.out) == (0, f"{out}\n"), ended
    assert forks.end(patient).code == 0
    assert names(folder) == ["c"]


def test_a_lock_of_one_that_was_killed_holds_nobody_up(
    forks: Forks, stories: dict[str, Story], tmp_path: Path
) -> None:
    story, folder = stories["export"], tmp_path / "f"
    folder.mkdir()
    fault = Fault(folder, tmp_path / "log", 100)
    assert forks.run(story.command(folder), How(patches=PANELS, fault=fault)).code == -9
    assert names(folder) == ["c.lock", "c.partial"]
    assert forks.run(story.command(folder), HOW).code == 0
    check_whole(folder / "c", story)


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some parallel ones are mounted: then the file itself is the lock."""

    def refuse(file: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    place = Place(tmp_path / "c")
    for _ in range(2):
        with place.locked():
            assert names(tmp_path) == ["c.lock"]
            with pytest.raises(InputError, match="another g2t is writing"), place.locked():
                pass
        assert names(tmp_path) == []


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_dead_holder_on_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the file stays behind; it says whose it was, and that this process is gone."""
    dies = (
        "import errno, fcntl, os, pathlib, warnings\n"
        "def refuse(*_): raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))\n"
        "warnings.simplefilter('ignore'); fcntl.flock = refuse\n"
        "from g2t.place import Place\n"
        f"with Place(pathlib.Path({str(tmp_path / 'c')!r})).locked(): os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", dies], cwd=ROOT, check=False).returncode == -9
    assert names(tmp_path) == ["c.lock"]

    def refuse(file: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Place(tmp_path / "c").locked():
        pass
    assert names(tmp_path) == []
