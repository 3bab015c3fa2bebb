"""Folders that cannot be written, caches that are only read, and the modes of what is written."""

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.survival.conftest import Made, Story
from tests.survival.forks import SMALL_PANELS, Ended, Fault, Forks, How, content, names

#: Somebody else.
NOBODY = 65534


@dataclass(frozen=True)
class Visit:
    """A read-only folder with a graph, a teacher, a cache and a home; only `own` can be written."""

    folder: Path
    how: How
    made: Made

    @property
    def own(self) -> Path:
        return self.folder / "own"


@pytest.fixture
def visit(made: Made, tmp_path: Path) -> Iterator[Visit]:
    folder = tmp_path / "visit"
    folder.mkdir()
    for name in ("g", "t", "all"):
        shutil.copytree(made.cache(name), folder / name)
    for name in ("own", "home"):
        (folder / name).mkdir()
    for path in (folder, *folder.rglob("*")):
        if path.name != "own":
            path.chmod(0o555 if path.is_dir() else 0o444)
    yield Visit(
        folder, How({"G2T_HOME": str(folder / "home")}, SMALL_PANELS, plain=True), Made(folder)
    )
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def check_refusal(ended: Ended, path: Path) -> None:
    assert (ended.code, ended.out) == (3, ""), ended
    assert ended.err.startswith(f"error: cannot write {path}: Permission denied")


def test_a_folder_that_cannot_be_written(forks: Forks, visit: Visit) -> None:
    before = names(visit.folder)
    for command in (visit.made.export, visit.made.convert):
        check_refusal(forks.run(command(visit.folder / "c"), visit.how), visit.folder / "c")
        below = visit.folder / "new" / "c"
        check_refusal(forks.run(command(below), visit.how), below)
    assert names(visit.folder) == before


def test_a_cache_that_cannot_grow(forks: Forks, visit: Visit) -> None:
    cache = visit.own / "some"
    ended = forks.run(visit.made.export(cache, "layers,logits"), visit.how)
    assert ended.code == 0, ended
    before = content(visit.own)
    visit.own.chmod(0o555)
    check_refusal(forks.run(visit.made.add(cache, "edge_scores"), visit.how), cache)
    assert content(visit.own) == before


def test_unfinished_work_of_another(forks: Forks, visit: Visit, tmp_path: Path) -> None:
    """Its owner may go on with it; nobody else makes a mess of it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    command, out = visit.made.export(visit.own / "c"), visit.own / "c"
    fault = Fault(visit.own, tmp_path / "log", 1, "kill", r"os\.rename .*teacher-h1-00002")
    assert forks.run(command, How(patches=SMALL_PANELS, fault=fault)).code == -9
    for path in (visit.own / "c.lock", visit.own / "c.partial", *visit.own.glob("*/**/*")):
        os.chown(path, NOBODY, NOBODY)
    before = content(visit.own / "c.partial")
    check_refusal(forks.run(command, visit.how), out)
    (visit.own / "c.lock").unlink()
    ended = forks.run(command, visit.how)
    assert (ended.code, ended.out) == (3, ""), ended
    assert f"cannot write {out}.partial/" in ended.err
    assert content(visit.own / "c.partial") == before
    assert forks.run(command, How(patches=SMALL_PANELS)).code == 0
    assert content(out) == content(visit.made.cache("all"))


def test_a_read_only_cache_serves(forks: Forks, visit: Visit) -> None:
    """With a home that cannot be written either: all that is lost is the memory of digests."""
    made, cache = visit.made, visit.made.cache("all")
    student = visit.own / "student"
    short = ("--student", "mlp", "--set", "train.epochs=1", "--set", "preset=soft", "--quiet")
    commands = {
        "it is done already": made.export(cache),
        "verify": ["cache", "verify", cache],
        "distill": ["distill", cache, *short, "--device", "cpu", "--out", student],
        "eval": ["eval", student, "--graph", visit.folder / "g", "--cache", cache],
    }
    before = content(visit.folder)
    for name, command in commands.items():
        ended = forks.run(command, visit.how)
        assert (name, ended.code) == (name, 0), ended
    after = {name: data for name, data in content(visit.folder).items() if name[:4] != "own/"}
    assert after == before
    assert names(visit.folder / "home") == []


@pytest.mark.parametrize(
    ("name", "umask"),
    [("export", 0o027), ("export", 0o002), ("add", 0o077), ("convert", 0o027)],
)
def test_modes_are_what_the_umask_allows(
    forks: Forks, stories: dict[str, Story], tmp_path: Path, name: str, umask: int
) -> None:
    story = stories[name]
    story.prepare(tmp_path)
    old = {path.name for path in tmp_path.glob("c/*.safetensors")}
    ended = forks.run(story.command(tmp_path), How(patches=SMALL_PANELS, umask=umask))
    assert ended.code == 0, ended
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "c").iterdir()}
    assert len(modes) > 20
    assert {mode for file, mode in modes.items() if file not in old} == {0o666 & ~umask}
    assert {mode for file, mode in modes.items() if file in old} <= {0o644}  # linked, as they were
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o777 & ~umask
