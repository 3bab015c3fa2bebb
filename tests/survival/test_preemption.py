"""Training and export under signals and kills at any moment: the same bytes as if left alone."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.survival.conftest import Made
from tests.survival.forks import SMALL_PANELS, Fault, Forks, How, content, digest, names

HOW = How(patches=SMALL_PANELS)
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL)
#: How a command may end that is not done: after a checkpoint, or before it could catch the signal.
BROKEN_OFF = {75, *(-number for number in SIGNALS)}

Command = Callable[[Made, Path], list[object]]


def sets(*values: str) -> list[str]:
    return [f"--set={value}" for value in (*values, "train.checkpoint_seconds=0")]


def teach(made: Made, out: Path, *more: str) -> list[object]:
    usual = ("--split=random:40/20/40:0", "--device=cpu", "--out", out)
    values = ("train.epochs=15", "train.ema=0.9", "model.hidden=8", *more)
    return ["teach", made.folder / "g", *usual, *sets(*values)]


def distill(made: Made, out: Path) -> list[object]:
    usual = ("--student=hop", "--preset=paper", "--device=cpu", "--out", out)
    values = ("train.epochs=4", 'size="tiny"', "model.hops=2", "train.batch=100")
    more = ("train.buffer=40KiB", "train.block=16")
    return ["distill", made.cache("all"), *usual, *sets(*values, *more)]


STORIES: dict[str, Command] = {
    "teach": lambda made, out: teach(made, out, "features=auto"),
    "teach by batches": lambda made, out: teach(
        made, out, "train.batch=100", "train.fanouts=[3,2]"
    ),
    "export": lambda made, out: made.export(out),
    "distill": distill,
}


@pytest.fixture(scope="session")
def whole(forks: Forks, made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What every story comes to when it is left alone."""
    where = tmp_path_factory.mktemp("left-alone")
    outs = {name: where / name / "c" for name in STORIES}
    for name, out in outs.items():
        out.parent.mkdir()
        assert forks.run(STORIES[name](made, out), HOW).code == 0
    return outs


def check_whole(out: Path, wanted: Path) -> None:
    assert content(out) == content(wanted)
    assert digest(out) == digest(wanted)
    log = [path / "metrics.jsonl" for path in (out, wanted)]
    assert log[0].exists() == log[1].exists()
    assert not log[0].exists() or log[0].read_text() == log[1].read_text()
    assert names(out.parent) == ["c"]


def disturb(forks: Forks, command: list[object], draw: random.Random, kills: int) -> list[int]:
    """Start a command again and again and break it off so many times, then let it end.

    Returns how it ended each time. It is given longer and longer, so that it gets on.
    """
    codes: list[int] = []
    while True:
        job = forks.start(command, HOW)
        if len(codes) < kills:
            time.sleep(draw.uniform(0.1, 0.6 + 0.3 * len(codes)))
            with suppress(ProcessLookupError):
                os.kill(job.pid, draw.choice(SIGNALS))
        ended = forks.end(job, 120)
        if ended.code == 0:
            return codes
        assert ended.code in BROKEN_OFF, ended
        codes.append(ended.code)


@pytest.mark.parametrize("name", ["teach by batches", "export", "distill"])
def test_broken_off_at_some_moment(
    forks: Forks, made: Made, whole: dict[str, Path], tmp_path: Path, name: str
) -> None:
    out = tmp_path / "f" / "c"
    out.parent.mkdir()
    assert disturb(forks, STORIES[name](made, out), random.Random(name), 1)
    check_whole(out, whole[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_broken_off_at_many_moments(
    forks: Forks, made: Made, whole: dict[str, Path], tmp_path: Path, name: str
) -> None:
    draw, kills, rounds = random.Random(name), 0, 0
    while kills < 8:
        out = tmp_path / str(rounds) / "c"
        out.parent.mkdir()
        kills += len(disturb(forks, STORIES[name](made, out), draw, 4))
        check_whole(out, whole[name])
        rounds += 1
    sys.stdout.write(f"{name}: {rounds} of {rounds} identical after {kills} kills\n")


#: What is done to the second checkpoint's files, in order.
OF_A_CHECKPOINT = (
    r"sync .*checkpoint\.safetensors\.tmp",
    r"os\.rename .*checkpoint-before\.safetensors",
    r"os\.rename .*/checkpoint\.safetensors",
)


@pytest.mark.parametrize("where", OF_A_CHECKPOINT)
def test_killed_while_it_writes_a_checkpoint(
    forks: Forks, made: Made, whole: dict[str, Path], tmp_path: Path, where: str
) -> None:
    out = tmp_path / "f" / "c"
    out.parent.mkdir()
    fault = Fault(out.parent, tmp_path / "log", 9, "kill", where)
    killed = forks.end(forks.start(distill(made, out), How(fault=fault)), 120)
    assert killed.code == -signal.SIGKILL, killed
    again = forks.end(forks.start(distill(made, out), HOW), 120)
    assert again.code == 0, again
    assert "going on after epoch" in again.err
    check_whole(out, whole["distill"])


@pytest.mark.parametrize("name", ["teach", "distill"])
def test_a_newest_checkpoint_that_is_cut_short(
    forks: Forks, made: Made, whole: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """As a host that loses its power leaves it: the one before counts."""
    out = tmp_path / "f" / "c"
    out.parent.mkdir()
    fault = Fault(out.parent, tmp_path / "log", 9, "kill", OF_A_CHECKPOINT[1])
    assert forks.run(STORIES[name](made, out), How(fault=fault)).code == -signal.SIGKILL
    newest = [*out.with_name("c.partial").rglob("checkpoint.safetensors")]
    assert len(newest) == 1
    os.truncate(newest[0], newest[0].stat().st_size // 2)
    again = forks.run(STORIES[name](made, out), HOW)
    assert again.code == 0, again
    assert "going on after epoch" in again.err
    check_whole(out, whole[name])
