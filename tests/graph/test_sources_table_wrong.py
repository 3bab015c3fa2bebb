"""`table:`: every way in which a user's own files are wrong, and what is said of it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from g2t.errors import InputError, MissingExtra, UsageError
from tests.conftest import Bring
from tests.graph.conftest import NODES, Tables


def test_parquet_without_pyarrow_names_the_extra(
    bring: Bring, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"id": [1], "label": [1]}), tmp_path / "n.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match="needs pyarrow") as caught:
        bring("table:", tables() | {"nodes": str(tmp_path / "n.parquet")})
    assert caught.value.hint == "type: pip install 'g2t[parquet]'"


WRONG_TABLES: list[tuple[dict[str, str], dict[str, Any], str]] = [
    ({"nodes": ""}, {}, "nodes.csv is empty"),
    ({"edges": ""}, {}, "edges.csv is empty"),
    ({"nodes": "id,label,a\n"}, {}, "nodes.csv has no rows"),
    ({"edges": "s,t\n"}, {}, "edges.csv has no edges"),
    ({"edges": "s\nx\n"}, {}, "has one column"),
    ({"edges": "0,1\n1,2\n"}, {}, "has no header: its first line is 0,1"),
    ({"edges": "s,s\nx,y\n"}, {}, "two columns called 's'"),
    ({"edges": "s,t\nx,y\ny\n"}, {}, "line 3 of .*edges.csv has 1 cells, the header has 2"),
    ({"edges": "s,t\nx,\n"}, {}, "line 2 of .* is an edge without one of its ends"),
    ({"edges": "s,t\nx,q\n"}, {"unknown_nodes": "drop"}, "has no edges"),
    ({"nodes": NODES + "x,red,1,1\n"}, {}, "id 'x' stands twice in .*, again in line 5"),
    ({"nodes": NODES + ",red,1,1\n"}, {}, "line 5 of .* has no 'id'"),
    ({"nodes": NODES + "w,red,1\n"}, {}, "line 5 of .* has 3 cells, the header has 4"),
    ({"nodes": NODES + "w,red,nan,1\n"}, {}, "line 5 .* an empty or NaN cell in .* 'a'"),
    ({"nodes": NODES + "w,red,1,\n"}, {}, "line 5 .* an empty or NaN cell in .* 'b'"),
    ({"nodes": NODES + "w,red,1e300,1\n"}, {}, "line 5 .* 'a', not a finite number"),
    ({"nodes": NODES + "w,red,1,?\n"}, {"feature_columns": "b"}, "line 5 .* has '\\?' in .* 'b'"),
    ({}, {"feature_columns": "a,c"}, "no column 'c' for --feature-columns"),
    ({}, {"feature_columns": "a,label"}, "column 'label' is the label and cannot be a feature"),
    ({}, {"label_column": "lable"}, "no column 'lable' for --label-column"),
    ({}, {"id_column": "ID"}, "no column 'ID' for --id-column"),
    ({}, {"source_column": "from"}, "no column 'from' for --source-column"),
    ({"nodes": "id,kind,a\nx,red,1\n"}, {}, "has no column 'label' or 'y'"),
    ({"nodes": "id,label,a\nx,,1\ny,,1\nz,,1\n"}, {}, "no node of .* has a label"),
    ({"nodes": "id,label,t\nx,r,u\ny,r,v\nz,r,w\n"}, {}, "no column of numbers"),
    ({}, {"metric": "roc_auc", "label_column": "a"}, "ROC-AUC needs two classes"),
]


@pytest.mark.parametrize(("content", "values", "said"), WRONG_TABLES)
def test_wrong_tables_are_refused_and_nothing_is_left(
    bring: Bring,
    tables: Tables,
    tmp_path: Path,
    content: dict[str, str],
    values: dict[str, Any],
    said: str,
) -> None:
    with pytest.raises(InputError, match=said):
        bring("table:", tables(**content) | values)
    assert {path.name for path in tmp_path.iterdir()} == {"nodes.csv", "edges.csv"}


@pytest.mark.parametrize(
    ("source", "values", "said"),
    [
        ("table:nodes.csv", {}, "names a file after the colon"),
        ("table:", {"unknown_nodes": "keep"}, "setting unknown_nodes"),
        ("table:", {"nodez": "n.csv"}, "unknown setting nodez"),
        ("table:", {"nodes": None}, "setting nodes"),
        ("table:", {"features": "f.npy", "feature_columns": "a"}, "not from both"),
        ("table:", {"source_column": "target", "target_column": "target"}, "both ends"),
    ],
)
def test_wrong_settings_are_refused(
    bring: Bring, tables: Tables, source: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        bring(source, tables() | values)


def test_a_misspelt_column_names_the_nearest(bring: Bring, tables: Tables) -> None:
    with pytest.raises(InputError) as caught:
        bring("table:", tables() | {"label_column": "lable"})
    assert caught.value.hint == "did you mean label?"


def wrong_features(folder: Path) -> dict[str, str]:
    """Write every wrong file of features; return what is said of each."""
    np.save(folder / "rows.npy", np.ones((2, 2)))
    np.save(folder / "flat.npy", np.ones(3))
    np.save(folder / "object.npy", np.array([{}, {}, {}], dtype=object))
    np.save(folder / "nan.npy", np.full((3, 2), np.nan))
    np.savez(folder / "plain.npz", a=np.ones(3))
    sp.save_npz(folder / "rows.npz", sp.eye(4, 9, format="csr"))
    broken = sp.eye(3, 9, format="csr")
    broken.indices[1] = 99
    sp.save_npz(folder / "broken.npz", broken)
    sp.save_npz(folder / "nan.npz", sp.csr_matrix(np.diag([1, np.nan, 1])))
    texts = {
        "list.json": "[1]",
        "cut.json": '{"x": [1',
        "stranger.json": '{"x": [1], "q": [1]}',
        "word.json": '{"x": ["1"]}',
        "true.json": '{"x": [true]}',
        "number.json": '{"x": 1}',
        "negative.json": '{"x": [-1]}',
        "huge.json": '{"x": [9999999999]}',
        "none.json": '{"x": []}',
        "f.txt": "1",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {
        "rows.npy": "has 2 rows, the node table has 3",
        "flat.npy": r"float64 \[3\], not numbers",
        "object.npy": "no readable .npy file: Object arrays",
        "nan.npy": "row 0, column 0 is NaN",
        "plain.npz": "is no sparse matrix",
        "rows.npz": "has 4 rows, the node table has 3",
        "broken.npz": "is no sparse matrix",
        "nan.npz": "row 1, column 1 is NaN",
        "list.json": "no JSON object",
        "cut.json": "no readable JSON",
        "stranger.json": "features of an unknown node 'q'",
        "word.json": "features of node 'x' in .* are no list of whole numbers",
        "true.json": "no list of whole numbers",
        "number.json": "no list of whole numbers",
        "negative.json": "index outside",
        "huge.json": "index outside",
        "none.json": "gives no node a feature",
        "f.txt": "no known kind of features",
        "nowhere.npy": "there is no file",
    }


def test_wrong_features_are_refused(bring: Bring, tables: Tables, tmp_path: Path) -> None:
    values = tables()
    for name, said in wrong_features(tmp_path).items():
        with pytest.raises(InputError, match=said):
            bring("table:", values | {"features": str(tmp_path / name)})


def test_unreadable_files_are_refused(bring: Bring, tables: Tables, tmp_path: Path) -> None:
    values = tables()
    (tmp_path / "latin.csv").write_bytes("id,label\nä,b\n".encode("latin-1"))
    (tmp_path / "long.csv").write_text("id,label\n" + "x" * 200_000 + ",b\n")
    (tmp_path / "fake.parquet").write_text("PAR1 not really")
    for name, said in {
        "latin.csv": "is not UTF-8 text",
        "long.csv": "line 2 of .* is no CSV",
        "fake.parquet": "no readable Parquet",
        "nowhere.csv": "there is no file",
        "": "cannot read .*: Is a directory",
    }.items():
        with pytest.raises(InputError, match=said):
            bring("table:", values | {"nodes": str(tmp_path / name)})
