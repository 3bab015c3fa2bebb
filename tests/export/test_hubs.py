"""A node with 200,000 in-edges: no overflow, no lost weight, against float64."""

from pathlib import Path

import pytest
import torch

from g2t.graph.bundle import read_graph
from tests.export.graphs import (
    DESCRIBED,
    Taught,
    errors,
    exact_trace,
    graph_of,
    store,
    write_teacher,
)

LEAVES, NOISE, WIDTH, MEAN = 200_000, 50_000, 8, 4.0


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A star around the last node, both ways, and random edges among its leaves."""
    draw = torch.Generator().manual_seed(0)
    leaf, hub = torch.arange(LEAVES), torch.full((LEAVES,), LEAVES)
    noise = torch.randint(0, LEAVES, (2, NOISE), generator=draw)
    pairs = torch.cat([torch.stack([leaf, hub]), torch.stack([hub, leaf]), noise], 1)
    features = torch.randn(LEAVES + 1, WIDTH, generator=draw) + MEAN
    return store(graph_of(pairs, features), tmp_path_factory.mktemp("hub") / "g")


@pytest.fixture(scope="module", params=DESCRIBED)
def taught(request: pytest.FixtureRequest, graph: Path) -> Taught:
    folder = graph.parent / request.param
    return write_teacher(graph, folder, request.param, hidden=8, layers=2, post=True)


def test_a_hub_is_exact_and_in_fp16_finite_and_close(taught: Taught, tmp_path: Path) -> None:
    wanted = exact_trace(taught)
    hub = {name: values[-1:] for name, values in wanted.items()}
    for precision, most in (("fp32", 1e-5), ("fp16", 1e-3)):
        cache = taught.export(tmp_path / precision, precision=precision)
        assert max(errors(cache, wanted).values()) <= most
        for name, values in hub.items():  # the hub itself, not only beside larger values
            found = cache.open(name).read(LEAVES, LEAVES + 1).double()
            assert float((found - values).abs().max() / values.abs().max()) <= most


def test_a_naive_sum_would_have_overflowed(graph: Path) -> None:
    features = read_graph(graph).features
    assert isinstance(features, torch.Tensor)
    assert bool(features.half().isfinite().all())
    assert bool(features.sum(0).half().isinf().all())
