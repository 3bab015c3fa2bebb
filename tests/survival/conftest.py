"""One graph, one teacher, and the caches that an undisturbed run makes of them."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.survival.forks import SMALL_PANELS, Ended, Forks, How

#: What of the teacher is written: what `cache add` finds, what it adds, and everything.
SOME, MORE = "layers,logits", "pre_layers,edge_scores,reliability,codes,clusters"
ALL = f"{SOME},{MORE}"

#: Two teachers of different widths.
BOTH = "t t2"


@dataclass(frozen=True)
class Made:
    """Where graph and teacher lie, with finished caches of them: all signals, some, and in int8."""

    folder: Path

    def export(self, out: Path, signals: str = ALL, teachers: str = "t") -> list[object]:
        """Return the command that exports teachers to `out`, in 4 shards of 300 rows."""
        return [
            *("export-features", *(self.folder / name for name in teachers.split())),
            *("--graph", self.folder / "g", "--out", out),
            *("--for", signals, "--hops", 2, "--set", "codes=8", "--set", "shard_rows=300"),
        ]

    def add(self, cache: Path, signals: str = MORE) -> list[object]:
        """Return the command that adds signals."""
        more = ("--teacher", self.folder / "t", "--graph", self.folder / "g")
        return ["cache", "add", cache, "--for", signals, *more]

    def convert(self, out: Path) -> list[object]:
        """Return the command that converts the cache of all signals."""
        return ["cache", "convert", self.folder / "all", "--dtype", "int8", "--out", out]

    def cache(self, name: str) -> Path:
        """Return a finished cache: `all`, `some`, `int8`, or `mean`, of two teachers."""
        return self.folder / name


@dataclass(frozen=True)
class Story:
    """A command that makes `c` in a folder: what is there before it, and what it comes to."""

    prepare: Callable[[Path], object]
    command: Callable[[Path], list[object]]
    whole: Path


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Start `g2t` commands as forks of one process."""
    forks = Forks(tmp_path_factory.mktemp("said"))
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def made(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Make graph, teacher and caches, undisturbed."""
    made = Made(tmp_path_factory.mktemp("made"))
    sizes = {"nodes": 1200, "degree": 6, "features": 20, "classes": 4}
    model = {"model.hidden": 16, "model.layers": 3, "train.epochs": 2}

    def done(*arguments: object) -> None:
        ended: Ended = forks.run([*arguments, "--quiet"], How(patches=SMALL_PANELS))
        assert ended.code == 0, ended

    done("import", "synthetic:csbm", *sets(sizes), "--out", made.folder / "g")
    split = ("--split", "random:40/20/40:0", "--device", "cpu")
    done("teach", made.folder / "g", *split, *sets(model), "--out", made.folder / "t")
    more = ("--seed", 1, "--out", made.folder / "t2")
    done("teach", made.folder / "g", *split, *sets({**model, "model.hidden": 8}), *more)
    done(*made.export(made.cache("all")))
    done(*made.export(made.cache("mean"), ALL, BOTH))
    done(*made.export(made.cache("some"), SOME))
    done(*made.convert(made.cache("int8")))
    return made


def sets(values: dict[str, int]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="session")
def stories(made: Made) -> dict[str, Story]:
    """The commands that write a cache."""

    def copy(folder: Path) -> None:
        shutil.copytree(made.cache("some"), folder / "c")

    return {
        "export": Story(lambda _: None, lambda f: made.export(f / "c"), made.cache("all")),
        "mean": Story(
            lambda _: None, lambda f: made.export(f / "c", ALL, BOTH), made.cache("mean")
        ),
        "add": Story(copy, lambda f: made.add(f / "c"), made.cache("all")),
        "convert": Story(lambda _: None, lambda f: made.convert(f / "c"), made.cache("int8")),
    }
