"""Making artefacts: complete or not there; done, resumed, refused or replaced."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from g2t.artifact import open_artifact, read_json
from g2t.errors import G2TError, InputError, Stopped, TrainingError, UsageError
from g2t.stage import Stage


def stage(out: Path, force: bool = False, seed: int = 0, **config: Any) -> Stage:
    return Stage(
        out, "thing", {"train": {"epochs": 5, "lr": 0.1}, **config}, {"g": "1"}, seed, force
    )


def make(out: Path, content: str = "payload", **more: Any) -> str:
    with stage(out, **more) as work:
        assert work.finished is None
        (work.path / "payload.bin").write_text(content)
        (work.path / "folder").mkdir()
        (work.path / "folder" / "more.bin").write_text("more")
        work.log({"epoch": 0})
        return work.commit({"val": 1.0}).digest


def interrupt(out: Path) -> None:
    with suppress(KeyboardInterrupt), stage(out) as work:
        (work.path / "half.bin").write_text("half")
        raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("record", [None, "{}", '{"mine": 1}', '{"schema": "g2t.run/1"}'])
@pytest.mark.parametrize("name", ["mine", "mine.partial"])
def test_another_record_does_not_make_it_ours(
    tmp_path: Path, name: str, record: str | None
) -> None:
    theirs = tmp_path / name
    theirs.mkdir()
    (theirs / "thesis").write_text("years of work")
    if record is not None:
        (theirs / "run.json").write_text(record)
    for force in (False, True):
        with pytest.raises(InputError, match=r"ours|no g2t thing"), stage(tmp_path / "mine", force):
            pass
    assert (theirs / "thesis").read_text() == "years of work"


def test_an_artefact_of_another_kind_is_never_replaced(tmp_path: Path) -> None:
    make(tmp_path / "a")
    other = Stage(tmp_path / "a", "other", {}, {}, 0, force=True)
    with pytest.raises(InputError, match="is a thing, not a other"), other:
        pass


def test_work_is_invisible_until_it_is_committed(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "thing"
    with stage(out) as work:
        (work.path / "payload.bin").write_text("payload")
        assert not out.exists()
        assert names(out.parent) == ["thing.lock", "thing.partial"]
        assert read_json(work.path / "run.json")["status"] == "unfinished"
        work.commit({})
        assert out.is_dir()
    assert names(out.parent) == ["thing"]
    assert names(out) == ["payload.bin", "run.json"]


def test_the_same_work_gives_the_same_bytes_anywhere(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b" / "c")
    assert first == second
    outputs = [open_artifact(tmp_path / p, "thing").record["outputs"] for p in ("a", "b/c")]
    assert outputs[0] == outputs[1]
    assert set(outputs[0]) == {"payload.bin", "folder/more.bin"}


def test_the_same_again_is_done_and_touches_nothing(tmp_path: Path) -> None:
    out = tmp_path / "a"
    digest = make(out)
    before = {file: file.stat().st_mtime_ns for file in (out, *out.rglob("*"))}
    with stage(out) as work:
        assert work.finished is not None
        assert work.finished.digest == digest
    assert {file: file.stat().st_mtime_ns for file in (out, *out.rglob("*"))} == before
    assert names(tmp_path) == ["a"]


def test_unfinished_work_is_resumed(tmp_path: Path) -> None:
    out = tmp_path / "a"
    interrupt(out)
    assert names(tmp_path) == ["a.partial"]
    assert stage(out).standing() == ("unfinished", "")
    with stage(out) as work:
        assert (work.path / "half.bin").read_text() == "half"
        work.commit({})
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [TrainingError("loss"), InputError("value"), UsageError("key")])
def test_work_that_cannot_be_resumed_leaves_nothing(tmp_path: Path, error: G2TError) -> None:
    """So that the corrected command is not refused for what the wrong one left behind."""
    with suppress(G2TError), stage(tmp_path / "a") as work:
        (work.path / "half.bin").write_text("half")
        raise error
    assert names(tmp_path) == []


def test_stopped_work_is_kept(tmp_path: Path) -> None:
    with suppress(Stopped), stage(tmp_path / "a") as work:
        (work.path / "half.bin").write_text("half")
        raise Stopped("by a signal")
    assert names(tmp_path / "a.partial") == ["half.bin", "run.json"]


def test_what_a_kill_in_a_write_left_is_not_committed(tmp_path: Path) -> None:
    interrupt(tmp_path / "a")
    for name in ("checkpoint.safetensors.tmp", ".tmp0GBDkw"):  # ours, and safetensors' own
        (tmp_path / "a.partial" / name).write_text("half")
    with stage(tmp_path / "a") as work:
        assert set(work.commit({}).record["outputs"]) == {"half.bin"}
    assert names(tmp_path / "a") == ["half.bin", "run.json"]


def test_a_partial_folder_without_a_record_is_begun_anew(tmp_path: Path) -> None:
    """A kill between the two first steps leaves a folder that says nothing of its settings."""
    (tmp_path / "a.partial").mkdir()
    assert stage(tmp_path / "a").standing() == ("new", "")
    make(tmp_path / "a")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("unfinished", [False, True])
def test_other_settings_are_refused_and_what_differs_is_named(
    tmp_path: Path, unfinished: bool
) -> None:
    out = tmp_path / "a"
    with stage(out) as work:
        (work.path / "half.bin").write_text("half")
        if not unfinished:
            work.commit({})
    kept = sorted(tmp_path.rglob("*"))
    other = Stage(out, "thing", {"train": {"epochs": 6, "lr": 0.1}}, {"g": "2"}, 1)
    with pytest.raises(InputError) as caught, other:
        pass
    said = "train.epochs is 5, now 6; inputs.g is '1', now '2'; seed is 0, now 1"
    assert caught.value.message.endswith(said)
    assert "choose another --out, or replace it with --force" in caught.value.hint
    assert sorted(tmp_path.rglob("*")) == kept
    many = Stage(out, "thing", dict.fromkeys("abcde", 1), {}, 0)
    assert many.standing()[1].endswith("and 5 more")


def test_force_replaces_ours_in_one_step(tmp_path: Path) -> None:
    out = tmp_path / "a"
    first = make(out)
    with stage(out, force=True, seed=1) as work:
        assert work.finished is None
        assert open_artifact(out, "thing").digest == first  # there until the commit
        (work.path / "payload.bin").write_text("other")
        second = work.commit({}).digest
    assert open_artifact(out, "thing").digest == second != first
    assert names(tmp_path) == ["a"]


def test_force_begins_anew(tmp_path: Path) -> None:
    out = tmp_path / "a"
    interrupt(out)
    with stage(out, force=True) as work:
        assert names(work.path) == ["run.json"]


@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_ours_is_never_replaced(tmp_path: Path, force: bool) -> None:
    folder, file = tmp_path / "thesis", tmp_path / "notes"
    folder.mkdir()
    (folder / "chapter").write_text("precious")
    file.write_text("precious")
    for out in (folder, file):
        with pytest.raises(InputError, match="exists and is no g2t thing"), stage(out, force=force):
            pass
    assert (folder / "chapter").read_text() == file.read_text() == "precious"
    assert names(tmp_path) == ["notes", "thesis"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    make(tmp_path / "a")
    assert names(tmp_path) == ["a"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "a"
    script = (
        "import sys\nfrom filelock import FileLock\n"
        "with FileLock(sys.argv[1], timeout=0):\n    print('held', flush=True)\n    input()\n"
    )
    lock = str(tmp_path / "a.lock")
    with subprocess.Popen(
        [sys.executable, "-c", script, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another g2t is writing"), stage(out):
            pass
        assert names(tmp_path) == ["a.lock"]
        holder.communicate(b"\n", timeout=20)
    make(out)
    assert names(tmp_path) == ["a"]


def test_two_stages_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    with stage(tmp_path / "a"):
        with pytest.raises(InputError, match="another g2t is writing"), stage(tmp_path / "a"):
            pass
        make(tmp_path / "b")


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file.a"), stage(tmp_path / "file" / "a"):
        pass
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only_is_an_input_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(InputError, match="cannot write"), stage(tmp_path / "a"):
            pass
    finally:
        tmp_path.chmod(0o755)


def test_a_failed_write_names_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"cannot write .*none.bin: No such file"),
        stage(tmp_path / "a") as work,
    ):
        (work.path / "gone" / "none.bin").write_text("")
    assert not (tmp_path / "a.lock").exists()


def test_a_fault_between_the_two_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill after OUT was set aside and before OUT.partial took its name."""
    out = tmp_path / "a"
    make(out)
    rename, calls = Path.rename, []

    def dies(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dies)
        with pytest.raises(KeyboardInterrupt):
            make(out, "other", force=True, seed=1)
    assert names(tmp_path) == ["a.partial", "a.replaced"]
    with stage(out, seed=1) as work:
        assert (work.path / "payload.bin").read_text() == "other"
        work.commit({})
    assert names(tmp_path) == ["a"]
