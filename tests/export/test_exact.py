"""The export says what the whole network says: every teacher, any features, any cut of the work."""

from pathlib import Path
from typing import Any

import pytest
import torch

from g2t.export import layer, walk
from g2t.graph.bundle import read_graph
from g2t.graph.structure import largest_component
from tests.export.graphs import (
    DESCRIBED,
    EVERYTHING,
    PLAIN,
    ROWS,
    VARIATIONS,
    Kind,
    Teach,
    check_close,
    digests,
    features_of,
    graph_of,
    store,
    write_teacher,
)

EXACT, SHORT = 1e-5, 1e-3

every_teacher = pytest.mark.parametrize("name", DESCRIBED)

CASES: list[tuple[str, Kind]] = [
    ("plain", "dense"),
    ("plain", "sparse"),
    ("everything", "dense"),
    ("everything", "sparse"),
    ("layer-norm", "words"),
    ("max", "dense"),
    ("sum", "words"),
    ("cat", "sparse"),
]


@every_teacher
@pytest.mark.parametrize(("variation", "kind"), CASES)
@pytest.mark.parametrize(("precision", "most"), [("fp32", EXACT), ("fp16", SHORT)])
def test_layers_and_logits_are_those_of_the_full_forward(
    teach: Teach, tmp_path: Path, name: str, variation: str, kind: Kind, precision: str, most: float
) -> None:
    taught = teach(name, kind, **VARIATIONS[variation])
    cache = taught.export(tmp_path / "c", dtype=precision, precision=precision)
    check_close(cache, taught, most)


@every_teacher
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_rows_of_a_split_are_a_graph_of_their_own(
    teach: Teach, tmp_path: Path, name: str, precision: str
) -> None:
    taught = teach(name, split="cpf:3", **EVERYTHING)
    cache = taught.export(tmp_path / "c", precision=precision, shard_rows=64)
    assert cache.rows == ROWS * 3 // 4
    assert torch.equal(cache.ids, largest_component(read_graph(taught.graph).edges))
    assert not torch.equal(cache.ids, torch.arange(cache.rows))
    check_close(cache, taught, EXACT if precision == "fp32" else SHORT)


@every_teacher
@pytest.mark.parametrize("layers", [1, 2])
def test_a_head_of_its_own_or_none_and_one_layer(
    teach: Teach, tmp_path: Path, name: str, layers: int
) -> None:
    for post in (False, True):
        taught = teach(name, **{**PLAIN, "layers": layers, "post": post})
        assert len(taught.trace.layers) == layers - 1 + post
        check_close(taught.export(tmp_path / f"{post}"), taught, EXACT)


@every_teacher
def test_three_nodes_in_one_short_shard(tmp_path: Path, name: str) -> None:
    pairs = torch.tensor([[0, 1, 1], [1, 0, 1]])  # node 2 stands alone
    graph = store(graph_of(pairs, features_of(3, "dense")), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", name, **PLAIN)
    check_close(taught.export(tmp_path / "c", shard_rows=1000), taught, EXACT)


#: How the work is cut; a block has 64 rows at least, or one where its edges are many.
CUTS: dict[str, dict[str, int]] = {
    "rows": {"BLOCK_ROWS": 1},
    "edges": {"BLOCK_EDGES": 5},
    "bytes": {"BLOCK_BYTES": 80 * 4 * 40},
    "both": {"BLOCK_ROWS": 71, "BLOCK_EDGES": 301},
}


@every_teacher
@pytest.mark.parametrize("cut", CUTS)
def test_blocks_do_not_matter(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cut: str
) -> None:
    taught = teach(name, "sparse", **(PLAIN if cut == "edges" else EVERYTHING))
    for key, value in CUTS[cut].items():
        monkeypatch.setattr(walk, key, value)
    check_close(taught.export(tmp_path / "c"), taught, EXACT)
    if cut == "both":
        check_close(taught.export(tmp_path / "s", precision="fp16"), taught, SHORT)


@every_teacher
@pytest.mark.parametrize("shard_rows", [41, 331, 332])
def test_shards_do_not_matter(teach: Teach, tmp_path: Path, name: str, shard_rows: int) -> None:
    taught = teach(name, "sparse", **(PLAIN if shard_rows == 41 else EVERYTHING))
    cache = taught.export(tmp_path / "c", shard_rows=shard_rows)
    assert len(cache.manifest.shards_of("teacher-logits")) == -(-ROWS // shard_rows)
    check_close(cache, taught, EXACT)


@every_teacher
@pytest.mark.parametrize("panel", [1, 7, 1000])
def test_the_width_of_panels_does_not_matter(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, panel: int
) -> None:
    monkeypatch.setattr(layer, "PANEL", panel)
    taught = teach(name, **EVERYTHING)
    check_close(taught.export(tmp_path / "c", shard_rows=100), taught, EXACT)


@every_teacher
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_how_many_panels_are_held_changes_no_byte(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    monkeypatch.setattr(layer, "PANEL", 12)
    taught = teach(name, **EVERYTHING)
    asked: dict[str, Any] = {
        "shard_rows": 131,
        "precision": precision,
        "dtype": precision,
        "hops": 1,
    }
    asked |= {"signals": ("layers", "logits", "edge_scores")}
    groups: list[int] = []
    found = []
    for most in (1, 2, 1000):

        def held(budget: int, panel: int, panels: int, other: int, most: int = most) -> int:
            groups.append(-(-panels // most))
            return min(most, panels)

        with monkeypatch.context() as patch:
            patch.setattr(walk, "panels_held", held)
            found.append(digests(taught.export(tmp_path / str(most), **asked).artifact))
    assert groups.count(1) >= 5  # layers, a token, edge scores: all at once
    assert max(groups) == (8 if name == "gat" else 4)
    assert found[0] == found[1] == found[2]
