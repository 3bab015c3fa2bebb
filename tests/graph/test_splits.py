"""Splits: GLNN's own loop as the second route, percentages, names and digests."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash

from g2t.errors import InputError, UsageError
from g2t.graph.bundle import Graph, Parts
from g2t.graph.splits import (
    Split,
    complete_name,
    hide_test_labels,
    make_split,
    read_split,
    write_split,
)
from g2t.graph.structure import largest_component

Bring = Callable[..., tuple[Graph, list[str]]]


@pytest.fixture
def graph(bring: Bring) -> Graph:
    made, _ = bring("synthetic:csbm", {"nodes": 400, "degree": 3.0, "classes": 4})
    parts = Parts(*(torch.arange(i * 10, i * 10 + 10) for i in range(3)))
    return replace(made, splits={"official:0": parts, "official:1": parts})


def glnn(labels: np.ndarray, seed: int) -> tuple[list[int], list[int], list[int]]:
    """`get_train_val_test_split` of GLNN's data_preprocess.py, written plainly."""
    random = np.random.RandomState(seed)
    left = list(range(len(labels)))

    def draw(count: int) -> list[int]:
        drawn: list[int] = []
        for label in range(int(labels.max()) + 1):
            free = [node for node in left if labels[node] == label]
            drawn += random.choice(free, count, replace=False).tolist()
        for node in drawn:
            left.remove(node)
        return sorted(drawn)

    return draw(20), draw(30), left


@pytest.mark.parametrize("seed", [0, 3])
def test_cpf_is_glnns_split_of_the_largest_component(graph: Graph, seed: int) -> None:
    split = make_split(graph, f"cpf:{seed}")
    nodes = largest_component(graph.edges)
    assert 200 < len(nodes) < graph.nodes
    expected = glnn(graph.labels[nodes].numpy(), seed)
    found = (split.parts.train, split.parts.val, split.parts.test)
    assert torch.equal(split.nodes, nodes)
    assert [part.tolist() for part in found] == [
        nodes[part].tolist() for part in map(torch.tensor, expected)
    ]


def test_cpf_leaves_unlabelled_nodes_out_of_every_part(graph: Graph) -> None:
    labels = graph.labels.clone()
    labels[::9] = -1
    parts = make_split(replace(graph, labels=labels), "cpf:0").parts
    every = torch.cat([parts.train, parts.val, parts.test])
    assert (labels[every] >= 0).all()


def test_cpf_names_a_class_that_is_too_small(graph: Graph) -> None:
    few = replace(graph, labels=graph.labels.masked_fill(graph.labels == 2, 0))
    with pytest.raises(InputError, match="class '2' has too few"):
        make_split(few, "cpf:0")


def test_random_draws_the_percentages_of_the_labelled(graph: Graph) -> None:
    parts = make_split(graph, "random:60/20/20:1").parts
    assert [len(parts.train), len(parts.val), len(parts.test)] == [240, 80, 80]
    assert len(torch.cat([parts.train, parts.val, parts.test]).unique()) == 400  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("name", "said", "error"),
    [
        ("public", "no split 'public'; it comes with: official:0", InputError),
        ("official:7", "no split 'official:7'", InputError),
        ("cpf:x", "no split is called 'cpf:x'", UsageError),
        ("cpf:99999999999", "below 2^32", UsageError),
        ("half", "no split is called 'half'", UsageError),
        ("random:60/20:1", "no split is called", UsageError),
        ("random:60/30/20:1", "100 in sum", UsageError),
    ],
)
def test_wrong_names_are_refused(
    graph: Graph, name: str, said: str, error: type[InputError] | type[UsageError]
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        make_split(graph, name)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("cpf", "cpf:3"),
        ("official", "official:1"),
        ("random:6/2/2", "random:6/2/2:3"),
        ("public", "public"),
    ],
)
def test_a_name_without_its_number_takes_the_seed(graph: Graph, name: str, full: str) -> None:
    assert complete_name(name, 3, graph) == full


