"""Hop tokens are powers of the operator times the features, each rounded once, in any precision."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from g2t.cache.reader import Cache
from g2t.export import layer
from g2t.graph.bundle import read_graph
from g2t.graph.csr import Features
from tests.export.graphs import FEATURES, PLAIN, Taught, Teach

HOPS = 3


def dense(features: Features) -> Tensor:
    return features if isinstance(features, Tensor) else features.dense()


def powers(taught: Taught, rows: Tensor, right: Tensor | None = None) -> list[Tensor]:
    """X R, Â X R, … of some nodes in float64, X as it is and not as the teacher saw it."""
    graph = read_graph(taught.graph)
    matrix = graph.edges.dense().double()[rows][:, rows].fill_diagonal_(1)
    scale = matrix.sum(1).rsqrt()
    state = dense(graph.features)[rows].double()
    if right is not None:
        state = state @ right.double()
    found = [state]
    for _ in range(HOPS):
        found.append(scale[:, None] * (matrix @ (scale[:, None] * found[-1])))
    return found


def off(cache: Cache, name: str, wanted: Tensor) -> float:
    return float((cache.whole(name).double() - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("split", ["public", "cpf:2"])
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_tokens_of_dense_features_are_exact_whatever_is_asked_for_the_layers(
    teach: Teach, tmp_path: Path, split: str, precision: str, dtype: str
) -> None:
    taught = teach("gcn", split=split, **PLAIN)
    cache = taught.export(
        tmp_path / "c", hops=HOPS, precision=precision, dtype=dtype, shard_rows=71
    )
    for hop, wanted in enumerate(powers(taught, cache.ids)):
        if hop == 0:
            assert cache.manifest.tensor("tokens-0") is None  # the features are there already
            continue
        assert cache.entry(f"tokens-{hop}").dtype == "fp32"
        assert off(cache, f"tokens-{hop}", wanted) <= 1e-5


@pytest.mark.parametrize("kind", ["sparse", "words"])
@pytest.mark.parametrize(
    ("dtype", "precision", "most"),
    [
        ("fp32", "fp32", 1e-5),
        ("fp32", "fp16", 1e-5),
        ("fp16", "fp32", 2**-11),
        ("fp16", "fp16", 1e-3),
        ("int8", "fp32", 2**-11),
        ("bf16", "fp32", 2**-8),
    ],
)
def test_tokens_of_sparse_features_are_rounded_once(
    teach: Teach, tmp_path: Path, kind: str, dtype: str, precision: str, most: float
) -> None:
    taught = teach("gcn", kind, **PLAIN)
    cache = taught.export(
        tmp_path / "c", hops=HOPS, dtype=dtype, precision=precision, shard_rows=71
    )
    for hop, wanted in enumerate(powers(taught, cache.ids)[1:], 1):
        assert cache.entry(f"tokens-{hop}").dtype == {"int8": "fp16"}.get(dtype, dtype)
        # Half a unit in the last place at most, although three hops were taken.
        assert off(cache, f"tokens-{hop}", wanted) <= most


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_no_token_is_computed_from_a_rounded_one(teach: Teach, tmp_path: Path, dtype: str) -> None:
    taught = teach("gcn", "sparse", **PLAIN)
    exact = taught.export(tmp_path / "exact", hops=HOPS, dtype="fp32")
    short = taught.export(tmp_path / "short", hops=HOPS, dtype=dtype)
    for hop in range(1, HOPS + 1):
        found = short.whole(f"tokens-{hop}")
        assert torch.equal(found, exact.whole(f"tokens-{hop}").to(found.dtype))


def test_tokens_do_not_depend_on_panels(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = teach("sage", "sparse", **PLAIN)
    whole = taught.export(tmp_path / "one", hops=2)
    monkeypatch.setattr(layer, "PANEL", 4)
    cut = taught.export(tmp_path / "many", hops=2)
    for hop in (1, 2):
        assert torch.equal(whole.whole(f"tokens-{hop}"), cut.whole(f"tokens-{hop}"))


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("project", ["svd:5", "random:30"])
@pytest.mark.parametrize("split", ["public", "cpf:2"])
def test_projected_tokens_are_powers_of_the_projected_features(
    teach: Teach, tmp_path: Path, kind: str, project: str, split: str
) -> None:
    taught = teach("gcn", kind, split, **PLAIN)
    cache = taught.export(tmp_path / "c", hops=HOPS, dtype="fp16", project=project, shard_rows=71)
    right = cache.projection
    assert right is not None
    assert right.shape == (FEATURES, int(project.split(":")[1]))
    for hop, wanted in enumerate(powers(taught, cache.ids, right)):
        assert cache.entry(f"tokens-{hop}").dtype == "fp32"
        assert off(cache, f"tokens-{hop}", wanted) <= 1e-5
