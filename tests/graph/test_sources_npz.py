"""`npz:FILE`: what it reads, and every way to be wrong."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from g2t.errors import InputError
from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr
from g2t.graph.importing import import_graph
from g2t.graph.sources import Request
from g2t.runtime import Silent

Bring = Callable[..., tuple[Graph, list[str]]]


def arrays() -> dict[str, Any]:
    return {
        "node_features": np.eye(5, 4, dtype=np.float32),
        "node_labels": np.array([0, 1, 1, 0, -1]),
        "edges": np.array([[0, 1], [1, 0], [1, 2], [1, 2], [3, 3]]),
    }


def masks(nodes: int, splits: int) -> dict[str, Any]:
    which = np.arange(nodes) % 3
    return {
        f"{part}_masks": np.tile(which == i, (splits, 1))
        for i, part in enumerate(("train", "val", "test"))
    }


def save(folder: Path, content: dict[str, Any]) -> str:
    np.savez(folder / "small.npz", **content)
    return f"npz:{folder / 'small.npz'}"


def test_edges_are_cleaned_and_what_was_done_is_said(bring: Bring, tmp_path: Path) -> None:
    graph, notes = bring(save(tmp_path, arrays()))
    expected = torch.zeros(5, 5)
    for u, v in ((0, 1), (1, 2), (3, 3)):
        expected[u, v] = expected[v, u] = 1
    assert torch.equal(graph.edges.dense(), expected)
    assert notes == [
        "1 nodes have no label (-1)",
        "2 duplicate edges merged (a-b and b-a are one edge)",
        "1 self-loops kept",
    ]
    assert (graph.name, graph.directed, graph.splits) == ("small", False, {})
    assert isinstance(graph.features, Csr)
    assert graph.features.dense().tolist() == np.eye(5, 4).tolist()


def test_directed_edges_stay_one_way(bring: Bring, tmp_path: Path) -> None:
    graph, notes = bring(save(tmp_path, arrays()), {"directed": True})
    # Row v lists the sources u of edges u -> v; node 4 is isolated.
    rows = torch.tensor_split(graph.edges.column_E, graph.edges.start_N[1:-1])
    assert [row.tolist() for row in rows] == [[1], [0], [1], [3], []]
    assert graph.directed
    assert "1 duplicate edges merged" in notes


def test_several_masks_become_splits_without_unlabelled_or_empty_ones(
    bring: Bring, tmp_path: Path
) -> None:
    content = arrays() | masks(5, 3)
    content["train_masks"][1] = False
    graph, notes = bring(save(tmp_path, content))
    assert list(graph.splits) == ["official:0", "official:2"]
    parts = graph.splits["official:0"]
    assert [part.tolist() for part in (parts.train, parts.val, parts.test)] == [[0, 3], [1], [2]]
    assert "1 nodes without a label are left out of split official:0" in notes


def test_binary_labels_take_roc_auc_when_asked(bring: Bring, tmp_path: Path) -> None:
    graph, _ = bring(save(tmp_path, arrays()), {"metric": "roc_auc"})
    assert (graph.task, graph.metric) == ("binary", "roc_auc")


def test_the_real_file_is_read_whole(bring: Bring, datasets: Path) -> None:
    graph, _ = bring(f"npz:{datasets / 'heterophilous_npz' / 'chameleon_filtered.npz'}")
    with np.load(datasets / "heterophilous_npz" / "chameleon_filtered.npz") as raw:
        dense = np.zeros((890, 890))
        dense[raw["edges"][:, 0], raw["edges"][:, 1]] = 1
        assert np.array_equal(graph.edges.dense().numpy(), np.maximum(dense, dense.T))
        assert isinstance(graph.features, Csr)
        assert np.array_equal(graph.features.dense().numpy(), raw["node_features"])
    assert len(graph.splits) == 10


class Trap:
    """A pickle that would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"edges": None}, "has no array 'edges'; it has node_features, node_labels"),
    ({"edges": np.zeros((0, 2), int)}, "has no edges"),
    ({"edges": np.zeros((2, 3), int)}, r"edges of .* is int64 \[2, 3\]"),
    ({"edges": np.array([[0.5, 1]])}, "edges of .* is float64"),
    ({"edges": np.array([[0, 1], [2, 5]])}, "row 1 of edges in .* leads to an unknown node 5"),
    ({"edges": np.array([[-1, 1]])}, "row 0 of edges in .* leads to an unknown node -1"),
    ({"node_labels": np.array([0, 1, 1, 0, 3])}, "label 3 of node 4 in .* is out of range"),
    ({"node_labels": np.array([0, 1, 1, 0, -2])}, "label -2 of node 4 in .* is out of range"),
    ({"node_labels": np.array([0, 2, 2, 0, 0])}, "label 2 of node 1 in .* is out of range"),
    ({"node_labels": np.array([0, 1, 1, 0.5, 0])}, "not whole numbers"),
    ({"node_labels": np.array([-1] * 5)}, "no node of .* has a label"),
    ({"node_labels": np.array([0, 1])}, "5 rows of node_features and 2 labels"),
    ({"node_labels": np.array([], int)}, "not whole numbers"),
    ({"node_features": np.ones(5)}, "not numbers"),
    ({"node_features": np.array([["a"] * 2] * 5)}, "not numbers"),
    ({"node_features": np.diag([1, 1, np.nan, 1, 1])}, "row 2, column 2 is NaN"),
    ({"node_features": np.full((5, 2), 1e300)}, "row 0, column 0 is NaN or infinite"),
    ({"train_masks": np.ones((2, 5), bool)}, "has 'train_masks' but no 'val_masks'"),
    (masks(4, 2), "the masks of .* are not all"),
    ({k: v.astype(float) for k, v in masks(5, 2).items()}, "are not boolean"),
    ({k: np.ones((2, 5), bool) for k in masks(5, 2)}, "into two of its parts"),
]


