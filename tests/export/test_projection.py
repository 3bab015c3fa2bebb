"""Fixed projections: singular vectors and Gaussian numbers, the same at every call."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from g2t.errors import UsageError
from g2t.export import projection
from g2t.export.projection import make_projection, sampled_rows
from g2t.graph.csr import Csr, Features, compact
from g2t.graph.lazy import GraphFile, open_graph
from tests.export.graphs import (
    FEATURES,
    PLAIN,
    ROWS,
    Kind,
    Teach,
    digests,
    features_of,
    graph_of,
    store,
)

KINDS: list[Kind] = ["dense", "sparse", "words"]


def graph_file(features: Features, folder: Path) -> GraphFile:
    ring = torch.arange(len(features))
    graph = graph_of(torch.stack([ring, ring.roll(1)]), features)
    return open_graph(store(graph, folder / "g"))


def dense(features: Features) -> Tensor:
    return features if isinstance(features, Tensor) else features.dense()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 4, FEATURES - 1])
def test_svd_gives_the_first_right_singular_vectors(tmp_path: Path, kind: Kind, width: int) -> None:
    features = features_of(ROWS, kind)
    found = make_projection(f"svd:{width}", graph_file(features, tmp_path), torch.arange(ROWS))
    assert (found.dtype, tuple(found.shape)) == (torch.float32, (FEATURES, width))
    _, _, right = np.linalg.svd(dense(features).double().numpy(), full_matrices=False)
    # Each up to its sign, and in the order of the singular values.
    cosine = (found.double() * torch.from_numpy(right[:width].T.copy())).sum(0).abs()
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-5)
    eye = torch.eye(width)
    torch.testing.assert_close(found.T @ found, eye, rtol=0, atol=1e-5)


def test_svd_looks_at_the_nodes_in_use_only(tmp_path: Path) -> None:
    features = features_of(60, "dense")
    nodes = torch.arange(60)[torch.arange(60) % 3 != 0]
    loud = features.clone() if isinstance(features, Tensor) else None
    assert loud is not None
    loud[::3] *= 1000
    found = make_projection("svd:3", graph_file(loud, tmp_path), nodes)
    _, _, right = np.linalg.svd(loud[nodes].double().numpy(), full_matrices=False)
    cosine = (found.double() * torch.from_numpy(right[:3].T.copy())).sum(0).abs()
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_rank_below_the_width_gives_finite_directions(tmp_path: Path, kind: Kind) -> None:
    """Columns that say the same: fewer directions than were asked for carry anything."""
    draw = torch.Generator().manual_seed(0)
    features: Features = torch.randn(50, 2, generator=draw) @ torch.randn(2, 12, generator=draw)
    if kind == "sparse":
        features = torch.zeros(50, 12)
        features[::5, 3] = 2.5
        features[1::7, 9] = 1.5
        features = compact(features)
        assert isinstance(features, Csr)
    found = make_projection("svd:6", graph_file(features, tmp_path), torch.arange(50))
    assert bool(found.isfinite().all())
    kept = dense(features) @ found @ found.T
    torch.testing.assert_close(kept, dense(features), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "width", "bound"), [(ROWS, FEATURES, FEATURES), (ROWS, 99, FEATURES), (9, 9, 9)]
)
def test_as_many_directions_as_rank_are_refused(
    tmp_path: Path, rows: int, width: int, bound: int
) -> None:
    graph = graph_file(features_of(rows, "dense"), tmp_path)
    with pytest.raises(UsageError, match=f"svd:{width} asks for") as caught:
        make_projection(f"svd:{width}", graph, torch.arange(rows))
    assert caught.value.hint == f"choose fewer than {bound}"
    assert make_projection(f"svd:{bound - 1}", graph, torch.arange(rows)).shape[1] == bound - 1


def test_a_refused_projection_leaves_nothing_behind(teach: Teach, tmp_path: Path) -> None:
    taught = teach("gcn", **PLAIN)
    with pytest.raises(UsageError, match="svd:21"):
        taught.export(tmp_path / "c", hops=1, project="svd:21")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("project", ["svd:4", "random:4"])
def test_the_same_projection_at_every_call_whatever_the_random_state(
    teach: Teach, tmp_path: Path, project: str
) -> None:
    taught, found = teach("gcn", "sparse", **PLAIN), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        cache = taught.export(tmp_path / str(seed), hops=1, project=project)
        found.append(digests(cache.artifact))
    assert found[0] == found[1]


def test_random_directions_keep_lengths(tmp_path: Path) -> None:
    """Johnson & Lindenstrauss: |x R|² is |x|² on average, with variance 2/W."""
    features, width = torch.randn(400, 50, generator=torch.Generator().manual_seed(0)), 200
    graph = graph_file(features, tmp_path)
    found = make_projection(f"random:{width}", graph, torch.arange(400))
    assert float(found.var() * width) == pytest.approx(1, abs=0.05)
    assert abs(float(found.mean())) < 0.003
    ratio = (features @ found).square().sum(1) / features.square().sum(1)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05)
    assert float(ratio.std()) == pytest.approx((2 / width) ** 0.5, rel=0.2)
    assert make_projection("random:80", graph, torch.arange(400)).shape == (50, 80)  # wider, too


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000, 4097])
def test_a_sample_is_all_rows_or_evenly_spread_runs(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(projection, "RUNS", 8)
    monkeypatch.setattr(projection, "RUN", 8)
    found = sampled_rows(rows)
    assert len(found) == min(rows, 64)
    assert bool((found.diff() > 0).all())
    assert (int(found[0]), int(found[-1])) == (0, rows - 1)
    if rows > 64:
        assert int(found.diff().max()) <= rows / 7
