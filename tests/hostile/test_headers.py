"""Headers that lie: told apart from the bytes alone, in no time, without taking what they claim."""

import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from g2t.errors import IntegrityError
from g2t.stored import DTYPES, MOST_HEADER, open_stored
from g2t.tensors import save_tensors

#: The same folder serves every example: each writes its file anew.
fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)


def packed(header: bytes | dict[str, Any], data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (2, 3), span: Any = (0, 24)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


HUGE, BODY = 2**62, bytes(24)
LIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "its header is longer than the file"),
    "seven bytes": (b"\2\0\0\0\0\0\0", "its header is longer than the file"),
    "no header": (bytes(8), "in its header, "),
    "header length 2^63": ((2**63).to_bytes(8, "little") + b"{}", "longer than the file"),
    "header length 2^64-1": (b"\xff" * 8 + b"{}", "longer than the file"),
    "header one byte longer": ((3).to_bytes(8, "little") + b"{}", "longer than the file"),
    "a long header": (packed(b"{}" + b" " * MOST_HEADER), "its header has 1048578 bytes"),
    "a list": (packed(b"[]"), "this is no JSON object"),
    "a number": (packed(b"7"), "this is no JSON object"),
    "no JSON": (packed(b"{"), "in its header, "),
    "no UTF-8": (packed(b'{"\xff": 1}'), "in its header, "),
    "UTF-16": (packed("{}".encode("utf-16")), "in its header, "),
    "nested": (packed(b"[" * 100_000), "the nesting is too deep"),
    "a long number": (packed(b'{"x": ' + b"9" * 100_000 + b"}"), "in its header, "),
    "a key twice": (
        packed(b'{"x": %s, "x": %s}' % ((json.dumps(entry()).encode(),) * 2), BODY),
        "a key stands twice",
    ),
    "a field twice": (
        packed(b'{"x":{"dtype":"F32","dtype":"F32","shape":[6],"data_offsets":[0,24]}}', BODY),
        "a key stands twice",
    ),
    "NaN": (packed({"x": entry(shape=(float("nan"),))}, BODY), "NaN is no number"),
    "infinite": (packed({"x": entry(shape=(float("inf"),))}, BODY), "Infinity is no number"),
    "a name with a newline": (packed({"x\ny": entry()}, BODY), "a key is not printable"),
    "an entry that is a list": (packed({"x": [1]}, BODY), "'x' has a type that"),
    "unknown type": (packed({"x": entry("F8_E4M3")}, BODY), "'x' has a type that"),
    "type is a number": (packed({"x": entry(7)}, BODY), "'x' has a type that"),
    "type is a list": (packed({"x": entry([])}, BODY), "'x' has a type that"),
    "no type": (
        packed({"x": {"shape": [6], "data_offsets": [0, 24]}}, BODY),
        "'x' has a type that",
    ),
    "no shape": (
        packed({"x": {"dtype": "F32", "data_offsets": [0, 24]}}, BODY),
        "a shape or place that",
    ),
    "no place": (packed({"x": {"dtype": "F32", "shape": [6]}}, BODY), "a shape or place that"),
    "shape is text": (packed({"x": entry(shape="6")}, BODY), "a shape or place that"),
    "shape is a number": (packed({"x": entry(shape=6)}, BODY), "a shape or place that"),
    "shape is empty": (
        packed({"x": entry(shape=(), span=(0, 4))}, bytes(4)),
        "a shape or place that",
    ),
    "shape is true": (packed({"x": entry(shape=(True, 6))}, BODY), "a shape or place that"),
    "shape is broken": (packed({"x": entry(shape=(2.0, 3))}, BODY), "a shape or place that"),
    "shape is negative": (packed({"x": entry(shape=(-2, -3))}, BODY), "a shape or place that"),
    "shape is long": (
        packed({"x": entry(shape=(1,) * 9, span=(0, 4))}, bytes(4)),
        "a shape or place that",
    ),
    "shape is huge": (packed({"x": entry(shape=(HUGE, HUGE))}, BODY), "does not fit its bytes"),
    "shape is beyond int64": (packed({"x": entry(shape=(2**64,))}, BODY), "a shape or place that"),
    "empty but huge": (packed({"x": entry(shape=(0, HUGE), span=(0, 0))}), "not fit its bytes"),
    "place is true": (packed({"x": entry(span=(False, 24))}, BODY), "a shape or place that"),
    "place is broken": (packed({"x": entry(span=(0.0, 24.0))}, BODY), "a shape or place that"),
    "place is negative": (packed({"x": entry(span=(-24, 0))}, BODY), "a shape or place that"),
    "place is backwards": (packed({"x": entry(span=(24, 0))}, BODY), "does not fit its bytes"),
    "place has three ends": (packed({"x": entry(span=(0, 12, 24))}, BODY), "a shape or place that"),
    "place is a name": (
        packed({"x": entry(span={"0": 24, "1": 2})}, BODY),
        "a shape or place that",
    ),
    "place beyond the file": (packed({"x": entry(span=(24, 48))}, BODY), "a gap or overlap"),
    "one byte short": (packed({"x": entry()}, BODY[:-1]), "the tensors end at byte"),
    "one byte long": (packed({"x": entry()}, BODY + b"\0"), "the tensors end at byte"),
    "shape too small": (packed({"x": entry(shape=(2, 2))}, BODY), "does not fit its bytes"),
    "overlap": (
        packed({"x": entry(), "y": entry(shape=(4,), span=(16, 32))}, bytes(32)),
        "a gap or overlap",
    ),
    "gap": (packed({"x": entry(), "y": entry(span=(25, 49))}, bytes(49)), "a gap or overlap"),
    "the same bytes twice": (packed({"x": entry(), "y": entry()}, BODY), "a gap or overlap"),
    "data of no tensor": (packed({}, BODY), "the tensors end at byte"),
    "a long name": (packed({"x" * 5000: entry(7)}, BODY), "'xxx"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    data, said = LIES[lie]
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        open_stored(tmp_path / "x")
    message = caught.value.message
    assert message.startswith(f"{tmp_path / 'x'} is damaged: ")
    assert said in message
    assert message.isprintable()
    assert len(message) < len(str(tmp_path)) + 200
    assert caught.value.hint


def test_the_header_that_the_lies_start_from_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(packed({"x": entry()}, BODY))
    assert open_stored(tmp_path / "x")["x"].read().tolist() == [[0, 0, 0], [0, 0, 0]]


def mutated(data: bytes, edits: list[tuple[int, int]], length: int) -> bytes:
    changed = bytearray(data)
    for place, value in edits:
        changed[place % len(changed)] = value
    return bytes(changed[: length % (len(changed) + 1)]) if length else bytes(changed)


VALID = packed({"a": entry(), "b": entry("I64", (2,), (24, 40)), "__metadata__": {"g2t": "{}"}})
edits = st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=4)
tokens = st.sampled_from(
    [b"-", b"1", b"99999999999", b"e9", b'"', b"{", b"}", b"null", b"1.5", b"["]
)


