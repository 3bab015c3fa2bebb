"""`table:`: a user's own files, in all the shapes that they come in."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from g2t.errors import InputError
from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr
from g2t.graph.sources import Request, find_source
from tests.conftest import Bring
from tests.graph.conftest import NODES, Tables


def dense(graph: Graph) -> list[list[float]]:
    features = graph.features
    matrix = features.dense() if isinstance(features, Csr) else features
    return matrix.tolist()


def test_text_ids_and_labels_and_every_number_column(bring: Bring, tables: Tables) -> None:
    graph, notes = bring("table:", tables())
    assert graph.ids == ("x", "y", "z")
    assert graph.classes == ("blue", "red")
    assert graph.labels.tolist() == [1, 0, 1]
    assert dense(graph) == [[1, 0], [2, 0.5], [3, 0]]
    assert graph.edges.dense().tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert (graph.name, graph.directed, graph.metric, graph.splits) == (
        "nodes",
        False,
        "accuracy",
        {},
    )
    assert notes == ["features: 2 number columns: a, b"]


def test_directed_edges_duplicates_loops_and_isolated_nodes(bring: Bring, tables: Tables) -> None:
    values = tables(edges="u,v,weight\nx,y,1\nx,y,2\ny,x,1\nx,x,3\n")
    graph, notes = bring("table:", values | {"directed": True})
    assert graph.edges.dense().tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert graph.directed
    assert notes[1:] == ["1 duplicate edges merged", "1 self-loops kept"]


def test_columns_can_be_named(bring: Bring, tables: Tables) -> None:
    values = tables("name,key,kind,n\nalice,7,p,1\nbob,8,q,2\n", "when,to,from\n2020,7,8\n")
    named = {
        "id_column": "key",
        "label_column": "kind",
        "source_column": "from",
        "target_column": "to",
        "feature_columns": "n",
        "directed": True,
    }
    graph, _ = bring("table:", values | named)
    assert (graph.ids, graph.classes, dense(graph)) == (("7", "8"), ("p", "q"), [[1], [2]])
    assert graph.edges.dense().tolist() == [[0, 1], [0, 0]]


def test_whole_number_labels_sort_by_value_and_missing_ones_are_unknown(
    bring: Bring, tables: Tables
) -> None:
    nodes = "id,y,a\n0,10,1\n1,9,1\n2,,1\n3,-1,1\n4,9.0,1\n"
    graph, notes = bring("table:", tables(nodes, "s,t\n0,1\n2,3\n"))
    assert graph.classes == ("9", "10")
    assert graph.labels.tolist() == [1, 0, -1, -1, 0]
    assert graph.ids is None
    assert "2 nodes have no label (-1)" in notes


def test_byte_order_mark_quotes_blank_lines_and_spaces(bring: Bring, tables: Tables) -> None:
    nodes = '\ufeffid,label,a\r\n"x, 1", red,1\r\n\r\n"y ""2""", blue,2\r\n'
    graph, _ = bring("table:", tables(nodes, 's,t\r\n"x, 1","y ""2"""\r\n'))
    assert graph.ids == ("x, 1", 'y "2"')
    assert graph.classes == ("blue", "red")


def test_lines_are_counted_through_blank_and_broken_ones(bring: Bring, tables: Tables) -> None:
    many = "x,y\n" * 1000
    with pytest.raises(InputError, match=r"line 1006 of .* unknown node 'q'"):
        bring(
            "table:",
            tables(NODES + '"two\nlines",red,1,1\n', f's,t\n\n"two\nlines",y\n{many}\nq,x\n'),
        )


@pytest.mark.parametrize(
    ("policy", "ids", "note"),
    [
        ("add", ("x", "y", "z", "w", "q"), "2 nodes that only edges name are added"),
        ("drop", ("x", "y", "z"), "2 edges with an end that no node row names are left out"),
    ],
)
def test_ids_that_appear_only_in_edges(
    bring: Bring, tables: Tables, policy: str, ids: tuple[str, ...], note: str
) -> None:
    values = tables(edges="s,t\nx,y\nw,q\nx,w\n")
    with pytest.raises(InputError, match=r"line 3 of .* leads to an unknown node 'w'") as caught:
        bring("table:", values)
    assert "--unknown-nodes" in caught.value.hint
    graph, notes = bring("table:", values | {"unknown_nodes": policy})
    assert graph.ids == ids
    assert any(text.startswith(note) for text in notes)
    added = len(ids) - 3
    assert graph.labels.tolist() == [1, 0, 1] + [-1] * added
    assert dense(graph)[3:] == [[0, 0]] * added


