"""The production setting: nobody sees a held-out node before eval."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from g2t.artifact import read_json
from g2t.cache.check import open_cache
from g2t.cache.format import SIGNALS, SplitEntry
from g2t.distill.train import distill
from g2t.errors import InputError, IntegrityError
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings
from g2t.graph.bundle import Graph, Parts
from g2t.graph.csr import Csr, Features, from_pairs, from_scipy
from g2t.graph.splits import make_split
from g2t.teacher.train import teach
from tests.pipeline.held import FEW, STUDENTS, g2t, made, sources, split_of, store, walk

#: As many losses as there are signals, so that every tensor of a cache is read.
THOROUGH = {
    "hop": STUDENTS["hop"],
    "landmark": {"student": "landmark", "preset": "paper", **FEW},
    "mlp": {
        "student": "mlp",
        "loss": {"codebook": {"weight": 1.0}, "reliable_edge": {"weight": 1.0}},
        **FEW,
    },
}


def scrambled(graph: Graph, held: Tensor) -> Graph:
    """Return a graph where nothing of the held-out nodes is as it was."""
    draw = torch.Generator().manual_seed(9)
    seen = torch.ones(graph.nodes, dtype=torch.bool)
    seen[held] = False
    row_E, column_E = graph.edges.row_E, graph.edges.column_E.long()
    kept = seen[row_E] & seen[column_E]
    new = torch.randint(0, graph.nodes, (3 * len(held),), generator=draw)
    ends = held.repeat(3)
    source, target = torch.cat([column_E[kept], new, ends]), torch.cat([row_E[kept], ends, new])
    labels = graph.labels.clone()
    labels[held] = (labels[held] + 1) % len(graph.classes)
    dense = graph.features.dense() if isinstance(graph.features, Csr) else graph.features.clone()
    dense[held] = 1 + 50 * torch.rand(len(held), dense.shape[1], generator=draw)
    features: Features = dense
    if isinstance(graph.features, Csr):
        features = from_scipy(csr_matrix(dense.numpy()))
    edges = from_pairs(source, target, graph.nodes)
    return replace(graph, features=features, edges=edges, labels=labels)


def sparse(graph: Graph) -> Graph:
    """Return the graph with bags of words, with values, that tell something of the class."""
    draw = torch.Generator().manual_seed(4)
    words = torch.rand(graph.nodes, 60, generator=draw)
    words[:, 20:] *= torch.rand(graph.nodes, 40, generator=draw) > 0.95
    words[:, :20] *= (torch.rand(graph.nodes, 20, generator=draw) > 0.8) & (
        torch.arange(20) % 3 == graph.labels[:, None]
    )
    words[:, 0] += 0.5
    return replace(graph, features=from_scipy(csr_matrix(words)))


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_what_held_out_nodes_are_like_changes_no_byte(tmp_path: Path, kind: str) -> None:
    graph = made(tmp_path)
    ids = torch.randperm(graph.nodes, generator=torch.Generator().manual_seed(1))
    parts = Parts(*(part.sort().values for part in (ids[:30], ids[30:60], ids[60:])))
    graph = replace(graph, splits={"public": parts})
    graph = sparse(graph) if kind == "sparse" else graph
    held = make_split(graph, "public", "production", 2).held
    store(graph, tmp_path / "one" / "graph")
    store(scrambled(graph, held), tmp_path / "two" / "graph")
    settings = ExportSettings(signals=SIGNALS, hops=2, project="svd:4", codes=8, shard_rows=50)
    one, two = (walk(tmp_path / name, "public", settings, THOROUGH) for name in ("one", "two"))
    assert (one / "graph/graph.safetensors").read_bytes() != (
        two / "graph/graph.safetensors"
    ).read_bytes()
    files = sorted(
        path.relative_to(one)
        for part in ("teacher", "cache", *THOROUGH)
        for path in (one / part).glob("*.safetensors")
    )
    assert len(files) > 25
    differ = [str(file) for file in files if (one / file).read_bytes() != (two / file).read_bytes()]
    assert differ == []
    scaling = [
        read_json(folder / "teacher/model.json")["features"]["scaling"] for folder in (one, two)
    ]
    assert scaling[0] == scaling[1]
    unseen = []
    for name in THOROUGH:
        first, second = (
            evaluate(sources(folder, name, "cache", "teacher")) for folder in (one, two)
        )
        for model in ("student", "teacher"):
            assert first[model]["val"] == second[model]["val"]
            assert first[model]["settings"]["tran"] == second[model]["settings"]["tran"]
            unseen.append([result[model]["settings"]["ind"] for result in (first, second)])
    assert sum(before != after for before, after in unseen) > len(unseen) / 2


def test_cache_and_students_know_the_observed_nodes_only(production: Path) -> None:
    split, cache = split_of(production), open_cache(production / "cache")
    assert len(split.held) == 19
    assert not torch.isin(cache.ids, split.held).any()
    assert torch.equal(cache.ids, split.nodes)
    assert len(cache.parts.test) == 96 - 19
    entry = {"name": "random:20/20/60:0", "setting": "production", "seed": 0}
    for known in (
        read_json(production / "cache/manifest.json"),
        read_json(production / "hop/model.json"),
        evaluate(sources(production, "mlp")),
    ):
        assert known["split"] == {**entry, "digest": split.digest}


def test_a_teacher_that_saw_the_held_out_nodes_is_refused(production: Path, tmp_path: Path) -> None:
    distill(production / "cache", tmp_path / "alone", {**STUDENTS["mlp"], "preset": "none"})
    values = {"split": "random:20/20/60:0", "train": {"epochs": 2}}
    teach(production / "graph", tmp_path / "teacher", values)
    with pytest.raises(IntegrityError, match=r"\(transductive\), student .* \(production\)"):
        evaluate(Sources(tmp_path / "alone", production / "graph", teacher=tmp_path / "teacher"))


def test_a_split_too_small_to_hold_out_from_is_refused(tmp_path: Path) -> None:
    graph = made(tmp_path)
    ids = torch.arange(graph.nodes)
    few = replace(graph, splits={"public": Parts(ids[:30], ids[30:60], ids[60:64])})
    store(few, tmp_path / "graph")
    words = ("teach", tmp_path / "graph", "--setting", "production", "--out", tmp_path / "teacher")
    refused = g2t(*words)
    assert refused.exit_code == 3
    assert "4 test nodes, too few to hold a fifth of them out" in refused.stderr
    assert not (tmp_path / "teacher").exists()
    five = replace(graph, splits={"public": Parts(ids[:30], ids[30:60], ids[60:65])})
    assert len(make_split(five, "public", "production").held) == 1
    with pytest.raises(InputError, match="has 4 test nodes"):
        make_split(few, "public", "production")


def test_a_manifest_names_the_setting_only_where_it_is_not_the_usual_one() -> None:
    usual = {"name": "public", "digest": "sha256:1"}
    assert SplitEntry.model_validate(usual).model_dump(mode="json") == usual
    assert SplitEntry.model_validate(usual).setting == "transductive"
    held = {**usual, "setting": "production", "seed": 3}
    assert SplitEntry.model_validate(held).model_dump(mode="json") == held
    for wrong in ({"setting": "production"}, {"seed": 3}, {"setting": "inductive", "seed": 1}):
        with pytest.raises(ValueError, match="setting"):
            SplitEntry.model_validate({**usual, **wrong})
