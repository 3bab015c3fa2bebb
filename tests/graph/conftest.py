"""What tests of graphs share: a user's own tables, written anew for each of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Write texts as nodes.csv and edges.csv and return the settings that name them.
Tables = Callable[..., dict[str, Any]]

NODES = "id,label,a,b\nx,red,1,0\ny,blue,2,0.5\nz,red,3,0\n"
EDGES = "source,target\nx,y\ny,z\n"


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """Write a node and an edge table."""

    def write(nodes: str = NODES, edges: str = EDGES) -> dict[str, Any]:
        (tmp_path / "nodes.csv").write_text(nodes, encoding="utf-8")
        (tmp_path / "edges.csv").write_text(edges, encoding="utf-8")
        return {"nodes": str(tmp_path / "nodes.csv"), "edges": str(tmp_path / "edges.csv")}

    return write
