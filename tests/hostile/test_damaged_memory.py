"""Remembered digests that are damaged, or have no place: they cost the hashing, and no error."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from g2t import artifact, verified
from g2t.artifact import file_digest
from g2t.cache.check import open_cache
from spoiling import write_cache

FILES = 20  # of one cache


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return write_cache(tmp_path / "cache")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and files that count as settled as soon as they are written."""
    monkeypatch.setenv("G2T_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(verified, "SETTLED_NS", 0)
    return tmp_path / "home"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed, in order."""
    names: list[str] = []

    def counting(path: Path) -> str:
        names.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(artifact, "file_digest", counting)
    return names


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def edit(file: Path) -> None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return edit


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def wrong_digests(content: dict[str, Any]) -> None:
    for known in content["files"].values():
        known[-1] = "0" * 32


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-10]),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "a list": lambda file: file.write_text("[]"),
    "nested": lambda file: file.write_text("[" * 100_000),
    "another version": edited(lambda content: content.update(schema="g2t.verified/2")),
    "no files": edited(lambda content: content.pop("files")),
    "files are a list": edited(lambda content: content.update(files=[1])),
    "entries are numbers": edited(lambda content: content.update(files={"manifest.json": 1})),
    "of another folder": edited(lambda content: content.update(folder="/elsewhere")),
    "wrong digests": edited(wrong_digests),
    "a directory": directory,
    "a fifo": fifo,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_memory_costs_the_hashing_and_nothing_else(
    cache: Path, home: Path, hashed: list[str], damage: str
) -> None:
    open_cache(cache)
    (memory,) = (home / "verified").iterdir()
    DAMAGE[damage](memory)
    open_cache(cache)
    assert len(hashed) == 2 * FILES
    open_cache(cache)
    assert len(hashed) == (3 if damage == "a directory" else 2) * FILES
    assert list((home / "verified").iterdir()) == [memory]


@pytest.mark.parametrize("name", ["file", "file/below", "loop"])
def test_a_home_that_cannot_be_written_is_no_error(
    cache: Path, home: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[str], name: str
) -> None:
    (home.parent / "file").write_text("mine")
    (home.parent / "loop").symlink_to(home.parent / "loop")
    monkeypatch.setenv("G2T_HOME", str(home.parent / name))
    for _ in range(2):
        open_cache(cache)
    assert len(hashed) == 2 * FILES
    assert (home.parent / "file").read_text() == "mine"


def test_a_user_without_a_home_is_no_error(
    cache: Path, home: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[str]
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("G2T_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    for _ in range(2):
        open_cache(cache)
    assert len(hashed) == 2 * FILES
    assert not home.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_home_is_no_error(cache: Path, home: Path, hashed: list[str]) -> None:
    home.mkdir(mode=0o555)
    for _ in range(2):
        open_cache(cache)
    assert len(hashed) == 2 * FILES
