"""SIGKILL anywhere: the next run makes what an undisturbed one makes, and nothing twice."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from g2t.cache.check import open_cache
from tests.export.graphs import EVERYTHING, odd_graph, store, write_teacher
from tests.survival.conftest import ALL, Story
from tests.survival.forks import (
    PANELS,
    SMALL_PANELS,
    Fault,
    Forks,
    How,
    content,
    digest,
    finished,
    names,
)

#: What a command does to files: events and paths, in order.
Operations = list[tuple[str, str]]


def observe(forks: Forks, story: Story, folder: Path) -> Operations:
    """Let a story's command run undisturbed."""
    folder.mkdir()
    story.prepare(folder)
    fault = Fault(folder, folder.with_suffix(".log"))
    ended = forks.run(story.command(folder), How(patches=SMALL_PANELS, fault=fault))
    assert ended.code == 0, ended
    assert content(folder / "c") == content(story.whole)
    return fault.heard()


def survive(forks: Forks, story: Story, where: Path, *points: int) -> None:
    """Kill a story's command at some operations in a row, then let it end and check everything."""
    folder = where / "-".join(map(str, points))
    folder.mkdir()
    story.prepare(folder)
    out = folder / "c"
    was_there = out.exists()
    for point in points:
        fault = Fault(folder, folder.with_suffix(f".{point}"), point)
        killed = forks.run(story.command(folder), How(patches=SMALL_PANELS, fault=fault))
        assert killed.code == -signal.SIGKILL, killed
        check_readable(out, was_there)
    work = out.with_name("c.partial") if out.with_name("c.partial").exists() else out
    stood = finished(work)
    fault = Fault(folder, folder.with_suffix(".last"))
    ended = forks.run(story.command(folder), How(patches=SMALL_PANELS, fault=fault))
    assert (ended.code, ended.out) == (0, f"{out}\n"), ended
    check_whole(out, story)
    renamed = {path for event, path in fault.heard() if event == "os.rename"}
    assert not renamed & {str(work / name) for name in stood}
    now = finished(out)
    assert all(now[name] == stamp for name, stamp in stood.items() if name in now)


def check_whole(out: Path, story: Story) -> None:
    """The cache is that of an undisturbed run, and nothing is left beside it."""
    assert content(out) == content(story.whole)
    assert digest(out) == digest(story.whole)
    assert names(out.parent) == ["c"]


def check_readable(out: Path, was_there: bool) -> None:
    """What has the name of a cache is one; between two renames the old one waits beside it."""
    cache = out if out.exists() else out.with_name("c.replaced")
    if was_there or cache.exists():
        assert open_cache(cache).rows > 0


