"""Artefacts: known by their files, wherever they stand; anything changed is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash

from g2t import artifact
from g2t.artifact import (
    content_digest,
    file_digest,
    is_artifact,
    open_artifact,
    partial_path,
    read_json,
    write_json,
)
from g2t.errors import InputError, IntegrityError
from g2t.stage import Stage


def make(out: Path, content: bytes = b"weights") -> Path:
    with Stage(out, "thing", {"a": 1}, {"graph": "g"}, 0) as stage:
        (stage.path / "model.bin").write_bytes(content)
        (stage.path / "facts.json").write_text("{}")
        stage.log({"epoch": 0})
        stage.commit({"val": 0.5})
    return out


def edit(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((out / "run.json").read_text())
    change(record)
    (out / "run.json").write_text(json.dumps(record))


def test_what_was_made_can_be_opened(tmp_path: Path) -> None:
    out = make(tmp_path / "a")
    found = open_artifact(out, "thing")
    assert (found.config, found.inputs, found.kind) == ({"a": 1}, {"graph": "g"}, "thing")
    assert found.record["status"] == "complete"
    assert found.record["summary"] == {"val": 0.5}
    entry = found.record["outputs"]["model.bin"]
    assert entry == {"bytes": 7, "xxh3_128": file_digest(out / "model.bin")}
    assert set(found.record["outputs"]) == {"model.bin", "facts.json"}


def test_identity_is_the_files_not_the_place_nor_the_time(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "deep" / "er" / "b")
    digest = open_artifact(first, "thing").digest
    assert open_artifact(second, "thing").digest == digest
    moved = tmp_path / "elsewhere"
    shutil.move(first, moved)
    assert open_artifact(moved, "thing").digest == digest
    (moved / "metrics.jsonl").unlink()
    edit(moved, lambda record: record.update(timings={}, environment={}))
    assert open_artifact(moved, "thing").digest == digest
    assert open_artifact(make(tmp_path / "c", b"others!"), "thing").digest != digest


def test_no_path_is_written_into_an_artifact(tmp_path: Path) -> None:
    out = make(tmp_path / "a")
    record = json.loads((out / "run.json").read_text())
    record["environment"].pop("command")
    assert str(tmp_path) not in json.dumps(record)


def test_what_is_not_there_or_of_another_kind_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no thing at") as caught:
        open_artifact(tmp_path / "none", "thing")
    assert caught.value.hint == ""
    (tmp_path / "begun.partial").mkdir()
    with pytest.raises(InputError, match="there is no thing") as caught:
        open_artifact(tmp_path / "begun", "thing")
    assert "not finished: run its command again" in caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is no g2t thing: it has no run.json"):
        open_artifact(tmp_path / "empty", "thing")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="there is no thing"):
        open_artifact(tmp_path / "file", "thing")
    with pytest.raises(InputError, match="is a thing, not a graph"):
        open_artifact(make(tmp_path / "a"), "graph")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.unlink(), r"model.bin is missing"),
        (lambda file: file.write_bytes(b"weight"), r"has 6 bytes, run.json says 7"),
        (lambda file: file.write_bytes(b"weights+"), r"has 8 bytes, run.json says 7"),
        (lambda file: file.write_bytes(b"weighTs"), "does not match its recorded digest"),
    ],
)
def test_a_changed_file_is_refused(
    tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    out = make(tmp_path / "a")
    change(out / "model.bin")
    with pytest.raises(IntegrityError, match=said) as caught:
        open_artifact(out, "thing")
    assert "--force" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda r: r.update(schema="g2t.artifact/2"),
            "has schema 'g2t.artifact/2', this",
        ),
        (lambda r: r.pop("digest"), "fields are missing"),
        (lambda r: r.pop("outputs"), "fields are missing"),
        (lambda r: r.update(outputs=[1]), "fields are missing"),
        (lambda r: r["outputs"]["model.bin"].pop("bytes"), "fields are missing"),
        (lambda r: r.update(digest="sha256:0"), "its digest does not fit its outputs"),
        (lambda r: r["outputs"].pop("model.bin"), "its digest does not fit its outputs"),
    ],
)
def test_an_edited_record_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    out = make(tmp_path / "a")
    edit(out, change)
    with pytest.raises(IntegrityError, match=said):
        open_artifact(out, "thing")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "\x00", "[" * 100_000, '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}',
     '{"a": 1, "a": 1}', '{"a\\n": 1}', '{"a": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    out = make(tmp_path / "a")
    (out / "run.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"run.json is damaged"):
        open_artifact(out, "thing")


def test_json_is_replaced_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    before = path.stat().st_ino
    write_json(path, {"a": 2})
    assert (read_json(path), path.stat().st_ino != before) == ({"a": 2}, True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(IntegrityError, match="is missing from its artefact"):
        read_json(tmp_path / "b.json")


def test_content_digests_ignore_the_order_of_keys_alone() -> None:
    assert content_digest({"a": 1, "b": [1, 2]}) == content_digest({"b": [1, 2], "a": 1})
    assert content_digest({"a": [1, 2]}) != content_digest({"a": [2, 1]})
    assert content_digest({}).startswith("sha256:")


def test_names_of_places(tmp_path: Path) -> None:
    assert partial_path(Path("runs/cora.v1")) == Path("runs/cora.v1.partial")
    assert not is_artifact(tmp_path)
    assert is_artifact(make(tmp_path / "a"))
    assert not is_artifact(tmp_path / "a" / "model.bin")


def test_a_description_is_read_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": "x" * 80})
    monkeypatch.setattr(artifact, "MOST_JSON", path.stat().st_size)
    assert read_json(path) == {"a": "x" * 80}
    monkeypatch.setattr(artifact, "MOST_JSON", path.stat().st_size - 1)
    with pytest.raises(IntegrityError, match=r"a.json is damaged: it is longer than \d+ bytes"):
        read_json(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_could_not_be_read_is_not_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": [value]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make_it", [Path.mkdir, os.mkfifo, lambda p: p.symlink_to(p)])
def test_a_record_that_is_no_file_is_no_artefact(
    tmp_path: Path, make_it: Callable[[Path], object]
) -> None:
    make_it(tmp_path / "run.json")
    assert not is_artifact(tmp_path)
    with pytest.raises(InputError, match=r"has no run.json|cannot read"):
        open_artifact(tmp_path, "thing")
    with pytest.raises(IntegrityError, match=r"run.json is no regular file"):
        read_json(tmp_path / "run.json")


def test_a_path_that_cannot_be_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*: File name too long"):
        open_artifact(tmp_path / ("x" * 300), "thing")


def test_links_are_followed_inside_the_folder_and_refused_out_of_it(tmp_path: Path) -> None:
    out = make(tmp_path / "a")
    (out / "model.bin").rename(out / "store")
    (out / "model.bin").symlink_to(out / "store")
    (tmp_path / "link").symlink_to(out)
    digests = {open_artifact(path, "thing").digest for path in (out, tmp_path / "link")}
    assert len(digests) == 1
    (out / "store").rename(tmp_path / "abc")  # whose path begins like that of the folder
    (out / "model.bin").unlink()
    (out / "model.bin").symlink_to(tmp_path / "abc")
    with pytest.raises(IntegrityError, match=r"model.bin is a link that leads out") as caught:
        open_artifact(out, "thing")
    assert "cp -rL" in caught.value.hint


def test_nothing_is_hashed_where_a_size_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing may take minutes, and the last file may be the one that was cut."""
    out = make(tmp_path / "a")
    (out / "model.bin").write_bytes(b"")
    hashed: list[Path] = []
    monkeypatch.setattr(artifact, "file_digest", hashed.append)
    with pytest.raises(IntegrityError, match=r"model.bin has 0 bytes"):
        open_artifact(out, "thing")
    assert hashed == []


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for data in (b"", b"weights", bytes(range(256)) * 40_000):  # the last in several reads
        path.write_bytes(data)
        assert file_digest(path) == xxhash.xxh3_128_hexdigest(data)
    with pytest.raises(IsADirectoryError):
        file_digest(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        file_digest(tmp_path / "fifo")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_an_input_error(tmp_path: Path) -> None:
    out = make(tmp_path / "a")
    for path in (out / "model.bin", out / "run.json", out):
        path.chmod(0)
        with pytest.raises(InputError, match=r"cannot read .*: Permission denied"):
            open_artifact(out, "thing")
        path.chmod(0o755)
    open_artifact(out, "thing")