@pytest.mark.parametrize(("change", "said"), WRONG)
def test_wrong_arrays_are_refused_and_nothing_is_left(
    bring: Bring, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    content = {name: array for name, array in (arrays() | change).items() if array is not None}
    with pytest.raises(InputError, match=said):
        bring(save(tmp_path, content))
    assert [path.name for path in tmp_path.iterdir()] == ["small.npz"]


def test_a_pickle_is_never_loaded(bring: Bring, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for name in ("edges", "node_features", "node_labels"):
        trapped = np.array([Trap(mark)], dtype=object)
        with pytest.raises(InputError, match=f"array '{name}' of .* cannot be read: Object arrays"):
            bring(save(tmp_path, arrays() | {name: trapped}))
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(InputError, match=r"no readable .npz"):
        bring(f"npz:{tmp_path / 'p.npz'}")
    assert not mark.exists()


def test_other_files_are_refused(bring: Bring, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    save(tmp_path, arrays())
    whole = (tmp_path / "small.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[whole.index(b"NUMPY") + 150] ^= 255
    (tmp_path / "flipped.npz").write_bytes(bytes(flipped))
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name, said in {
        "a.npy": "holds a single array",
        "cut.npz": "no readable .npz",
        "flipped.npz": "cannot be read",
        "empty.npz": "no readable .npz",
        "folder": "cannot read .*: Is a directory",
        "nowhere.npz": "there is no file",
    }.items():
        with pytest.raises(InputError, match=said):
            bring(f"npz:{tmp_path / name}")


def test_a_file_may_be_named_below_the_root(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies here comes first; the identity of an import does not depend on where it lay."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    save(root / "sub", arrays())
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    note = Request("sub/small.npz", root, lambda text: None)
    assert note.file("sub/small.npz") == root / "sub" / "small.npz"
    assert note.file("none.npz") == Path("none.npz")
    source = "npz:sub/small.npz"
    below = import_graph(source, work / "below", {}, root, Silent(), False)
    (work / "sub").mkdir()
    save(work / "sub", arrays())
    assert note.file("sub/small.npz") == Path("sub/small.npz")
    here = import_graph(source, work / "here", {}, root, Silent(), False)
    direct = import_graph(
        f"npz:{root / 'sub' / 'small.npz'}", work / "d", {}, None, Silent(), False
    )
    assert below.digest == here.digest == direct.digest
    assert below.config == here.config == direct.config