def spread(operations: Operations, count: int, seed: int = 0) -> list[int]:
    """Draw an operation from every one of `count` equal parts."""
    draw, total = random.Random(seed), len(operations)
    return [draw.randrange(total * i // count, total * (i + 1) // count) + 1 for i in range(count)]


def place(operations: Operations, event: str, end: str) -> int:
    """Return the number of the first operation of a kind on a path."""
    return next(n for n, (e, p) in enumerate(operations, 1) if e == event and p.endswith(end))


@pytest.fixture(scope="session")
def operations(
    forks: Forks, stories: dict[str, Story], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Operations]:
    """What every story's command does."""
    where = tmp_path_factory.mktemp("undisturbed")
    return {name: observe(forks, story, where / name) for name, story in stories.items()}


@pytest.mark.parametrize("part", range(4))
def test_a_mean_of_teachers_survives(
    forks: Forks,
    stories: dict[str, Story],
    operations: dict[str, Operations],
    tmp_path: Path,
    part: int,
) -> None:
    point = spread(operations["mean"], 4)[part]
    survive(forks, stories["mean"], tmp_path, point)


@pytest.mark.parametrize("part", range(5))
def test_an_export_survives(
    forks: Forks,
    stories: dict[str, Story],
    operations: dict[str, Operations],
    tmp_path: Path,
    part: int,
) -> None:
    point = spread(operations["export"], 5)[part]
    survive(forks, stories["export"], tmp_path, point)


@pytest.mark.parametrize("name", ["add", "convert"])
def test_other_writers_of_caches_survive(
    forks: Forks,
    stories: dict[str, Story],
    operations: dict[str, Operations],
    tmp_path: Path,
    name: str,
) -> None:
    survive(forks, stories[name], tmp_path, *spread(operations[name], 1))


#: Moments that leave a state of their own behind: the event, and the end of its path.
MOMENTS = {
    "the folder has no record": ("sync", "c.partial/run.json.tmp"),
    "a note without its file": ("os.rename", "teacher-h1-00002.safetensors.digest"),
    "one of two outputs of a layer": ("os.rename", "c.partial/teacher-h1-00001.safetensors"),
    "the manifest is there": ("os.rename", "manifest.json"),
    "the record is there": ("sync", "c.partial"),
    "before the last rename": ("os.rename", "/c"),
    "after the last rename": ("os.remove", "c/scratch/looped.columns"),
    "nothing is left to do": ("os.remove", "/c.lock"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_narrow_moments(
    forks: Forks,
    stories: dict[str, Story],
    operations: dict[str, Operations],
    tmp_path: Path,
    moment: str,
) -> None:
    event, end = MOMENTS[moment]
    survive(forks, stories["export"], tmp_path, place(operations["export"], event, end))


def test_an_add_between_its_two_renames(
    forks: Forks, stories: dict[str, Story], operations: dict[str, Operations], tmp_path: Path
) -> None:
    """There is no cache then, and the one that was stands beside it."""
    survive(forks, stories["add"], tmp_path, place(operations["add"], "os.rename", "/c"))


def test_two_kills_in_a_row(
    forks: Forks, stories: dict[str, Story], operations: dict[str, Operations], tmp_path: Path
) -> None:
    survive(forks, stories["export"], tmp_path, len(operations["export"]) // 2, 60)


def test_the_next_run_may_have_other_memory(
    forks: Forks, stories: dict[str, Story], operations: dict[str, Operations], tmp_path: Path
) -> None:
    """What lies in the scratch folder serves whatever the number of panels that are held."""
    story = stories["export"]
    point = place(operations["export"], "os.rename", "scratch/h2-sums-00008-00002")
    fault = Fault(tmp_path, tmp_path.with_suffix(".log"), point)
    for how in (How(patches=SMALL_PANELS, fault=fault), How(patches=PANELS)):
        ended = forks.run(story.command(tmp_path), how)
    assert ended.code == 0, ended
    check_whole(tmp_path / "c", story)


def test_what_stands_is_not_computed_again(
    forks: Forks, stories: dict[str, Story], operations: dict[str, Operations], tmp_path: Path
) -> None:
    """Killed as the third of four shards of h2 gets its name: two are left, in three passes."""
    story = stories["export"]
    point = place(operations["export"], "os.rename", "c.partial/teacher-h2-00002.safetensors")
    fault = Fault(tmp_path, tmp_path.with_suffix(".log"), point)
    for how in (How(patches=SMALL_PANELS, fault=fault), How(patches=SMALL_PANELS)):
        ended = forks.run(story.command(tmp_path), how)
    steps = [line.split(" step=") for line in ended.err.splitlines() if " step=" in line]
    assert {task for task, _ in steps} & {"tokens-1", "tokens-2", "h1", "h2"} == {"h2"}
    assert {step.split("/")[1].strip() for task, step in steps if task == "h2"} == {"6"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"), [(n, s) for s in range(1, 6) for n in ("export", "add", "convert")]
)
def test_many_moments(
    forks: Forks,
    stories: dict[str, Story],
    operations: dict[str, Operations],
    tmp_path: Path,
    name: str,
    seed: int,
) -> None:
    for point in spread(operations[name], 8, seed):
        survive(forks, stories[name], tmp_path, point)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["export", "add", "convert"])
def test_two_kills_anywhere(
    forks: Forks,
    stories: dict[str, Story],
    operations: dict[str, Operations],
    tmp_path: Path,
    name: str,
) -> None:
    draw, most = random.Random(1), len(operations[name])
    for _ in range(8):
        first = draw.randrange(1, most)
        second = draw.randrange(1, max(2, (most - first) // 3))
        survive(forks, stories[name], tmp_path, first, second)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_any_time(forks: Forks, stories: dict[str, Story], tmp_path: Path, seed: int) -> None:
    """By the clock, so also in the middle of what other libraries do; until it comes to its end."""
    story, draw, out = stories["export"], random.Random(seed), tmp_path / "c"
    code, kills = -9, 0
    while code != 0:
        job = forks.start(story.command(tmp_path), How(patches=SMALL_PANELS))
        time.sleep(draw.uniform(0, 0.04) * (1 + kills))  # longer and longer, so it does end
        with suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGKILL)
        code = forks.end(job).code
        assert code in (0, -9)
        kills += code == -9
        check_readable(out, False)
        assert kills < 100
    assert kills
    assert forks.run(story.command(tmp_path)).out == f"{out}\n"
    check_whole(out, story)


#: Teacher, kind of features, split and settings that take other ways through the export.
OTHERS: dict[str, tuple[str, Any, str, str]] = {
    "attention": ("gat", "dense", "cpf:3", "--dtype=int8 --hops=1"),
    "sparse": ("sage", "sparse", "public", "--dtype=bf16 --topk=2 --hops=2 --project=svd:5"),
    "words": ("gcn", "words", "public", "--precision=fp16 --hops=2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_caches_survive(forks: Forks, tmp_path: Path, name: str) -> None:
    teacher, kind, split, options = OTHERS[name]
    graph = store(odd_graph(kind=kind), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", teacher, split=split, **EVERYTHING)

    def command(folder: Path) -> list[object]:
        parts = ("--for", ALL, "--set", "shard_rows=100", *options.split())
        return ["export-features", taught.teacher, "--graph", graph, "--out", folder / "c", *parts]

    assert forks.run(command(tmp_path), How(patches=SMALL_PANELS)).code == 0
    story = Story(lambda _: None, command, tmp_path / "c")
    operations = observe(forks, story, tmp_path / "undisturbed")
    for point in spread(operations, 12):
        survive(forks, story, tmp_path, point)
