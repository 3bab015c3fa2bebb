"""Caches of several teachers, and what their mean is."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2t.cache.check import open_cache
from g2t.cache.reader import Cache
from g2t.export import ExportSettings, export
from tests.export.graphs import Taught

ALL = ("layers", "pre_layers", "logits", "edge_scores", "reliability", "codes", "clusters")
EXACT: dict[str, Any] = {"dtype": "fp32", "shard_rows": 131}


def together(three: list[Taught], out: Path, *order: int, **settings: Any) -> Cache:
    """Export teachers, counted from 1, exactly unless told otherwise."""
    asked = ExportSettings.model_validate({**EXACT, **settings})
    paths = [three[number - 1].teacher for number in order or (1, 2, 3)]
    assert export(paths, three[0].graph, out, asked) is not None
    return open_cache(out)


def mean(taught: list[Taught]) -> Tensor:
    """The log of the mean probability in float64, from whole forward passes."""
    shares = [one.trace.logits_NC.double().softmax(1) for one in taught]
    return torch.stack(shares).mean(0).log()


def of_logits(cache: Cache) -> list[str]:
    return [shard.xxh3_128 for shard in cache.manifest.shards_of("teacher-logits")]
