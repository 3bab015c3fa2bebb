"""PyG's sets: our graph against PyG's own class, the folder left alone, downloads, damage."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch

from g2t.errors import InputError, UsageError
from g2t.graph.bundle import Graph
from g2t.graph.csr import Csr
from g2t.graph.sources import SOURCES, Request, Source, find_source

Bring = Callable[..., tuple[Graph, list[str]]]

#: One small set of every source that PyG reads, and PyG's class and name for it.
SETS = {
    "planetoid:cora": ("Planetoid", "Cora"),
    "planetoid:CiteSeer": ("Planetoid", "CiteSeer"),
    "citationfull:dblp": ("CitationFull", "DBLP"),
    "amazon:Photo": ("Amazon", "Photo"),
    "hetero:minesweeper": ("HeterophilousGraphDataset", "Minesweeper"),
    "webkb:Cornell": ("WebKB", "Cornell"),
    "linkx:amherst41": ("LINKXDataset", "amherst41"),
}


def pyg_data(root: Path, folder: Path, family: str, name: str) -> Any:
    from torch_geometric import datasets

    shutil.copytree(root / family, folder / family)
    return getattr(datasets, family)(str(folder / family), name)[0]


def dense(graph: Graph) -> torch.Tensor:
    return graph.features.dense() if isinstance(graph.features, Csr) else graph.features


def tree(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize("source", SETS)
def test_our_graph_is_pygs_graph(bring: Bring, datasets: Path, tmp_path: Path, source: str) -> None:
    graph, _ = bring(source, root=datasets)
    data = pyg_data(datasets, tmp_path / "pyg", *SETS[source])
    assert graph.name == SETS[source][1]
    assert torch.equal(dense(graph), data.x)
    assert torch.equal(graph.labels, data.y)
    assert graph.directed == data.is_directed()
    ours = torch.stack([graph.edges.column_E.long(), graph.edges.row_E])
    theirs = data.edge_index[:, (data.edge_index[1] * graph.nodes + data.edge_index[0]).argsort()]
    assert torch.equal(ours, theirs)
    if "train_mask" in data:
        name = "public" if data.train_mask.dim() == 1 else "official:3"
        masks = [data.train_mask, data.val_mask, data.test_mask]
        columns = [mask if mask.dim() == 1 else mask[:, 3] for mask in masks]
        parts = graph.splits[name]
        for part, column in zip((parts.train, parts.val, parts.test), columns, strict=True):
            assert torch.equal(part, column.nonzero().flatten())


def test_splits_metrics_and_labels_are_the_sources_own(bring: Bring, datasets: Path) -> None:
    cora, _ = bring("planetoid:Cora", root=datasets)
    mines, _ = bring("hetero:Minesweeper", root=datasets)
    amherst, notes = bring("linkx:AMHERST41", root=datasets)
    dblp, _ = bring("citationfull:DBLP", root=datasets)
    assert (list(cora.splits), cora.metric) == (["public"], "accuracy")
    assert (list(mines.splits), mines.metric) == ([f"official:{i}" for i in range(10)], "roc_auc")
    assert (mines.task, amherst.task, dblp.task) == ("binary", "binary", "multiclass")
    assert int((amherst.labels == -1).sum()) == 203
    assert notes == ["203 nodes have no label (-1)"]
    assert dblp.splits == {}


def test_direction_and_metric_can_be_chosen(bring: Bring, datasets: Path) -> None:
    one_way, _ = bring("webkb:cornell", root=datasets)
    both, _ = bring("webkb:cornell", {"directed": False}, datasets)
    assert (one_way.directed, both.directed) == (True, False)
    full = one_way.edges.dense()
    assert torch.equal(both.edges.dense(), torch.maximum(full, full.T))
    amherst, _ = bring("linkx:amherst41", {"metric": "roc_auc"}, datasets)
    assert amherst.metric == "roc_auc"
    with pytest.raises(InputError, match="ROC-AUC needs two classes, and this graph has 5"):
        bring("webkb:cornell", {"metric": "roc_auc"}, datasets)


def test_the_root_is_never_written_to(bring: Bring, datasets: Path, tmp_path: Path) -> None:
    for family in ("WebKB", "Planetoid"):
        shutil.copytree(datasets / family, tmp_path / "root" / family)
    before = tree(tmp_path / "root")
    bring("webkb:wisconsin", root=tmp_path / "root")
    bring("planetoid:cora", root=tmp_path / "root")
    assert tree(tmp_path / "root") == before


@pytest.mark.parametrize("source", [name for name, row in SOURCES.items() if ".pyg:" in row])
def test_unknown_names_are_refused_with_the_nearest(bring: Bring, source: str) -> None:
    with pytest.raises(UsageError, match="has no dataset 'Corra'") as caught:
        bring(f"{source}:Corra")
    assert caught.value.hint


def test_a_missing_folder_file_or_kind_is_named(
    bring: Bring, datasets: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*Planetoid/Cora/raw"):
        bring("planetoid:Cora", root=tmp_path)
    shutil.copytree(datasets / "WebKB", tmp_path / "WebKB")
    raw = tmp_path / "WebKB" / "cornell" / "raw"
    (raw / "out1_graph_edges.txt").unlink()
    with pytest.raises(InputError, match=r"out1_graph_edges.txt is missing"):
        bring("webkb:cornell", root=tmp_path)
    assert not (raw / "out1_graph_edges.txt").exists()
    with pytest.raises(UsageError, match="no source is called 'planetoyd'"):
        bring("planetoyd:Cora")
    with pytest.raises(UsageError, match="is not KIND:ARGUMENT"):
        bring("planetoid")


@pytest.mark.parametrize(
    ("source", "file", "said"),
    [
        ("webkb:cornell", "WebKB/cornell/raw/out1_graph_edges.txt", "PyG cannot read"),
        ("amazon:photo", "Amazon/Photo/raw/amazon_electronics_photo.npz", "no readable .npz"),
    ],
)
def test_a_damaged_raw_file_is_one_sentence(
    bring: Bring, tmp_path: Path, datasets: Path, source: str, file: str, said: str
) -> None:
    folder = Path(file).parent
    shutil.copytree(datasets / folder, tmp_path / folder)
    (tmp_path / file).write_bytes(b"PK not what it was\n" * 3)
    with pytest.raises(InputError, match=said):
        bring(source, root=tmp_path)
    assert not list(tmp_path.glob("graph-0*"))


def test_without_a_root_pyg_downloads_once_under_home(
    bring: Bring, datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_geometric.datasets import Amazon

    calls = []

    def download(self: Any) -> None:
        calls.append(self.name)
        shutil.copy(datasets / "Amazon" / "Photo" / "raw" / self.raw_file_names, self.raw_dir)

    monkeypatch.setenv("G2T_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Amazon, "download", download)
    first, notes = bring("amazon:Photo")
    second, _ = bring("amazon:Photo")
    local, _ = bring("amazon:Photo", root=datasets)
    assert calls == ["photo"]
    assert notes[0].startswith("downloading Amazon Photo to ")
    assert first.fingerprints() == second.fingerprints() == local.fingerprints()
    kept = [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert kept == ["amazon_electronics_photo.npz"]


def test_a_failed_download_is_one_sentence_and_leaves_nothing(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_geometric.datasets import WebKB

    def download(self: Any) -> None:
        (Path(self.raw_dir) / "half").write_text("half")
        raise URLError("Name or service not known")

    monkeypatch.setenv("G2T_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(WebKB, "download", download)
    with pytest.raises(InputError, match=r"cannot download WebKB Texas: .*not known"):
        bring("webkb:texas")
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_keeps_the_contract(
    kind: str, request: pytest.FixtureRequest, bring: Bring
) -> None:
    """Common settings, files by role that exist, and the same graph from the same request."""
    here = kind in ("table", "synthetic", "folder")
    root: Path | None = None if here else request.getfixturevalue("datasets")
    arguments = {source.partition(":")[0]: source for source in SETS} | {
        "coauthor": "coauthor:CS",
        "npz": f"npz:{root}/heterophilous_npz/chameleon_filtered.npz",
        "table": "table:",
        "synthetic": "synthetic:csbm",
        "folder": f"folder:{Path(__file__).parents[2] / 'data' / 'demo'}",
    }
    karate = Path(__file__).parents[2] / "data" / "karate"
    tables = {"nodes": str(karate / "nodes.csv"), "edges": str(karate / "edges.csv")}
    values = tables if kind == "table" else {}
    source, argument = find_source(arguments[kind])
    assert isinstance(source, Source)
    assert source.settings.model_config["frozen"]
    settable = kind != "folder"  # an artefact is taken as it is
    assert {"directed", "metric"} <= set(source.settings.model_fields) or not settable
    settings = source.settings.model_validate(values)
    files = source.files(settings, Request(argument, root, lambda text: None))
    assert all(path.is_file() for path in files.values())
    graph, _ = bring(arguments[kind], values, root)
    again, _ = bring(arguments[kind], values | ({"metric": "accuracy"} if settable else {}), root)
    same = ("features", "edges", "labels", "splits", "ids")
    assert {part: graph.fingerprints()[part] for part in same} == {
        part: again.fingerprints()[part] for part in same
    }
    assert again.metric == "accuracy"
    assert graph.name
