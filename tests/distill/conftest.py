"""What most tests of distilling start from: a graph, and a cache of it with every signal."""

from pathlib import Path

import pytest

from g2t.cache.format import SIGNALS
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from tests.distill.small import GRAPH, TEACH, cache_of


@pytest.fixture(scope="session")
def graph_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("distill") / "graph"
    return import_graph("synthetic:csbm", out, GRAPH, None, Silent(), False).path


@pytest.fixture(scope="session")
def cache_path(graph_path: Path) -> Path:
    """A cache with every signal."""
    return cache_of(graph_path, graph_path.with_name("cache"), TEACH, SIGNALS)
