"""A disk that fills up: one sentence says so, and the same command goes on when there is room."""

import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from g2t.errors import InputError
from g2t.stage import Stage
from g2t.tensors import save_tensors
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


@dataclass(frozen=True)
class Disk:
    """A file system in memory whose size can change."""

    path: Path

    def resize(self, size: int) -> None:
        """Give it that many bytes; pages of 4 KiB count."""
        command = ["mount", "-o", f"remount,size={size}", str(self.path)]
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"no file system can be mounted here: {reason.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def check_refusal(ended: Ended, folder: Path) -> None:
    """One sentence names a file in the folder and the reason, with a hint; no cache is there."""
    assert (ended.code, ended.out) == (3, ""), ended
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended.err
    assert f"cannot write {folder}/c" in errors[0]
    assert "No space left on device" in errors[0]
    assert "unexpected" not in ended.err
    assert "Errno" not in ended.err


def check_whole(ended: Ended, out: Path, story: Story) -> None:
    assert (ended.code, ended.out) == (0, f"{out}\n"), ended
    assert content(out) == content(story.whole)
    assert digest(out) == digest(story.whole)
    assert names(out.parent) == ["c"]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_an_export_goes_on_when_there_is_room(
    forks: Forks, stories: dict[str, Story], disk: Disk, part: float
) -> None:
    story, out = stories["export"], disk.path / "c"
    pages = sum(-(-len(data) // 4096) for data in content(story.whole).values())
    disk.resize(int(part * pages) * 4096)
    check_refusal(forks.run(story.command(disk.path), HOW), disk.path)
    assert names(disk.path) == ["c.partial"]
    stood = finished(disk.path / "c.partial")
    assert (len(stood) > 5) == (part > 0.1)
    check_refusal(forks.run(story.command(disk.path), HOW), disk.path)
    disk.resize(16 << 20)
    check_whole(forks.run(story.command(disk.path), HOW), out, story)
    assert all(finished(out)[name] == stamp for name, stamp in stood.items() if "/" not in name)


#: By event and path, what fails first, for want of room.
FIRST = {
    "the lock": r"open .*c\.lock",
    "the folder": r"os\.mkdir .*c\.partial$",
    "the first record": r"sync .*c\.partial/run\.json",
    "a block of rows": r"write .*teacher-h2-00003",
    "a shard's sync": r"sync .*tokens-2-00001",
    "a shard's name": r"os\.rename .*teacher-logits-00002\.safetensors$",
    "edges": r"open .*looped",
    "sums": r"open .*h1-sums-00008-00001",
    "a note": r"open .*features-00001\.safetensors\.digest",
    "the manifest": r"open .*manifest\.json",
    "the last record, opened": r"open .*run\.json",
    "the last record, written": r"sync .*run\.json\.",
    "the last rename": r"os\.rename .*/c$",
}


@pytest.mark.parametrize("what", FIRST)
def test_every_kind_of_write(
    forks: Forks, stories: dict[str, Story], tmp_path: Path, what: str
) -> None:
    story, folder = stories["export"], tmp_path / "f"
    folder.mkdir()
    at = 2 if "last record" in what else 1  # the first one is of the beginning
    fault = Fault(folder, tmp_path / "log", at, "full", FIRST[what])
    ended = forks.run(story.command(folder), How(patches=SMALL_PANELS, fault=fault))
    check_refusal(ended, folder)
    assert names(folder) in ([], ["c.partial"])
    check_whole(forks.run(story.command(folder), HOW), folder / "c", story)


@pytest.mark.parametrize("name", ["add", "convert"])
def test_other_writers_of_caches(
    forks: Forks, stories: dict[str, Story], disk: Disk, name: str
) -> None:
    story = stories[name]
    disk.resize(16 << 20)
    story.prepare(disk.path)
    held = sum(file.stat().st_blocks * 512 for file in disk.path.rglob("*"))
    before = content(disk.path / "c") if name == "add" else None
    disk.resize(held + (40 << 10))
    check_refusal(forks.run(story.command(disk.path), HOW), disk.path)
    assert before is None or content(disk.path / "c") == before
    disk.resize(16 << 20)
    check_whole(forks.run(story.command(disk.path), HOW), disk.path / "c", story)


@pytest.mark.parametrize(("cause", "kept"), [(OSError(errno.EIO, "…"), True), (KeyError(), False)])
def test_a_disk_that_fails_for_a_while_costs_nothing(
    tmp_path: Path, cause: Exception, kept: bool
) -> None:
    """Unlike an error that would come again: then the corrected command begins anew."""

    def work(folder: Path) -> None:
        (folder / "half").write_text("hours of work")
        try:
            raise cause
        except Exception:
            raise InputError("said in one sentence") from None

    with pytest.raises(InputError), Stage(tmp_path / "c", "thing", {}, {}, 0) as stage:
        work(stage.path)
    assert names(tmp_path) == (["c.partial"] if kept else [])


def test_what_safetensors_itself_writes(disk: Disk) -> None:
    """Its errors are none of the system's, and say more than the number that stands for them."""
    path = disk.path / "x"
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_tensors(path, {"x": torch.zeros(1 << 19)})
    assert caught.value.filename == str(path)
    assert "Input/output error" not in str(caught.value)
    assert names(disk.path) == []


def test_a_full_home_is_no_reason_to_fail(forks: Forks, made: Made, disk: Disk) -> None:
    """What g2t remembers of digests it can do without."""
    (disk.path / "filler").write_bytes(os.urandom(1 << 20))
    how = How(env={"G2T_HOME": str(disk.path / "home")})
    ended = forks.run(["cache", "verify", made.cache("all"), "--quiet"], how)
    assert (ended.code, ended.err) == (0, "")
