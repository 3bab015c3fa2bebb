"""Answers from elsewhere that do not fit the graph: refused by name, and nothing is left."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from g2t.cache.outside import OutsideFiles
from g2t.errors import InputError, MissingExtra, UsageError
from g2t.graph.bundle import read_graph
from g2t.graph.csr import Csr
from g2t.graph.structure import induced
from tests.cache.outside import NODES, Array, answers, bring, refused, save, store


def test_parquet_without_pyarrow_names_the_extra(
    graph_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "z.parquet"
    pq.write_table(pa.table({"a": [1.0]}), path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match="needs pyarrow") as caught:
        bring(OutsideFiles(graph_path, path), tmp_path / "cache")
    assert caught.value.code == 69
    assert "g2t[parquet]" in caught.value.hint


def test_only_nodes_of_the_split_need_rows(graph_path: Path, tmp_path: Path) -> None:
    graph = read_graph(graph_path)
    alone = torch.arange(NODES - 4, NODES)
    keep = torch.arange(NODES - 4)
    edges = induced(graph.edges, keep)
    start_N = torch.cat([edges.start_N, edges.start_N[-1:].expand(4)])
    parted = replace(
        graph,
        edges=Csr(start_N, edges.column_E, None, NODES),
        labels=torch.arange(NODES) % 2,
        classes=("a", "b"),
    )
    path = store(replace(parted, labels=parted.labels), tmp_path / "graph")
    logits = np.random.default_rng(1).normal(size=(NODES, 2))
    few = OutsideFiles(
        path,
        save(tmp_path / "few.npy", logits[:-4]),
        ids=save(tmp_path / "few-ids.npy", np.arange(NODES - 4)),
    )
    with pytest.raises(InputError, match="too few labelled nodes"):
        bring(few, tmp_path / "cache", split="cpf:0")
    refused(few, tmp_path / "cache", f"no row for node '{int(alone[0])}', nor for 3 more")


def with_ids(graph_path: Path, folder: Path, ids: Any, logits: Array) -> OutsideFiles:
    where = folder / ("ids.npy" if isinstance(ids, np.ndarray) else "ids.txt")
    if isinstance(ids, np.ndarray):
        save(where, ids)
    else:
        where.write_text("\n".join(ids))
    return OutsideFiles(graph_path, save(folder / "z.npy", logits), ids=where)


def test_the_first_wrong_id_is_named(graph_path: Path, named_path: Path, tmp_path: Path) -> None:
    logits, _ = answers(read_graph(graph_path))
    ids = np.arange(NODES)

    def say(path: Path, wrong: Any, said: str, rows: int = NODES) -> None:
        refused(with_ids(path, tmp_path, wrong, logits[:rows]), tmp_path / "cache", said)

    say(graph_path, np.where(ids == 11, 500, ids), "names node '500' in row 12, which graph csbm")
    say(graph_path, np.where(ids == 11, -1, ids), "names node '-1' in row 12")
    say(graph_path, np.where(ids == 11, 4, ids), "names node '4' twice, again in row 12")
    say(graph_path, ids[:-2], "no row for node '88', nor for 1 more", NODES - 2)
    say(graph_path, ids[:-1], "has 89 ids, .* has 90 rows")
    say(graph_path, ids / 1, "holds float64 .*no ids")
    say(graph_path, ids[None], r"holds int64 \[1, 90\], no ids")
    say(graph_path, ids.astype(np.uint64) + 2**63, "an id beyond")
    texts = [f"paper {node:03d}" for node in range(NODES)]
    say(named_path, [*texts[:5], "paper 5", *texts[6:]], "names node 'paper 5' in row 6")
    say(named_path, [*texts[:5], texts[2], *texts[6:]], "names node 'paper 002' twice, again in")
    say(named_path, texts[:-1], "no row for node 'paper 089'$", NODES - 1)
    say(named_path, [*texts[:5], "", *texts[6:]], "line 6 of .* is empty")
    say(named_path, ids, "names node '0' in row 1")
    say(graph_path, ["0.0", *map(str, ids[1:])], "names node '0.0' in row 1")


def test_numbers_that_do_not_fit_are_refused(graph_path: Path, tmp_path: Path) -> None:
    graph = read_graph(graph_path)
    logits, layer = answers(graph)
    out = tmp_path / "cache"

    def say(array: Any, said: str) -> None:
        refused(OutsideFiles(graph_path, save(tmp_path / "z.npy", array)), out, said)

    def spoilt(value: float) -> Array:
        wrong = logits.copy()
        wrong[[41, 60], 1] = value
        return wrong

    for value in (np.nan, np.inf, 1e300):
        say(spoilt(value), r"z\.npy holds a number for node '41' that is missing, infinite or too")
    say(logits[:, :2], "has 2 columns, graph csbm has 3 classes")
    say(logits[:-1], "has 89 rows, graph csbm has 90 nodes")
    say(logits[:, 0], r"holds float64 \[90\], not numbers")
    say(logits.astype(complex), "complex128")
    say(logits.astype(str), "not numbers")
    say(np.zeros((NODES, 0)), "not numbers")
    say(logits.astype(object), r"no readable \.npy file")
    good = save(tmp_path / "z.npy", logits)
    layer[3, 3] = np.inf
    spoilt_layer = save(tmp_path / "h.npy", layer)
    refused(
        OutsideFiles(graph_path, good, (spoilt_layer,)), out, "h.npy holds a number for node '3"
    )
    refused(OutsideFiles(graph_path, good, (tmp_path / "no.npy",)), out, "cannot read .*no.npy")
    good.write_bytes(good.read_bytes()[:-8])
    refused(OutsideFiles(graph_path, good), out, r"no readable \.npy file")
    other = tmp_path / "z.csv"
    other.write_text("1,2,3")
    refused(OutsideFiles(graph_path, other), out, "is of no known kind")
    np.savez(tmp_path / "z.npz", logits)
    (tmp_path / "z.npz").rename(tmp_path / "zip.npy")
    refused(OutsideFiles(graph_path, tmp_path / "zip.npy"), out, "holds several arrays")


def test_parquet_that_does_not_fit_is_refused(graph_path: Path, tmp_path: Path) -> None:
    logits, _ = answers(read_graph(graph_path))
    path, out, rows = tmp_path / "z.parquet", tmp_path / "cache", logits.tolist()
    ids = pa.array(range(NODES))

    def say(columns: dict[str, Any], said: str, ids_column: str = "id") -> str:
        pq.write_table(pa.table(columns), path)
        return refused(OutsideFiles(graph_path, path), out, said, ids_column=ids_column).hint

    lists = pa.array(rows)
    hint = say({"id": ids, "z": lists}, "no column 'ids' for --ids-column", "ids")
    assert "did you mean id?" in hint
    say({"id": ids, "z": pa.array([*rows[:8], [1.0], *rows[9:]])}, "row 9 of .* has 1 numbers")
    say({"id": ids, "z": pa.array([*rows[:8], None, *rows[9:]])}, "row 9 of .* has no numbers")
    say(
        {"id": ids, "z": pa.array([*rows[:8], [1.0, None, 2.0], *rows[9:]])}, "for node '8' that is"
    )
    say({"id": ids, "z": pa.array([["a", "b", "c"]] * NODES)}, "not numbers")
    say({"id": ids, "z": lists, "more": ids}, "column 'z' of .* holds no numbers of a node")
    say({"id": ids, "a": ids, "b": ids, "name": pa.array(["x"] * NODES)}, "column 'name'")
    say({"id": ids}, "has no column of numbers")
    say({"id": pa.array([None, *range(1, NODES)]), "z": lists}, "row 1 of .* has no id")
    say({"id": pa.array([0.5] * NODES), "z": lists}, "no ids")
    index = {"__index_level_0__": ids, "a": ids, "b": ids, "c": ids}
    say({"id": ids, **index}, "column '__index_level_0__'")
    path.write_bytes(b"PAR1 no")
    refused(OutsideFiles(graph_path, path), out, "no readable Parquet file")
    npy = OutsideFiles(graph_path, save(tmp_path / "z.npy", logits))
    with pytest.raises(UsageError, match="--ids-column is for Parquet"):
        bring(npy, out, ids_column="id")