def test_the_digest_names_the_node_sets_and_travels(graph: Graph, tmp_path: Path) -> None:
    first, second = make_split(graph, "cpf:0"), make_split(graph, "cpf:1")
    assert first.digest == make_split(graph, "cpf:0").digest != second.digest
    write_split(first, tmp_path / "split.safetensors")
    again = read_split(tmp_path / "split.safetensors")
    assert isinstance(again, Split)
    assert (again.name, again.digest) == ("cpf:0", first.digest)


def test_trainers_see_no_test_label(graph: Graph) -> None:
    split = make_split(graph, "cpf:0")
    hidden = hide_test_labels(graph, split).labels
    seen = torch.cat([split.parts.train, split.parts.val])
    assert torch.equal(hidden[seen], graph.labels[seen])
    assert int((hidden >= 0).sum()) == len(seen)


def ids(*parts: torch.Tensor) -> list[int]:
    return sorted(torch.cat(parts).tolist())


@pytest.mark.parametrize(
    ("name", "given", "seed"),
    [("cpf:3", 8, 3), ("random:20/20/60:5", 8, 5), ("official:1", 8, 8), ("official:1", 0, 0)],
)
def test_production_holds_out_what_glnn_does(
    graph: Graph, name: str, given: int, seed: int
) -> None:
    usual, split = make_split(graph, name), make_split(graph, name, "production", given)
    test = usual.parts.test
    # `idx_split` of GLNN's utils.py, written plainly.
    torch.manual_seed(seed)
    shuffled = torch.randperm(len(test))
    cut = int(len(test) * 0.2)
    assert split.held.tolist() == ids(test[shuffled[:cut]])
    assert split.parts.test.tolist() == ids(test[shuffled[cut:]])
    assert (split.setting, split.seed, split.name) == ("production", seed, name)
    for part in ("train", "val"):
        assert torch.equal(getattr(split.parts, part), getattr(usual.parts, part))
    assert ids(split.nodes, split.held) == usual.nodes.tolist() == split.whole.nodes.tolist()
    assert not torch.isin(split.nodes, split.held).any()


@pytest.mark.parametrize(("count", "held"), [(5, 1), (9, 1), (10, 2), (15, 3), (49, 9)])
def test_a_fifth_rounded_down_is_held_out(graph: Graph, count: int, held: int) -> None:
    parts = replace(graph.splits["official:0"], test=torch.arange(20, 20 + count))
    small = replace(graph, splits={"public": parts})
    split = make_split(small, "public", "production", 1)
    assert (len(split.held), len(split.parts.test)) == (held, count - held)


def test_nobody_can_be_held_out_of_four_test_nodes(graph: Graph) -> None:
    parts = replace(graph.splits["official:0"], test=torch.arange(20, 24))
    with pytest.raises(InputError, match="has 4 test nodes, too few"):
        make_split(replace(graph, splits={"public": parts}), "public", "production")


def test_settings_have_digests_of_their_own_and_the_usual_one_kept_its_own(
    graph: Graph, tmp_path: Path
) -> None:
    usual, split = make_split(graph, "cpf:0"), make_split(graph, "cpf:0", "production")
    sets = [usual.nodes, usual.parts.train, usual.parts.val, usual.parts.test]
    known = [xxhash.xxh3_128_hexdigest(part.numpy().tobytes()) for part in sets]
    text = json.dumps(known, separators=(",", ":"))
    assert usual.digest == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    left_out = Split(split.name, split.nodes, split.parts)
    assert len({usual.digest, split.digest, left_out.digest}) == 3
    for one in (usual, split):
        write_split(one, tmp_path / "split.safetensors")
        again = read_split(tmp_path / "split.safetensors")
        assert again.facts == one.facts
        assert torch.equal(again.held, one.held)
    assert usual.facts == {"name": "cpf:0", "digest": usual.digest}
    assert split.facts["seed"] == 0
    assert len(usual.held) == 0
    assert usual.setting == "transductive"
