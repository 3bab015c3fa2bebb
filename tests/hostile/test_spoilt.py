"""Caches whose files or record were changed after the fact: damage, accidents, small tricks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from g2t import verified
from g2t.cache.check import open_cache
from g2t.errors import IntegrityError
from g2t.files import MOST_JSON
from judging import DISTIL, check, distil, left_beside, read_all, refused
from spoiling import (
    GRAPH,
    LOGITS,
    MANIFEST,
    RECORD,
    Case,
    Edit,
    data,
    edit_json,
    file_of,
    flip,
    instead,
    record,
    signed,
    write_cache,
)

FIRST, SECOND = file_of(LOGITS, 0), file_of(LOGITS, 1)
WRONG = "does not match its recorded digest"


def swap(cache: Path) -> None:
    (cache / FIRST).rename(cache / "aside")
    (cache / SECOND).rename(cache / FIRST)
    (cache / "aside").rename(cache / SECOND)


def replace(cache: Path) -> None:
    """Another file of the same size takes the name."""
    (cache / "other").write_bytes(flip((cache / FIRST).read_bytes(), -7))
    (cache / "other").rename(cache / FIRST)


def of_another_teacher(cache: Path) -> None:
    """A valid shard, of the same size, of another cache."""
    other = write_cache(cache.parent / "other", seed=1)
    shutil.copy(other / FIRST, cache / FIRST)
    shutil.rmtree(other)


def lead_out(cache: Path) -> None:
    outside = cache.parent.parent / f"{cache.parent.name}-outside"
    outside.mkdir()
    (cache / FIRST).rename(outside / FIRST)
    (cache / FIRST).symlink_to(outside / FIRST)


def lead_out_by_folder(cache: Path) -> None:
    """The record names a file below a folder, and that folder is a link."""
    outside = cache.parent.parent / f"{cache.parent.name}-outside"
    outside.mkdir()
    (cache / FIRST).rename(outside / FIRST)
    (cache / "sub").symlink_to(outside)
    named(f"sub/{FIRST}")(cache)


def named(name: str) -> Edit:
    """The record names the first shard otherwise."""

    def change(content: Any) -> None:
        content["outputs"][name] = content["outputs"].pop(FIRST)

    return record(change)


def wide(cache: Path) -> None:
    os.truncate(cache / RECORD, MOST_JSON + 1)


def twice(cache: Path) -> None:
    text = (cache / RECORD).read_text()
    (cache / RECORD).write_text('{"kind": "cache", ' + text[1:])


def empty(cache: Path) -> None:
    shutil.rmtree(cache)
    cache.mkdir()


def entry(**facts: Any) -> Edit:
    return record(lambda content: content["outputs"][FIRST].update(facts))


CASES: dict[str, Case] = {
    "cut": Case(data(FIRST, lambda b: b[:-1]), f"{FIRST} has"),
    "emptied": Case(data(FIRST, lambda b: b""), f"{FIRST} has 0 bytes"),
    "extended": Case(data(FIRST, lambda b: b + b"\0"), f"{FIRST} has"),
    "a bit of the header": Case(data(FIRST, lambda b: flip(b, 20)), f"{FIRST} {WRONG}"),
    "a bit of the header's length": Case(data(FIRST, lambda b: flip(b, 7)), f"{FIRST} {WRONG}"),
    "a bit of the data": Case(data(SECOND, lambda b: flip(b, -1)), f"{SECOND} {WRONG}"),
    "a bit of the graph": Case(data(GRAPH, lambda b: flip(b, -1)), f"{GRAPH} {WRONG}"),
    "a bit of the manifest": Case(data(MANIFEST, lambda b: flip(b, -40)), f"{MANIFEST} {WRONG}"),
    "replaced by rename": Case(replace, f"{FIRST} {WRONG}"),
    "shards swapped": Case(swap, f"{FIRST} {WRONG}"),
    "another teacher's shard": Case(of_another_teacher, f"{FIRST} {WRONG}"),
    "shard missing": Case(lambda c: (c / SECOND).unlink(), f"{SECOND} is missing"),
    "manifest missing": Case(lambda c: (c / MANIFEST).unlink(), f"{MANIFEST} is missing"),
    "graph missing": Case(lambda c: (c / GRAPH).unlink(), f"{GRAPH} is missing"),
    "record missing": Case(lambda c: (c / RECORD).unlink(), "it has no run.json", code=3),
    "nothing there": Case(shutil.rmtree, "there is no cache at", code=3),
    "an empty folder": Case(empty, "it has no run.json", code=3),
    "a link out": Case(lead_out, f"{FIRST} is a link that leads out of its folder"),
    "a folder that links out": Case(lead_out_by_folder, "is a link that leads out of its folder"),
    "a link to itself": Case(
        instead(FIRST, lambda p: p.symlink_to(p)), f"{FIRST} is no regular file"
    ),
    "a link to nothing": Case(
        instead(FIRST, lambda p: p.symlink_to(p.parent / "none")), f"{FIRST} is missing"
    ),
    "a link to a device": Case(
        instead(FIRST, lambda p: p.symlink_to("/dev/zero")), "leads out of its folder"
    ),
    "a directory": Case(instead(FIRST, Path.mkdir), f"{FIRST} is no regular file"),
    "a fifo": Case(instead(FIRST, os.mkfifo), f"{FIRST} is no regular file"),
    "a fifo as manifest": Case(instead(MANIFEST, os.mkfifo), f"{MANIFEST} is no regular file"),
    "a fifo as record": Case(instead(RECORD, os.mkfifo), "it has no run.json", code=3),
    "a directory as record": Case(instead(RECORD, Path.mkdir), "it has no run.json", code=3),
    "record of a future version": Case(
        record(lambda r: r.update(schema="g2t.artifact/2")),
        "has schema 'g2t.artifact/2', this g2t reads 'g2t.artifact/1'",
    ),
    "record of another program": Case(
        record(lambda r: r.update(schema="mlflow")), "is no g2t cache, though it has", code=3
    ),
    "record of a schema with newlines": Case(
        record(lambda r: r.update(schema="g2t.artifact/\n\n" + "x" * 500)),
        r"has schema 'g2t.artifact/\n\nxxx",
    ),
    "record of another kind": Case(
        record(lambda r: r.update(kind="graph")), "is a graph, not a cache", code=3
    ),
    "record of a kind with newlines": Case(
        record(lambda r: r.update(kind="a\nb")), "run.json is damaged: fields are missing or of"
    ),
    "record without a digest": Case(
        lambda c: edit_json(c / RECORD, lambda r: r.pop("digest")), "fields are missing"
    ),
    "record of another digest": Case(
        lambda c: edit_json(c / RECORD, lambda r: r.update(digest="sha256:00")),
        "run.json was edited: its digest does not fit its outputs",
    ),
    "record lacks a file": Case(
        lambda c: edit_json(c / RECORD, lambda r: r["outputs"].pop(FIRST)), "run.json was edited"
    ),
    "record forgets a file": Case(record(lambda r: r["outputs"].pop(FIRST)), "disagree"),
    "record forgets the manifest": Case(
        record(lambda r: r["outputs"].pop(MANIFEST)), "run.json does not answer for manifest.json"
    ),
    "record of no files": Case(record(lambda r: r.update(outputs={})), "does not answer for"),
    "record's inputs are numbers": Case(record(lambda r: r.update(inputs={"a": 1})), "of another"),
    "record's config is a list": Case(record(lambda r: r.update(config=[])), "of another type"),
    "record's files are a list": Case(
        lambda c: edit_json(c / RECORD, lambda r: r.update(outputs=[1])), "of another type"
    ),
    "bytes are true": Case(entry(bytes=True), "of another type"),
    "bytes are broken": Case(entry(bytes=208.0), "of another type"),
    "bytes are negative": Case(entry(bytes=-1), "bytes, run.json says -1"),
    "digest is a number": Case(entry(xxh3_128=7), "of another type"),
    "digest is in capitals": Case(entry(xxh3_128="A" * 32), "of another type"),
    "path upwards": Case(named(f"../{FIRST}"), f"cannot lie in its folder: '../{FIRST}'"),
    "path up and down": Case(named(f"x/../{FIRST}"), "names a file that cannot lie in its folder"),
    "path from the root": Case(named("/etc/hostname"), "in its folder: '/etc/hostname'"),
    "path with a newline": Case(named("a\nb"), "a key is not printable"),
    "path with NUL": Case(named("a\0b"), "a key is not printable"),
    "path with a backslash": Case(named("..\\x"), r"cannot lie in its folder: '..\\x'"),
    "path with half a character": Case(named("\ud800"), "a key is not printable"),
    "path of nothing": Case(named(""), "cannot lie in its folder: ''"),
    "path of the folder": Case(named("."), "cannot lie in its folder: '.'"),
    "path too long": Case(named("x" * 5000), "cannot lie in its folder: 'xxx"),
    "record is no JSON": Case(data(RECORD, lambda b: b"{"), "run.json is damaged: Expecting"),
    "record is empty": Case(data(RECORD, lambda b: b""), "run.json is damaged"),
    "record is a list": Case(data(RECORD, lambda b: b"[]"), "damaged: this is no JSON object"),
    "record is no text": Case(data(RECORD, lambda b: b"\xff" + b), "run.json is damaged"),
    "record is a nested bomb": Case(
        data(RECORD, lambda b: b'{"a":' * 100_000), "damaged: the nesting is too deep"
    ),
    "record is a large bomb": Case(wide, f"damaged: it is longer than {MOST_JSON} bytes"),
    "record has a key twice": Case(twice, "damaged: a key stands twice"),
    "record has NaN": Case(
        lambda c: edit_json(c / RECORD, lambda r: r.update(seed=float("nan"))), "NaN is no number"
    ),
    "record has infinity": Case(
        data(RECORD, lambda b: b'{"a": 1e999, ' + b[1:]), "damaged: a number is too large"
    ),
    "record has a long number": Case(
        data(RECORD, lambda b: b'{"a": ' + b"9" * 5000 + b", " + b[1:]), "run.json is damaged"
    ),
}


@pytest.mark.parametrize("kind", ["plain", "compact"])
def test_the_caches_that_are_spoilt_are_sound(tmp_path: Path, kind: Any) -> None:
    cache = write_cache(tmp_path / "cache", kind)
    read_all(cache)
    outcome = distil(cache, tmp_path / "student")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'student'}\n")
    trained = {name for name in open_inputs(tmp_path / "student") if name.startswith("cache/")}
    assert len(trained) == 7  # all there is: graph, features, tokens, layer, logits, scores, codes


def open_inputs(student: Path) -> dict[str, str]:
    from g2t.artifact import open_artifact

    return dict(open_artifact(student, "student").inputs)


@pytest.mark.parametrize("name", CASES)
def test_a_spoilt_cache_is_refused(tmp_path: Path, name: str) -> None:
    check(CASES[name], tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("file", [FIRST, GRAPH, MANIFEST, RECORD])
def test_an_unreadable_file(tmp_path: Path, file: str) -> None:
    check(Case(lambda c: (c / file).chmod(0), "Permission denied", code=3), tmp_path / "cache")


def flip_bit(file: Path) -> None:
    file.write_bytes(flip(file.read_bytes(), -1))


def rename_over(file: Path) -> None:
    shutil.copy2(file, file.with_name("other"))
    flip_bit(file.with_name("other"))
    file.with_name("other").rename(file)


@pytest.mark.parametrize("file", [FIRST, GRAPH, MANIFEST])
@pytest.mark.parametrize("change", [flip_bit, rename_over])
def test_a_change_that_hides_is_found_though_digests_are_remembered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    change: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(verified, "SETTLED_NS", 0)
    cache = write_cache(tmp_path / "cache")
    open_cache(cache)
    hashed: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr("g2t.artifact.file_digest", hashed.append)
        open_cache(cache)
    assert hashed == []  # all is remembered
    before = (cache / file).stat()
    change(cache / file)
    os.utime(cache / file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (cache / file).stat().st_mtime_ns == before.st_mtime_ns
    outcome = distil(cache, tmp_path / "student")
    refused(outcome, 4, f"{file} {WRONG}", cache)


def test_links_that_stay_inside_are_followed(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    (cache / "store").mkdir()
    (cache / FIRST).rename(cache / "store" / FIRST)
    (cache / FIRST).symlink_to(Path("store") / FIRST)
    (tmp_path / "link").symlink_to(cache)
    for path in (cache, tmp_path / "link"):
        read_all(path)


@pytest.mark.parametrize("gone", [shutil.rmtree, lambda c: (c / FIRST).unlink()])
def test_a_cache_that_goes_between_opening_and_reading(
    tmp_path: Path, gone: Callable[[Path], None]
) -> None:
    cache = open_cache(write_cache(tmp_path / "cache"))
    gone(tmp_path / "cache")
    with pytest.raises(IntegrityError, match=f"{FIRST} is missing"):
        cache.logits()


def test_a_shard_that_is_cut_between_opening_and_reading(tmp_path: Path) -> None:
    cache = open_cache(write_cache(tmp_path / "cache"))
    os.truncate(tmp_path / "cache" / SECOND, 100)
    with pytest.raises(IntegrityError, match=f"{SECOND} was cut short while it was read"):
        cache.logits()


@pytest.mark.parametrize("name", ["a bit of the data", "a fifo", "record is a nested bomb"])
def test_a_process_of_its_own_ends_with_the_code(tmp_path: Path, name: str) -> None:
    cache = write_cache(tmp_path / "cache")
    CASES[name].edit(cache)
    command = [sys.executable, "-m", "g2t_cli", "distill", str(cache), *DISTIL]
    command += ["--out", str(tmp_path / "student")]
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path}
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"error: {cache}")
    assert CASES[name].said in done.stderr
    assert "Traceback" not in done.stderr
    assert left_beside(cache) == []


def test_a_signed_record_is_what_g2t_computes(tmp_path: Path) -> None:
    """The forger of these tests and g2t agree, or no forged case would mean anything."""
    from g2t.artifact import outputs_digest

    outputs = open_cache(write_cache(tmp_path / "cache")).artifact.record["outputs"]
    assert signed(outputs)["digest"] == outputs_digest(outputs)
