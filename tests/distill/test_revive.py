"""Dead landmarks: who is dead, where they go, and that a run goes on to the same bytes."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from g2t.config import look_up
from g2t.distill.revive import revive
from g2t.distill.train import distill
from g2t.errors import UsageError
from g2t.export import ExportSettings, export
from g2t.graph.csr import Csr, from_pairs
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.student import STUDENTS
from g2t.student.base import Student
from g2t.student.block import Block
from g2t.teacher.train import teach

with_landmarks = pytest.mark.parametrize("name", ["landmark", "hop"])
NODES = 30


@pytest.mark.parametrize("own_tokens", [False, True])
def test_usage_is_what_attention_gives_to_each_landmark(own_tokens: bool) -> None:
    torch.manual_seed(0)
    block = Block(12, 3, 5, 0.0, own_tokens)
    tokens_BTD = 2 * torch.randn(7, 4, 12)
    normed_BTD = block.norm_tokens(tokens_BTD)
    seen = [block.norm_landmarks(block.landmarks).expand(7, -1, -1)]
    if own_tokens:
        seen.insert(0, normed_BTD)
    query = block._split(block.query(normed_BTD))
    key = block._split(block.key(torch.cat(seen, 1)))
    # Values that are one-hot make attention return its weights.
    one_hot = torch.eye(key.shape[2]).expand(*key.shape[:2], -1, -1)
    given = F.scaled_dot_product_attention(query, key, one_hot).sum((0, 1, 2))[-5:]
    torch.testing.assert_close(block.usage(tokens_BTD), given / given.sum())


def edges() -> Csr:
    one = torch.arange(NODES - 1)
    return from_pairs(torch.cat([one, one + 1]), torch.cat([one + 1, one]), NODES)


def blocks_of(student: Student) -> list[Block]:
    return [block for block in student.blocks if isinstance(block, Block)]


@with_landmarks
@torch.no_grad()
def test_only_dead_landmarks_move_and_the_averaged_ones_follow(name: str) -> None:
    torch.manual_seed(0)
    kind = look_up(STUDENTS, name, "student")
    settings = kind.Settings.model_validate({"hidden": 16, "landmarks": 6, "blocks": 2})
    student: Student = kind(4, False, 3, settings)
    features = torch.randn(NODES, 4)
    student.fit(features, edges(), None)
    inputs = student.prepare(features, edges(), None)
    averaged = copy.deepcopy(student)
    first, second = blocks_of(student)
    # All queries of the first block are one vector, to which landmark 2 points and 4 does not.
    first.query.weight.zero_()
    first.query.bias.copy_(20 * first.key(first.norm_landmarks(first.landmarks))[2])
    aligned_M = first.usage(torch.randn(3, 1, 16)) * 6
    dead = aligned_M < 0.1
    assert 0 < int(dead.sum()) < 6
    before = [block.landmarks.clone() for block in (first, second)]
    moved = revive(student, averaged, inputs, 0.1, torch.Generator().manual_seed(1))
    assert moved == int(dead.sum())
    assert torch.equal(first.landmarks[~dead], before[0][~dead])
    assert torch.equal(second.landmarks, before[1])
    # What moved stands on tokens of nodes, at the scale of a layer norm.
    tokens_SD = F.layer_norm(student.embed(inputs, torch.arange(NODES)).flatten(0, 1), (16,))
    near_M = (first.landmarks[dead][:, None] - tokens_SD).norm(dim=2).amin(1)
    assert float(near_M.max()) < 1e-4
    assert torch.equal(blocks_of(averaged)[0].landmarks[dead], first.landmarks[dead])
    assert torch.equal(blocks_of(averaged)[1].landmarks, before[1])


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("revive")
    made = {"nodes": 120, "degree": 5.0, "classes": 3, "features": 6, "noise": 1.5}
    graph = import_graph("synthetic:csbm", folder / "graph", made, None, Silent(), False).path
    values = {"split": "random:20/20/60:0", "train": {"epochs": 5}, "model": {"hidden": 8}}
    teach(graph, folder / "teacher", values)
    cache = export(folder / "teacher", graph, folder / "cache", ExportSettings())
    assert cache is not None
    return cache.path


def values_of(name: str, share: float, epochs: int = 8) -> dict[str, Any]:
    model, train = {"hidden": 16, "blocks": 1}, {"epochs": epochs, "revive": share}
    return {"student": name, "model": model, "train": train}


def weights(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


@with_landmarks
def test_the_revived_are_counted_in_the_first_half_and_none_costs_nothing(
    cache_path: Path, tmp_path: Path, name: str
) -> None:
    out = distill(cache_path, tmp_path / "many", values_of(name, 0.95)).path
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert ["revived" in line for line in lines] == [True] * 4 + [False] * 4
    assert all(0 < line["revived"] < 32 for line in lines[:4])
    few, none = (
        distill(cache_path, tmp_path / f"{name}{share}", values_of(name, share)).path
        for share in (0.001, 0.0)
    )
    assert weights(few) == weights(none) != weights(out)


class Crash(Silent):
    """A progress that ends the run after its third epoch, as a crash would."""

    def update(self, task: str, done: int, total: int, values: Any) -> None:
        if done == 3:
            raise RuntimeError("crash")


@with_landmarks
def test_a_crashed_run_revives_the_same_landmarks(
    cache_path: Path, tmp_path: Path, name: str
) -> None:
    values = values_of(name, 0.95)
    values["train"]["checkpoint_seconds"] = 0
    whole = distill(cache_path, tmp_path / "whole", values).path
    with pytest.raises(RuntimeError, match="crash"):
        distill(cache_path, tmp_path / "s", values, progress=Crash())
    again = distill(cache_path, tmp_path / "s", values).path
    assert weights(again) == weights(whole)
    assert (again / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_student_without_landmarks_has_none_to_revive(cache_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown setting train\.revive"):
        distill(cache_path, tmp_path / "s", {"student": "mlp", "train": {"revive": 0.1}})
