"""Types, scales and top-k: what comes back errs as much as the type must, and as is recorded."""

import math

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from numpy.typing import NDArray
from torch import Tensor

from g2t.cache.codec import (
    BLOCK,
    decode,
    encode,
    is_finite,
    magnitude,
    recode_topk,
    stored_shapes,
)
from g2t.cache.format import DtypeName, TensorEntry
from g2t.errors import InputError, UsageError

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
#: Ordinary activations, and the zeros that dead units leave.
NUMBERS = st.one_of(st.just(0.0), st.floats(-1e4, 1e4, width=32), st.floats(-1, 1, width=32))
ROWS = hnp.arrays(np.float32, SHAPES, elements=NUMBERS)
Rows = NDArray[np.float32]
#: Half the distance of neighbouring numbers, over the number: 11 and 8 bits of mantissa.
HALF_STEP = {"fp16": 2.0**-11, "bf16": 2.0**-8}


def entry_of(values: Tensor, dtype: DtypeName, topk: int | None = None) -> TensorEntry:
    kind = "dense" if topk is None else "topk"
    return TensorEntry.model_validate(
        {"name": "x", "kind": kind, "width": values.shape[1], "dtype": dtype, "topk": topk}
    )


def through(values: Tensor, dtype: DtypeName, topk: int | None = None) -> tuple[Tensor, float]:
    """Encode and decode; what is stored has the types and shapes that readers expect."""
    tensors, error = encode("x", values, dtype, topk)
    entry = entry_of(values, dtype, topk)
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    assert found == stored_shapes(entry, len(values))
    return decode(tensors, entry).float(), error


@given(ROWS)
def test_fp32_is_the_same_numbers(rows: Rows) -> None:
    values = torch.from_numpy(rows)
    back, error = through(values, "fp32")
    assert torch.equal(back, values)
    assert error == 0.0


@given(ROWS, st.sampled_from(["fp16", "bf16"]))
def test_short_floats_err_by_half_a_step_of_each_number(rows: Rows, dtype: DtypeName) -> None:
    values = torch.from_numpy(rows)
    back, error = through(values, dtype)
    wrong = (back - values).abs()
    # The smallest steps are 2^-24 of fp16 and 2^-133 of bf16.
    floor = {"fp16": 2.0**-25, "bf16": 2.0**-134}.get(dtype, 0.0)
    assert bool((wrong <= values.abs() * HALF_STEP[dtype] + floor).all())
    assert error == pytest.approx(float(wrong.max() / values.abs().max().clamp(min=1e-30)))
    assert bool((back[values == 0] == 0).all())


@given(ROWS)
def test_int8_errs_by_half_a_step_of_its_column(rows: Rows) -> None:
    values = torch.from_numpy(rows)
    back, error = through(values, "int8")
    half_step_W = values.abs().amax(0) / 127 / 2
    wrong = (back - values).abs()
    assert bool((wrong <= half_step_W * (1 + 1e-4) + 1e-30).all())
    assert error <= 1 / 254 * (1 + 1e-4)
    assert error == pytest.approx(float(wrong.max() / values.abs().max().clamp(min=1e-30)))


def test_int8_by_hand() -> None:
    values = torch.tensor([[127.0, 0.0, -2.54], [-63.4, 0.0, 1.28]])
    tensors, error = encode("x", values, "int8")
    assert tensors["x"].tolist() == [[127, 0, -127], [-63, 0, 64]]
    assert tensors["x.scale"].tolist() == pytest.approx([1.0, 1e-30 / 127, 0.02])
    assert error == pytest.approx(0.4 / 127, rel=1e-4)


def test_int8_scales_belong_to_columns_so_a_loud_one_spoils_no_other() -> None:
    values = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    values[:, 2] *= 1e4
    back, _ = through(values, "int8")
    for column in (0, 1, 3):
        wrong = (back - values)[:, column].abs().max() / values[:, column].abs().max()
        assert 0 < float(wrong) <= 1 / 254 * (1 + 1e-4)


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_blocks_do_not_show(dtype: DtypeName) -> None:
    values = torch.randn(2 * BLOCK + 7, 3, generator=torch.Generator().manual_seed(1))
    values[BLOCK + 1] *= 50  # the largest number stands neither first nor last
    back, error = through(values, dtype)
    wrong = float((back - values).abs().max() / values.abs().max())
    assert error == pytest.approx(wrong)
    few, _ = encode("x", values[:BLOCK], "fp16")
    many, _ = encode("x", values, "fp16")
    assert torch.equal(few["x"], many["x"][:BLOCK])


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9),
        elements=st.floats(-30, 30, width=32),
    ),
    st.data(),
)
@settings(max_examples=200)
def test_topk_keeps_probabilities_and_the_total_of_the_rest(
    rows: Rows, data: st.DataObject
) -> None:
    values = torch.from_numpy(rows)
    width = values.shape[1]
    topk = data.draw(st.integers(1, width))
    back, error = through(values, "fp32", topk)
    assert error == 0.0
    wanted, found = values.double().softmax(1), back.double().softmax(1)
    kept = values.topk(topk, 1).indices
    torch.testing.assert_close(found.gather(1, kept), wanted.gather(1, kept), rtol=1e-4, atol=1e-9)
    assert torch.equal(back.gather(1, kept), values.gather(1, kept))
    others = torch.ones_like(values, dtype=torch.bool).scatter_(1, kept, False)
    rest_found = (found * others).sum(1)
    torch.testing.assert_close(rest_found, (wanted * others).sum(1), rtol=1e-4, atol=1e-9)
    for row, mask in zip(back, others, strict=True):
        assert len(row[mask].unique()) <= 1  # the rest is level


