"""From numbers to what a shard stores of them, and back: types, per-column scales, top-k logits.

Shape letters: `N` rows of a shard, `W` columns, `K` kept logits.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from g2t.cache.format import DTYPES, DtypeName, TensorEntry
from g2t.errors import InputError, UsageError

#: Magnitudes below this are taken for zero where something is divided by them.
TINY = 1e-30


def encode(
    name: str, values_NW: Tensor, dtype: DtypeName, topk: int | None = None
) -> tuple[dict[str, Tensor], float]:
    """Return the tensors that store float rows and the largest error over the largest magnitude.

    `int8` has one scale per column of the shard. With `topk`, a row keeps its K largest values and
    the level of the rest: the value that gives all others together the probability that they had.
    The error of `topk` counts the kept values only. Raises InputError where a value is not finite
    or leaves the range of the type, UsageError where K exceeds the columns.
    """
    values_NW = values_NW.float()
    if not bool(values_NW.isfinite().all()):
        raise InputError(f"{name} holds NaN or infinite values", "look at the teacher's training")
    if topk is not None:
        return _encode_topk(name, values_NW, dtype, topk)
    if dtype == "int8":
        scale_W = values_NW.abs().amax(0).clamp(min=TINY) / 127
        stored = (values_NW / scale_W).round().to(torch.int8)
        tensors = {name: stored, f"{name}.scale": scale_W}
        return tensors, _relative(stored.float() * scale_W, values_NW)
    stored = values_NW.to(DTYPES[dtype])
    if not bool(stored.isfinite().all()):
        raise InputError(
            f"{name} does not fit {dtype}: its largest magnitude is {values_NW.abs().max():.3g}",
            "use --dtype bf16 or --dtype fp32",
        )
    return {name: stored}, _relative(stored.float(), values_NW)


def decode(tensors: Mapping[str, Tensor], entry: TensorEntry) -> Tensor:
    """Return the rows of a dense or top-k shard: int8 and top-k as float32, other types as stored."""
    name = entry.name
    if entry.kind == "topk":
        value_NK, index_NK = tensors[f"{name}.value"], tensors[f"{name}.index"]
        rest_N = tensors[f"{name}.rest"]
        rows_NW = rest_N[:, None].expand(-1, entry.width).contiguous()
        return rows_NW.scatter_(1, index_NK.long(), value_NK.float())
    if entry.dtype == "int8":
        return tensors[name].float() * tensors[f"{name}.scale"]
    return tensors[name]


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


def _encode_topk(
    name: str, values_NW: Tensor, dtype: DtypeName, topk: int
) -> tuple[dict[str, Tensor], float]:
    width = values_NW.shape[1]
    if topk > width:
        raise UsageError(f"--topk {topk} is more than the {width} classes", "choose a smaller one")
    if dtype == "int8":
        raise UsageError("top-k logits are not stored as int8", "use --dtype fp16 with --topk")
    value_NK, index_NK = values_NW.topk(topk, 1)
    others_NW = values_NW.scatter(1, index_NK, float("-inf"))
    # Equal shares of what the others had: log(Σ exp) minus log of how many they are.
    rest_N = others_NW.logsumexp(1) - torch.tensor(float(max(width - topk, 1))).log()
    if topk == width:
        rest_N = torch.zeros(len(values_NW))
    kept, error = encode(name, value_NK, dtype)
    return {
        f"{name}.value": kept[name],
        f"{name}.index": index_NK.int(),
        f"{name}.rest": rest_N,
    }, error


def _relative(found: Tensor, wanted: Tensor) -> float:
    if wanted.numel() == 0:
        return 0.0
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=TINY))
