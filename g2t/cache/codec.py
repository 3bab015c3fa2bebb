"""From numbers to what a shard stores of them, and back: types, per-column scales, top-k logits.

Shape letters: `N` rows of a shard, `W` columns, `K` kept logits.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from g2t.cache.format import DTYPES, StoredDtype, TensorEntry
from g2t.errors import InputError, UsageError
from g2t.task import Task

#: Magnitudes below this are taken for zero where something is divided by them.
TINY = 1e-30
#: Rows that are encoded at a time: what lies between numbers and shard stays small.
BLOCK = 4096


def encode(
    name: str, values_NW: Tensor, dtype: StoredDtype, topk: int | None = None
) -> tuple[dict[str, Tensor], float]:
    """Return the tensors that store float rows and the largest error over the largest magnitude.

    `int8` has one scale per column of the shard. With `topk`, a row keeps its K largest values and
    the level of the rest: the value that gives all others together the probability that they had.
    The error of `topk` counts the kept values only. Raises InputError where a value is not finite
    or leaves the range of the type, UsageError where K exceeds the columns.
    """
    values_NW = values_NW.float()
    if not is_finite(values_NW):
        raise InputError(f"{name} holds NaN or infinite values", "look at the teacher's training")
    if topk is not None:
        check_topk(values_NW.shape[1], dtype, topk)
        value_NK, index_NK = values_NW.topk(topk, 1)
        others_NW = values_NW.scatter(1, index_NK, -math.inf)
        return _kept(name, value_NK, index_NK.int(), _level(others_NW, topk), dtype)
    if dtype == "fp32":
        return {name: values_NW}, 0.0
    scale_W = None
    if dtype == "int8":
        largest_W = torch.maximum(values_NW.amax(0), -values_NW.amin(0))
        scale_W = largest_W.clamp(min=TINY) / 127
    stored, error = _rounded(values_NW, DTYPES[dtype], scale_W)
    if not math.isfinite(error):
        raise InputError(
            f"{name} does not fit {dtype}: its largest magnitude is {magnitude(values_NW):.3g}",
            "use --dtype bf16 or --dtype fp32" if dtype == "fp16" else "use --dtype fp32",
        )
    return {name: stored} if scale_W is None else {name: stored, f"{name}.scale": scale_W}, error


def decode(tensors: Mapping[str, Tensor], entry: TensorEntry) -> Tensor:
    """Return the rows of a dense or top-k shard: int8 and top-k as float32, other types as stored.

    A row's logits outside the top k all get the level of the rest.
    """
    name = entry.name
    if entry.kind == "topk":
        value_NK, index_NK = tensors[f"{name}.value"], tensors[f"{name}.index"]
        rest_N = tensors[f"{name}.rest"]
        rows_NW = rest_N[:, None].expand(-1, entry.width).contiguous()
        return rows_NW.scatter_(1, index_NK.long(), value_NK.float())
    if entry.dtype == "int8":
        return tensors[name].float() * tensors[f"{name}.scale"]
    return tensors[name]


def recode_topk(
    tensors: Mapping[str, Tensor], entry: TensorEntry, dtype: StoredDtype, topk: int
) -> tuple[dict[str, Tensor], float]:
    """Encode a top-k shard anew with as many or fewer values; raises UsageError for more.

    Never spreads a row over all classes: what is dropped joins the rest.
    """
    name, before = entry.name, entry.topk or 0
    check_topk(entry.width, dtype, topk, before)
    value_NK, index_NK = tensors[f"{name}.value"].float(), tensors[f"{name}.index"]
    rest_N = tensors[f"{name}.rest"]
    if topk < before:
        value_NK, place_NK = value_NK.topk(topk, 1)
        index_NK = index_NK.gather(1, place_NK)
        dropped = tensors[f"{name}.value"].float().scatter(1, place_NK, -math.inf)
        others = entry.width - before
        together_N = rest_N + math.log(others) if others else torch.full_like(rest_N, -math.inf)
        rest_N = _level(torch.cat([dropped, together_N[:, None]], 1), topk, entry.width)
    return _kept(name, value_NK, index_NK, rest_N, dtype)


def stored_shapes(entry: TensorEntry, rows: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return the type and shape of every tensor in a dense or top-k shard of some rows."""
    name, dtype = entry.name, DTYPES[entry.dtype]
    if entry.kind == "topk":
        kept = (rows, entry.topk or 0)
        return {
            f"{name}.value": (dtype, kept),
            f"{name}.index": (torch.int32, kept),
            f"{name}.rest": (torch.float32, (rows,)),
        }
    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {name: (dtype, (rows, entry.width))}
    if entry.dtype == "int8":
        shapes[f"{name}.scale"] = (torch.float32, (entry.width,))
    return shapes


def is_finite(values: Tensor) -> bool:
    """Tell whether no value is NaN or infinite: then the least and the largest are neither."""
    return values.numel() == 0 or all(bool(end.isfinite()) for end in values.aminmax())


def check_topk(width: int, dtype: StoredDtype, topk: int, before: int | None = None) -> None:
    """Raise UsageError where logits of some width cannot be kept as their top k in this type.

    `before` is how many of them a row keeps already, None for all.
    """
    if before is not None and topk > before:
        raise UsageError(
            f"--topk {topk} is more than the {before} logits that a row of this cache keeps",
            "convert the cache that it was made from",
        )
    if topk > width:
        raise UsageError(f"--topk {topk} is more than the {width} classes", "choose a smaller one")
    if dtype == "int8":
        raise UsageError("top-k logits are not stored as int8", "use --dtype fp16 with --topk")


def check_one_choice(task: Task) -> None:
    """Raise UsageError where logits are no one choice, so that a top k says nothing of the rest."""
    if task == "multilabel":
        raise UsageError(
            "top-k logits are of one choice among classes, and this task has several labels",
            "leave out --topk",
        )


def _rounded(values_NW: Tensor, dtype: torch.dtype, scale_W: Tensor | None) -> tuple[Tensor, float]:
    """Return values in a type (times 1 / scale) and the error; infinite where one does not fit."""
    stored_NW = torch.empty(values_NW.shape, dtype=dtype)
    worst = largest = 0.0
    blocks = zip(torch.split(values_NW, BLOCK), torch.split(stored_NW, BLOCK), strict=True)
    for values_BW, stored_BW in blocks:
        if scale_W is None:
            back_BW = stored_BW.copy_(values_BW).float()
        else:
            back_BW = stored_BW.copy_((values_BW / scale_W).round_()).float().mul_(scale_W)
        worst = max(worst, magnitude(back_BW.sub_(values_BW)))
        largest = max(largest, magnitude(values_BW))
    return stored_NW, worst / max(largest, TINY)


def magnitude(values: Tensor) -> float:
    """Return the largest magnitude of values that are not NaN, without a copy."""
    low, high = values.aminmax()
    return max(-float(low), float(high))


def _level(others: Tensor, topk: int, width: int | None = None) -> Tensor:
    """Return log(Σ exp / count) of what is not kept, float32 [N]; 0 where all is kept."""
    count = (others.shape[1] if width is None else width) - topk
    if count == 0:
        return torch.zeros(len(others))
    return others.logsumexp(1) - math.log(count)


def _kept(
    name: str, value_NK: Tensor, index_NK: Tensor, rest_N: Tensor, dtype: StoredDtype
) -> tuple[dict[str, Tensor], float]:
    kept, error = encode(name, value_NK, dtype)
    return {f"{name}.value": kept[name], f"{name}.index": index_NK, f"{name}.rest": rest_N}, error
