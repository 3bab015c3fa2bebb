"""Mini-batches of cached rows: each row once, in random order, within the buffer."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from g2t.cache.codec import encode
from g2t.cache.format import TensorEntry
from g2t.cache.reader import Rows
from g2t.cache.stream import Stream, take, well_mixed
from g2t.errors import IntegrityError, UsageError
from g2t.stored import open_stored
from g2t.tensors import save_tensors
from g2t.units import parse_size

#: Bytes of a row of `stream_of`, and with its number.
ROW = 4 * 3 + 2 * 1
NUMBERED = ROW + 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream")


def rows_of(folder: Path, entry: TensorEntry, values: Tensor, shard_rows: int) -> Rows:
    """Store values in shards and open them by rows."""
    shards = []
    for start in range(0, len(values), shard_rows):
        part = values[start : start + shard_rows]
        path = folder / f"{entry.name}-{len(values)}-{shard_rows}-{start}"
        if not path.exists():
            if entry.dtype == "int16":
                save_tensors(path, {entry.name: part})
            else:
                save_tensors(path, encode(entry.name, part, entry.dtype, entry.topk)[0])
        shards.append(open_stored(path))
    return Rows(entry, shard_rows, shards)


def stream_of(folder: Path, rows: int, buffer: int, block: int = 8, shard_rows: int = 10) -> Stream:
    """Return a stream of two tensors in which every row says which row it is."""
    number_N1 = torch.arange(rows)[:, None]
    wide = TensorEntry(name="wide", width=3, dtype="fp32")
    code = TensorEntry(name="code", width=1, dtype="int16")
    tensors = {
        "wide": rows_of(folder, wide, (number_N1 + torch.tensor([0.0, 0.25, 0.5])), shard_rows),
        "code": rows_of(folder, code, number_N1.short(), shard_rows),
    }
    return Stream(tensors, rows, buffer, block)


def blocks_of(folder: Path, rows: int, room: int, block: int) -> Stream:
    """Return a stream that does not hold its tensors, with room for some rows."""
    stream = stream_of(folder, rows, room * NUMBERED, block)
    assert stream.held is None
    return stream


def drawn(stream: Stream, batch: int) -> Iterator[list[int]]:
    """Draw an epoch as row numbers; what the tensors say of the rows must be theirs."""
    for rows_B, known in stream.epoch(batch):
        assert set(known) == {"wide", "code"}
        assert known["code"].dtype == torch.int16
        assert torch.equal(known["code"][:, 0].long(), rows_B)
        assert torch.equal(known["wide"], rows_B[:, None] + torch.tensor([0.0, 0.25, 0.5]))
        yield rows_B.tolist()


@given(
    rows=st.integers(1, 70),
    shard_rows=st.integers(1, 80),
    block=st.integers(1, 20),
    batch=st.integers(1, 20),
    spare=st.integers(0, 40),
)
def test_an_epoch_has_every_row_once_and_only_its_last_batch_is_short(
    folder: Path, rows: int, shard_rows: int, block: int, batch: int, spare: int
) -> None:
    stream = stream_of(folder, rows, 2 * (batch + block + spare) * NUMBERED, block, shard_rows)
    for _ in range(2):
        batches = list(drawn(stream, batch))
        assert sorted(row for found in batches for row in found) == list(range(rows))
        assert {len(found) for found in batches[:-1]} <= {batch}
        assert len(batches) == -(-rows // batch)


def test_what_fits_is_read_once_and_permuted_as_a_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(folder, 50, 50 * ROW)
    assert stream.held is not None
    monkeypatch.setattr(Rows, "read_into", None)
    torch.manual_seed(3)
    wanted = [rows_B.tolist() for rows_B in torch.split(torch.randperm(50), 8)]
    after = torch.get_rng_state()
    torch.manual_seed(3)
    assert list(drawn(stream, 8)) == wanted
    assert torch.equal(torch.get_rng_state(), after)
    assert stream.take("code", torch.tensor([7, 7, 3])).flatten().tolist() == [7, 7, 3]


def test_without_tensors_an_epoch_is_a_permutation(folder: Path) -> None:
    torch.manual_seed(0)
    wanted = torch.randperm(9).tolist()
    torch.manual_seed(0)
    assert [row for rows_B, _ in Stream({}, 9, 1, 1).epoch(4) for row in rows_B.tolist()] == wanted


def reads(
    stream: Stream, batch: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, int, int]]:
    """Return name, start and count of every read of an epoch."""
    seen: list[tuple[str, int, int]] = []
    read_into = Rows.read_into

    def watched(self: Rows, start: int, rows: Tensor) -> None:
        seen.append((self.entry.name, start, len(rows)))
        read_into(self, start, rows)

    monkeypatch.setattr(Rows, "read_into", watched)
    list(stream.epoch(batch))
    return seen


def test_what_does_not_fit_is_read_in_blocks_each_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    stream = stream_of(folder, 50, 50 * ROW - 1, block=8)
    assert stream.held is None
    seen = reads(stream, 5, monkeypatch)
    for name in ("wide", "code"):
        blocks = [(start, count) for read, start, count in seen if read == name]
        assert sorted(blocks) == [(0, 8), (8, 8), (16, 8), (24, 8), (32, 8), (40, 8), (48, 2)]
        assert blocks != sorted(blocks)


def test_the_buffer_is_within_its_bytes_and_reused(folder: Path) -> None:
    stream = stream_of(folder, 200, 60 * NUMBERED + 5)
    spaces = []
    for _ in range(2):
        list(stream.epoch(8))
        spaces.append(stream._halves)
    assert spaces[0] is not None
    held = [sum(rows.nbytes for rows in half.values()) for half in spaces[0]]
    assert held == [30 * NUMBERED] * 2
    assert spaces[0] is spaces[1]


def test_a_batch_is_the_callers_to_keep(folder: Path) -> None:
    stream = blocks_of(folder, 100, 60, block=8)
    kept = [(rows_B, known["wide"]) for rows_B, known in stream.epoch(7)]
    assert all(torch.equal(wide[:, 0].long(), rows_B) for rows_B, wide in kept)


def test_the_order_follows_from_the_random_state_at_the_start_alone(folder: Path) -> None:
    stream, other = (blocks_of(folder, 100, 60, block=4) for _ in range(2))
    torch.manual_seed(5)
    list(drawn(stream, 7))
    state = torch.get_rng_state()
    second = list(drawn(stream, 7))
    torch.set_rng_state(state)
    again = []
    for found in drawn(other, 7):  # as a resumed run: a fresh stream, and a model that draws too
        torch.randn(3)
        again.append(found)
    assert again == second
    assert list(drawn(stream, 7)) != second


def test_every_row_has_the_same_chance_to_come_first(folder: Path) -> None:
    torch.manual_seed(0)
    stream, epochs = blocks_of(folder, 48, 30, block=2), 500
    counts = torch.zeros(48)
    for _ in range(epochs):
        counts[next(stream.epoch(4))[0]] += 1
    chance = 4 / 48
    assert (counts - epochs * chance).abs().max() < 5 * (epochs * chance * (1 - chance)) ** 0.5


def test_rows_of_a_buffer_are_mixed(folder: Path) -> None:
    torch.manual_seed(0)
    batches = list(drawn(blocks_of(folder, 400, 250, block=10), 20))
    # A half holds 10 blocks; a batch of 20 of its 100 rows has 9 of them, unmixed it would have 2.
    blocks = [len({row // 10 for row in batch}) for batch in batches]
    assert sum(blocks) / len(blocks) > 7


def test_the_next_blocks_are_read_while_a_batch_is_in_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, read_into = blocks_of(folder, 100, 60, block=8), Rows.read_into
    readers: list[str] = []

    def watched(self: Rows, start: int, rows: Tensor) -> None:
        readers.append(threading.current_thread().name)
        read_into(self, start, rows)

    monkeypatch.setattr(Rows, "read_into", watched)
    epoch = stream.epoch(7)
    next(epoch)  # 2 blocks of 2 tensors in this half, and as many in the other
    until = time.monotonic() + 10
    while len(readers) < 8 and time.monotonic() < until:
        time.sleep(0.001)
    assert len(readers) == 8
    assert threading.current_thread().name not in readers
    del epoch
    assert not any("g2t-stream" in thread.name for thread in threading.enumerate())


def test_what_goes_wrong_in_reading_reaches_the_caller(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, read_into = blocks_of(folder, 100, 60, block=8), Rows.read_into
    seen = 0

    def failing(self: Rows, start: int, rows: Tensor) -> None:
        nonlocal seen
        seen += 1
        if seen == 7:
            raise IntegrityError("a shard was cut short")
        read_into(self, start, rows)

    monkeypatch.setattr(Rows, "read_into", failing)
    with pytest.raises(IntegrityError, match="a shard was cut short"):
        list(stream.epoch(7))
    assert not any("g2t-stream" in thread.name for thread in threading.enumerate())


def test_a_buffer_too_small_is_refused_naming_the_least_that_works(folder: Path) -> None:
    with pytest.raises(UsageError, match="cannot hold two batches of 16 rows") as caught:
        next(stream_of(folder, 500, 47 * NUMBERED, block=8).epoch(16))
    least = re.fullmatch(r"set train.buffer to (\w+) or more", caught.value.hint)
    assert least
    size = parse_size(least[1])
    assert len(list(drawn(stream_of(folder, 500, size, block=8), 16))) == -(-500 // 16)
    with pytest.raises(UsageError):
        next(stream_of(folder, 500, size - 1, block=8).epoch(16))


@pytest.mark.parametrize(
    ("dtype", "topk"), [("fp16", None), ("bf16", None), ("int8", None), ("fp32", 2)]
)
def test_every_type_is_drawn_as_it_is_read(
    folder: Path, tmp_path: Path, dtype: Any, topk: int | None
) -> None:
    torch.manual_seed(0)
    kind = "dense" if topk is None else "topk"
    entry = TensorEntry(name="x", kind=kind, width=4, dtype=dtype, topk=topk)
    tensor = rows_of(tmp_path, entry, torch.randn(60, 4), 25)
    whole = tensor.read(0, 60)
    for buffer in (60 * 16, 30 * 24):
        stream = Stream({"x": tensor}, 60, buffer, 4)
        for rows_B, known in stream.epoch(9):
            assert known["x"].dtype == whole.dtype
            assert torch.equal(known["x"], whole[rows_B])


@given(st.lists(st.integers(0, 299), max_size=60))
def test_rows_are_taken_in_the_order_asked_for(folder: Path, rows: list[int]) -> None:
    rows_B = torch.tensor(rows, dtype=torch.int64)
    stream = stream_of(folder, 300, 1, shard_rows=70)
    assert stream.held is None
    assert stream.take("code", rows_B).flatten().tolist() == rows
    assert torch.equal(stream.take("wide", rows_B)[:, 0], rows_B.float())


def test_neighbouring_rows_are_read_together_and_in_the_order_of_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = TensorEntry(name="x", width=1, dtype="fp32")
    tensor = rows_of(folder, entry, torch.arange(300.0)[:, None], 300)
    seen = []
    read = Rows.read

    def watched(self: Rows, start: int, stop: int) -> Tensor:
        seen.append((start, stop))
        return read(self, start, stop)

    monkeypatch.setattr(Rows, "read", watched)
    taken = take(tensor, torch.tensor([290, 5, 130, 3, 5, 140]))
    assert taken.flatten().tolist() == [290, 5, 130, 3, 5, 140]
    assert seen == [(3, 6), (130, 141), (290, 291)]


@pytest.mark.parametrize(
    ("buffer", "block", "wanted"),
    [(64 << 20, 1024, 1024), (NUMBERED * 320, 1024, 10), (NUMBERED * 320, 4, 4), (1, 1024, 1)],
)
def test_blocks_shrink_until_half_a_buffer_mixes_sixteen(
    folder: Path, buffer: int, block: int, wanted: int
) -> None:
    stream = stream_of(folder, 100, 1 << 20)
    assert well_mixed(stream._tensors, buffer, block) == wanted
