"""Students that remember: served as they were trained, exported where the memory goes along."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from g2t import load_student
from g2t.errors import IntegrityError
from g2t.graph.csr import Csr, Features, compact
from g2t.network import FACTS, WEIGHTS
from g2t.serve.features import as_edges
from g2t.stage import Stage
from g2t.student.base import predict
from g2t.student.memory import Memory
from g2t.student.normalize import to_length
from g2t.tensors import load_tensors, save_tensors
from g2t_cli.app import app
from tests.serve.conftest import Make

WIDTH = 9
ENDS = np.array([[0, 1, 2, 3], [1, 2, 3, 0]])  # nodes from 4 on have no edge


def g2t(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def rows_of(count: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, WIDTH, generator=draw)
    return rows * (torch.rand(count, WIDTH, generator=draw) < 0.15)


def features_of(kind: str, rows: torch.Tensor) -> Features:
    features = compact(rows) if kind == "csr" else rows
    assert isinstance(features, Csr) == (kind == "csr")
    return features


def remembered(kind: str, task: Any = "multiclass") -> Memory:
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(2))
    return Memory(to_length(features_of(kind, rows_of(7, 1)), 1.0), logits, 2, 0.5, task)


def made(make: Make, student: str, kind: str, task: str = "multiclass") -> Path:
    memory = remembered(kind, task)
    return make(student, kind=kind, width=WIDTH, task=task, memory=memory)


@pytest.mark.parametrize("student", ["landmark", "mlp", "hop"])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_what_is_served_is_what_the_network_answers(
    make: Make, student: str, kind: str, task: str
) -> None:
    served = load_student(made(make, student, kind, task))
    rows = rows_of(12, 3)
    edges = served.predict(rows.numpy(), ENDS)
    model = served.model
    inputs = model.prepare(features_of(kind, rows), as_edges(ENDS, 12, undirected=True), None)
    alone_NC = predict(model, inputs, 0)
    assert torch.allclose(edges.logits_NC[4:], alone_NC[4:], atol=1e-5)
    assert torch.allclose(served.predict(rows.numpy()).logits_NC, alone_NC, atol=1e-5)
    one = torch.cat([served.predict(row[None].numpy()).logits_NC for row in rows])
    assert torch.allclose(one, alone_NC, atol=1e-5)
    with_hops = predict(model, inputs)
    assert torch.allclose(edges.logits_NC[:4], with_hops[:4], atol=1e-5)
    model.memory = None
    assert not torch.allclose(predict(model, inputs, 0), alone_NC, atol=1e-2)
    assert torch.equal(predict(model, inputs), with_hops) == (served.hops > 0)


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_what_no_exported_model_holds_is_refused(make: Make, tmp_path: Path, to: str) -> None:
    path = made(make, "landmark", "csr")
    refused = g2t("model", "export", path, "--to", to, "--out", tmp_path / "out")
    assert refused.exit_code == 3
    assert "asks the nodes that it remembers" in refused.stderr
    assert "model.memory=0" in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_a_hub_folder_holds_it_and_the_card_says_so(make: Make, tmp_path: Path, kind: str) -> None:
    path = made(make, "mlp", kind)
    done = g2t("model", "export", path, "--to", "hf", "--out", tmp_path / "hub")
    assert done.exit_code == 0, done.stderr
    rows = rows_of(12, 3).numpy()
    ours, theirs = (load_student(folder).predict(rows) for folder in (path, tmp_path / "hub"))
    assert torch.equal(ours.logits_NC, theirs.logits_NC)
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "7 nodes of its graph" in card
    assert "the 2 most alike, 50% of an answer without edges" in card
    plain = g2t("model", "card", make("landmark")).stdout
    assert "memory" not in plain


Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


def at(name: str, place: int, value: float) -> Change:
    return lambda facts, tensors: tensors[name].__setitem__(place, value)


def fact(key: str, value: object) -> Change:
    return lambda facts, tensors: facts["memory"].update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        at("memory.column_E", 0, WIDTH),
        at("memory.column_E", 0, -1),
        at("memory.start_M", 3, 10_000),
        at("memory.start_M", 3, -5),
        lambda facts, tensors: tensors.pop("memory.logits_MC"),
        lambda facts, tensors: tensors.update({"memory.logits_MC": torch.zeros(7, 4)}),
        lambda facts, tensors: tensors.update({"memory.start_M": torch.zeros(0).long()}),
        lambda facts, tensors: facts.pop("memory"),
        lambda facts, tensors: facts.update(memory=[]),
        lambda facts, tensors: facts.update(memory={"rows": 7}),
        fact("rows", 8),
        fact("rows", -1),
        fact("entries", None),
        fact("entries", 10**15),
        fact("nearest", 0),
        fact("share", 1.5),
        fact("share", "all"),
        fact("more", 1),
    ],
)
def test_a_memory_that_lies_is_refused(make: Make, tmp_path: Path, change: Change) -> None:
    """Every digest fits: the student was written so."""
    path = made(make, "landmark", "csr")
    facts, tensors = json.loads((path / FACTS).read_text()), load_tensors(path / WEIGHTS)
    change(facts, tensors)
    with Stage(tmp_path / "forged", "student", {"seed": 0}, {}, 0) as stage:
        (stage.path / FACTS).write_text(json.dumps(facts))
        save_tensors(stage.path / WEIGHTS, tensors)
        stage.commit({})
    with pytest.raises(IntegrityError, match="disagree"):
        load_student(tmp_path / "forged")