def only_said_errors(path: Path, data: bytes) -> None:
    """Opening raises nothing but what a user is told, and what is opened can be read."""
    path.write_bytes(data)
    try:
        tensors = open_stored(path)
    except IntegrityError as refused:
        said = refused.message
    else:
        said = "read"
        whole = [stored.read() for stored in tensors.values()]
        assert sum(rows.numel() * rows.element_size() for rows in whole) <= len(data)
    assert said.isprintable()


@fuzz
@given(st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, data: bytes) -> None:
    only_said_errors(tmp_path / "x", data)
    only_said_errors(tmp_path / "x", packed(data))


@fuzz
@given(edits, st.integers(0, 200))
def test_random_mutations(tmp_path: Path, changes: list[tuple[int, int]], length: int) -> None:
    only_said_errors(tmp_path / "x", mutated(VALID + bytes(40), changes, length))


@fuzz
@given(st.integers(8, len(VALID)), st.integers(0, 6), tokens)
def test_random_insertions(tmp_path: Path, place: int, cut: int, token: bytes) -> None:
    header = VALID[8:place] + token + VALID[place + cut :]
    only_said_errors(tmp_path / "x", packed(header, bytes(40)))


numbers = st.integers(-3, 40) | st.sampled_from([2**31, 2**63, 2**64, 10**30]) | st.floats()
values = st.recursive(
    numbers | st.none() | st.booleans() | st.sampled_from(["F32", "I8", "x", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)
shapes = st.lists(numbers, max_size=4) | values
entries = st.fixed_dictionaries(
    {"dtype": st.sampled_from([*DTYPES, "F64"]) | values, "shape": shapes, "data_offsets": shapes}
)


@fuzz
@given(st.dictionaries(st.text(max_size=3), entries | values, max_size=3), st.integers(0, 60))
def test_random_headers(tmp_path: Path, header: dict[str, Any], size: int) -> None:
    only_said_errors(tmp_path / "x", packed(header, bytes(size)))


def test_a_lie_costs_no_memory_and_no_time(tmp_path: Path) -> None:
    """A sparse file may claim a terabyte: the header is read, and nothing of the size is taken."""
    rows = 2**38
    path = tmp_path / "x"
    path.write_bytes(packed({"x": entry(shape=(rows, 1), span=(0, 4 * rows))}))
    try:
        os.truncate(path, path.stat().st_size + 4 * rows)
    except OSError:
        pytest.skip("this file system takes no file of a terabyte")
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    stored = open_stored(path)["x"]
    assert stored.read(rows - 2).tolist() == [[0], [0]]
    assert time.perf_counter() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def link_loop(path: Path) -> None:
    path.symlink_to(path)


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "is missing from its artefact"),
    "a directory": (Path.mkdir, "is no regular file"),
    "a fifo": (os.mkfifo, "is no regular file"),
    "a loop of links": (link_loop, "is no regular file"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "is missing"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
}


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, what: str) -> None:
    make, said = NO_FILES[what]
    good = tmp_path / "good"
    save_tensors(good, {"x": torch.ones(3)})
    stored = open_stored(good)["x"]
    good.unlink()
    make(good)
    with pytest.raises(IntegrityError, match=said):
        open_stored(good)
    with pytest.raises(IntegrityError, match=said):
        stored.read()  # it was a file when it was opened


def test_a_file_below_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(IntegrityError, match="is missing"):
        open_stored(tmp_path / "x" / "y")
