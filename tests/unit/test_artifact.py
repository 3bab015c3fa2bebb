"""Artefacts: known by their files, wherever they stand; anything changed is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "[" * 100_000])
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
