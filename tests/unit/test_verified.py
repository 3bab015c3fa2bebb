"""Remembered digests: nothing is hashed twice, nothing that changed is believed, no error ever."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from g2t import artifact, verified
from g2t.artifact import file_digest, open_artifact
from g2t.errors import IntegrityError
from g2t.stage import Stage
from g2t.verified import Memory, is_settled

FILES = 3


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and files that count as settled as soon as they are written."""
    monkeypatch.setenv("G2T_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(verified, "SETTLED_NS", 0)
    return tmp_path / "home"


def make(out: Path) -> Path:
    with Stage(out, "thing", {}, {}, 0) as stage:
        for index in range(FILES):
            (stage.path / f"{index}.bin").write_bytes(bytes([index]) * 1000)
        stage.commit({})
    time.sleep(0.02)  # more than one tick of the file system's clock
    return out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return make(tmp_path / "a")


@pytest.fixture
def hashed(out: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed, in order, but for the making."""
    names: list[str] = []

    def counting(path: Path) -> str:
        names.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(artifact, "file_digest", counting)
    return names


def memories(home: Path) -> list[Path]:
    return sorted((home / "verified").glob("*"))


def test_a_file_is_hashed_once(out: Path, home: Path, hashed: list[str], tmp_path: Path) -> None:
    first = open_artifact(out, "thing")
    assert hashed == ["0.bin", "1.bin", "2.bin"]
    second = open_artifact(out, "thing")
    assert hashed == ["0.bin", "1.bin", "2.bin"]
    assert first == second
    open_artifact(out, "thing", remembered=False)
    assert hashed == ["0.bin", "1.bin", "2.bin"] * 2
    shutil.rmtree(home)
    open_artifact(out, "thing", remembered=False)
    open_artifact(out, "thing")
    assert len(hashed) == 3 * FILES  # a full check is remembered too


def test_only_the_file_that_was_touched_is_hashed_again(
    out: Path, home: Path, hashed: list[str], tmp_path: Path
) -> None:
    open_artifact(out, "thing")
    os.utime(out / "1.bin")
    open_artifact(out, "thing")
    open_artifact(out, "thing")
    assert hashed == ["0.bin", "1.bin", "2.bin", "1.bin"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Path.unlink, "is missing"),
        (lambda file: os.truncate(file, 999), "has 999 bytes"),
        (lambda file: file.rename(file.with_name("x")), "is missing"),
    ],
)
def test_sizes_and_names_are_never_remembered(
    out: Path, home: Path, hashed: list[str], change: Callable[[Path], object], said: str
) -> None:
    open_artifact(out, "thing")
    change(out / "1.bin")
    with pytest.raises(IntegrityError, match=said):
        open_artifact(out, "thing")
    assert len(hashed) == FILES


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[500] ^= 1
    file.write_bytes(data)


def flip_in_place(file: Path) -> None:
    with file.open("r+b") as open_file:
        open_file.seek(500)
        open_file.write(b"\xff")


def replace(file: Path) -> None:
    other = file.with_name("other")
    shutil.copy2(file, other)
    flip(other)
    other.rename(file)


@pytest.mark.parametrize("change", [flip, flip_in_place, replace])
def test_a_change_that_restores_size_and_mtime_is_found(
    home: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    file = make(tmp_path / "a") / "1.bin"
    open_artifact(tmp_path / "a", "thing")
    before = file.stat()
    change(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    for _ in range(2):
        with pytest.raises(IntegrityError, match=r"1.bin does not match its recorded digest"):
            open_artifact(tmp_path / "a", "thing")


def test_a_young_file_is_not_remembered(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[str]
) -> None:
    """It could change within the tick of its ctime, and its identity would stay what it is."""
    monkeypatch.setenv("G2T_HOME", str(tmp_path / "home"))
    open_artifact(out, "thing")
    open_artifact(out, "thing")
    assert len(hashed) == 2 * FILES
    assert not (tmp_path / "home").exists()
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 3_000_000_000)
    open_artifact(out, "thing")
    open_artifact(out, "thing")
    assert len(hashed) == 3 * FILES


def stat_of(mtime: int, ctime: int) -> Any:
    class Facts:
        st_mtime_ns, st_ctime_ns = mtime, ctime

    return Facts()


@pytest.mark.parametrize(
    ("mtime", "ctime", "settled"),
    [(0, 8, True), (8, 0, True), (0, 9, False), (9, 0, False), (0, 11, False), (12, 0, False)],
)
def test_settled_is_two_seconds_after_the_last_change(
    mtime: int, ctime: int, settled: bool
) -> None:
    second = 1_000_000_000
    assert is_settled(stat_of(mtime * second, ctime * second), 10 * second) is settled


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(
    out: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def slow(path: Path) -> str:
        digest = file_digest(path)
        if path.name == "2.bin":
            flip_in_place(path)
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(artifact, "file_digest", slow)
        open_artifact(out, "thing")
    with pytest.raises(IntegrityError, match=r"2.bin does not match"):
        open_artifact(out, "thing")


def test_what_a_full_check_finds_is_not_believed_afterwards(
    out: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[str]
) -> None:
    """A disk that rots changes no time stamp."""
    open_artifact(out, "thing")

    def rotten(path: Path) -> str:
        return "0" * 32 if path.name == "1.bin" else file_digest(path)

    with monkeypatch.context() as patch:
        patch.setattr(artifact, "file_digest", rotten)
        open_artifact(out, "thing")  # remembered, so it does not show
        with pytest.raises(IntegrityError, match=r"1.bin does not match"):
            open_artifact(out, "thing", remembered=False)
        with pytest.raises(IntegrityError, match=r"1.bin does not match"):
            open_artifact(out, "thing")


def test_an_interrupted_check_keeps_what_it_has_found(
    out: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[str]
) -> None:

    def interrupted(path: Path) -> str:
        if path.name == "1.bin":
            raise KeyboardInterrupt
        return file_digest(path)

    with monkeypatch.context() as patch:
        patch.setattr(artifact, "file_digest", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_artifact(out, "thing")
    open_artifact(out, "thing")
    assert hashed == ["1.bin", "2.bin"]


def test_opening_writes_nothing_into_the_artefact(out: Path, home: Path, tmp_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (out, *out.rglob("*"))}
    for remembered in (True, True, False):
        open_artifact(out, "thing", remembered)
    assert {file: file.stat().st_mtime_ns for file in (out, *out.rglob("*"))} == before
    assert len(memories(home)) == 1


def test_an_artefact_is_one_by_whatever_path(
    out: Path, home: Path, tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(out)
    monkeypatch.chdir(tmp_path)
    for path in (out, Path("a"), tmp_path / "link", tmp_path / "a" / ".." / "a"):
        open_artifact(path, "thing")
    assert (len(hashed), len(memories(home))) == (FILES, 1)


def test_folders_that_are_gone_are_forgotten(home: Path, tmp_path: Path) -> None:
    for name in ("kept", "gone", "moved"):
        open_artifact(make(tmp_path / name), "thing")
    assert len(memories(home)) == 3
    (home / "verified" / "damaged.json").write_text("{")
    for name, age in (("old.json.0.tmp", 7200), ("new.json.0.tmp", 0)):
        left = home / "verified" / name
        left.write_text("")
        os.utime(left, (time.time() - age,) * 2)
    shutil.rmtree(tmp_path / "gone")
    (tmp_path / "moved").rename(tmp_path / "away")
    open_artifact(tmp_path / "away", "thing")
    left_over = {json.loads(file.read_text() or "{}").get("folder") for file in memories(home)}
    assert left_over == {str(tmp_path / "kept"), str(tmp_path / "away"), None}
    assert [file.name for file in memories(home) if file.suffix == ".tmp"] == ["new.json.0.tmp"]


def test_forgetting_is_bounded(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "verified").mkdir(parents=True)
    for index in range(3 * verified.LOOKED_AT):
        (home / "verified" / f"{index}.json").write_text("{")
    open_artifact(make(tmp_path / "a"), "thing")
    gone = 3 * verified.LOOKED_AT + 1 - len(memories(home))
    assert verified.LOOKED_AT - 1 <= gone <= verified.LOOKED_AT


def test_nothing_known_leaves_no_memory(home: Path, tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.save()
    assert not home.exists()
    open_artifact(make(tmp_path / "a"), "thing")
    assert len(memories(home)) == 1
    Memory(tmp_path / "a", recall=False).save()
    assert memories(home) == []


SCRIPT = """
import shutil, sys
from pathlib import Path
from g2t import verified
from g2t.artifact import open_artifact
from g2t.files import home
verified.SETTLED_NS = 0
for turn in range(60):
    open_artifact(Path(sys.argv[1]), "thing", remembered=turn % 3 > 0)
    if turn % 7 == 0:
        shutil.rmtree(home() / "verified", ignore_errors=True)
"""


def test_processes_do_not_disturb_each_other(out: Path, home: Path, tmp_path: Path) -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for run in runs:
        assert run.communicate(timeout=60)[1] == b""
        assert run.returncode == 0
    open_artifact(out, "thing")
    (memory,) = memories(home)
    assert set(json.loads(memory.read_text())["files"]) == {f"{i}.bin" for i in range(FILES)}