def test_topk_by_hand() -> None:
    values = torch.tensor([[math.log(6), 0.0, math.log(2), 0.0]])
    tensors, _ = encode("x", values, "fp32", 1)
    assert tensors["x.index"].tolist() == [[0]]
    assert tensors["x.index"].dtype == torch.int32
    # The others have 1 + 2 + 1 = 4 together, so each of the three gets 4 / 3.
    assert tensors["x.rest"].tolist() == pytest.approx([math.log(4 / 3)])
    probabilities = decode(tensors, entry_of(values, "fp32", 1)).softmax(1)
    assert probabilities.tolist() == [pytest.approx([0.6, 0.4 / 3, 0.4 / 3, 0.4 / 3])]


def test_topk_of_all_classes_is_all_there_is() -> None:
    values = torch.tensor([[3.0, -1.0, 2.0]])
    tensors, _ = encode("x", values, "fp32", 3)
    assert tensors["x.rest"].tolist() == [0.0]
    assert torch.equal(decode(tensors, entry_of(values, "fp32", 3)), values)


@given(
    hnp.arrays(np.float32, (5, 8), elements=st.floats(-20, 20, width=32)),
    st.integers(1, 8),
    st.integers(1, 8),
)
def test_topk_of_topk_is_topk(rows: Rows, first: int, second: int) -> None:
    assume(second <= first)
    values = torch.from_numpy(rows)
    direct, _ = encode("x", values, "fp32", second)
    tensors, _ = encode("x", values, "fp32", first)
    twice, error = recode_topk(tensors, entry_of(values, "fp32", first), "fp32", second)
    assert error == 0.0
    assert torch.equal(twice["x.value"], direct["x.value"])
    torch.testing.assert_close(twice["x.rest"], direct["x.rest"], rtol=1e-5, atol=1e-5)
    assert torch.equal(values.gather(1, twice["x.index"].long()), direct["x.value"])


def test_topk_grows_neither_by_conversion_nor_beyond_the_classes() -> None:
    values = torch.randn(3, 6)
    tensors, _ = encode("x", values, "fp16", 2)
    entry = entry_of(values, "fp16", 2)
    with pytest.raises(UsageError, match="--topk 3 is more than the 2 logits that a row"):
        recode_topk(tensors, entry, "fp16", 3)
    with pytest.raises(UsageError, match="--topk 7 is more than the 6 classes"):
        encode("x", values, "fp16", 7)
    with pytest.raises(UsageError, match="not stored as int8"):
        encode("x", values, "int8", 2)
    with pytest.raises(UsageError, match="not stored as int8"):
        recode_topk(tensors, entry, "int8", 2)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int8"])
def test_what_is_not_finite_is_not_stored(wrong: float, dtype: DtypeName) -> None:
    values = torch.zeros(BLOCK + 2, 2)
    values[BLOCK + 1, 1] = wrong
    for topk in (None, 1):
        with pytest.raises(InputError, match="teacher-h1 holds NaN or infinite values"):
            encode("teacher-h1", values, dtype, topk)


def test_fp16_ends_at_65504() -> None:
    values = torch.tensor([[0.0, -65504.0, 65504.0]])
    back, error = through(values, "fp16")
    assert (back.tolist(), error) == (values.tolist(), 0.0)
    values = torch.zeros(BLOCK + 1, 3)
    values[BLOCK, 1] = -65520.0
    with pytest.raises(InputError, match="does not fit fp16: its largest magnitude is") as e:
        encode("x", values, "fp16")
    assert e.value.hint == "use --dtype bf16 or --dtype fp32"
    assert through(values, "bf16")[1] < HALF_STEP["bf16"]
    with pytest.raises(InputError, match="does not fit bf16") as e:
        encode("x", torch.tensor([[3.4e38]]), "bf16")
    assert e.value.hint == "use --dtype fp32"


def test_finite_numbers_whose_sum_overflows_are_finite() -> None:
    large = torch.full((40, 2), 3e38)
    assert is_finite(large)
    assert is_finite(torch.full((9000, 9), 65504.0).half())
    large[3, 1] = math.nan
    assert not is_finite(large)
    assert not is_finite(torch.tensor([math.inf, -math.inf]))
    assert is_finite(torch.empty(0, 4))


@given(ROWS)
def test_the_magnitude_is_the_largest(rows: Rows) -> None:
    assert magnitude(torch.from_numpy(rows)) == float(np.abs(rows).max())