def test_added_nodes_have_an_empty_sparse_row(bring: Bring, tables: Tables, tmp_path: Path) -> None:
    sp.save_npz(tmp_path / "f.npz", sp.eye(3, 9, format="csr"))
    values = tables(edges="s,t\nx,w\n") | {"features": str(tmp_path / "f.npz")}
    graph, _ = bring("table:", values | {"unknown_nodes": "add"})
    assert isinstance(graph.features, Csr)
    assert graph.features.dense().tolist() == [*np.eye(3, 9).tolist(), [0] * 9]


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".json"])
def test_features_of_their_own_replace_the_columns(
    bring: Bring, tables: Tables, tmp_path: Path, suffix: str
) -> None:
    matrix, path = np.eye(3, 5, 1), tmp_path / f"f{suffix}"
    if suffix == ".npz":
        sp.save_npz(path, sp.csc_matrix(matrix))
    elif suffix == ".npy":
        np.save(path, matrix)
    else:
        path.write_text(json.dumps({"z": [3], "x": [1, 1], "y": [2]}))
    graph, notes = bring("table:", tables() | {"features": str(path)})
    width = 4 if suffix == ".json" else 5
    assert dense(graph) == matrix[:, :width].tolist()
    assert notes == []


def test_parquet_equals_csv(bring: Bring, tables: Tables, tmp_path: Path) -> None:
    csv = tables("id,label,a,b\n5,1,1,0\n6,,2,0.5\n7,0,3,0\n", "s,t\n5,6\n6,7\n")
    # Floats where a gap has been, as pandas writes them.
    nodes = {"id": [5, 6, 7], "label": [1.0, float("nan"), 0.0], "a": [1, 2, 3], "b": [0.0, 0.5, 0]}
    pq.write_table(pa.table(nodes), tmp_path / "nodes.parquet")
    pq.write_table(pa.table({"s": [5.0, 6.0], "t": [6, 7]}), tmp_path / "edges.parquet")
    parquet = {name: str(tmp_path / f"{name}.parquet") for name in ("nodes", "edges")}
    first, second = bring("table:", csv)[0], bring("table:", parquet)[0]
    assert first.fingerprints() == second.fingerprints()
    assert first.ids == ("5", "6", "7")
    assert first.labels.tolist() == [1, -1, 0]


@given(
    pairs=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=30),
    directed=st.booleans(),
)
def test_any_edges_come_out_as_their_adjacency(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], directed: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    rows = [f"n{i},{i % 2},1" for i in range(8)]
    (folder / "n.csv").write_text("id,label,a\n" + "\n".join(rows) + "\n")
    (folder / "e.csv").write_text("s,t\n" + "".join(f"n{u},n{v}\n" for u, v in pairs))
    source, argument = find_source("table:")
    settings = source.settings.model_validate(
        {"nodes": str(folder / "n.csv"), "edges": str(folder / "e.csv"), "directed": directed}
    )
    graph = source.read(settings, Request(argument, None, lambda text: None))
    expected = torch.zeros(8, 8)
    for u, v in pairs:
        expected[v, u] = 1
        if not directed:
            expected[u, v] = 1
    assert torch.equal(graph.edges.dense(), expected)


def test_musae_github_is_read_as_its_authors_counted(bring: Bring, datasets: Path) -> None:
    folder = datasets / "musae_github"
    files = {"nodes": "target.csv", "edges": "edges.csv", "features": "features.json"}
    values = {role: str(folder / f"musae_git_{name}") for role, name in files.items()}
    graph, notes = bring("table:", values | {"id_column": "id", "label_column": "ml_target"})
    assert graph.nodes == 37_700
    assert len(graph.edges.column_E) == 2 * 289_003
    assert graph.labels.bincount().tolist() == [27_961, 9_739]
    assert isinstance(graph.features, Csr)
    assert graph.features.shape == (37_700, 4_005)
    assert (graph.ids, notes) == (None, [])
