"""`load_student`: the same answers as everywhere else, one by one or together, and no PyG."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from g2t import load_student
from g2t.errors import InputError
from g2t.graph.csr import compact, from_pairs
from g2t.student.base import predict
from tests.serve.conftest import Make

LIGHT = """
import sys
import g2t
assert "torch" not in sys.modules and "pydantic" not in sys.modules
student = g2t.load_student(sys.argv[1])
print(student.predict([[0.0, 1.0, 2.0, 3.0]]).labels[0])
assert "torch_geometric" not in sys.modules
"""


def test_neither_import_nor_answers_take_what_they_do_not_need(make: Make) -> None:
    path = make("hop")
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("cat", "dog", "owl")


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("options", [{}, {"high_pass": True}, {"neighbours": 2}])
def test_answers_are_those_of_the_network_over_the_graph(
    make: Make, kind: str, options: dict[str, object]
) -> None:
    student = load_student(make("hop", kind=kind, width=9, hops=3, **options))
    draw = torch.Generator().manual_seed(1)
    rows = torch.rand(30, 9, generator=draw) * (torch.rand(30, 9, generator=draw) < 0.2)
    ends = torch.randint(0, 20, (2, 40), generator=draw)  # nodes from 20 on have no edge
    ring = torch.stack([torch.arange(20), torch.arange(20).roll(1)])
    itself = torch.tensor([[21], [21]])  # is no neighbour
    ends = torch.cat([ends, ring, itself], 1)
    edges = from_pairs(torch.cat([ends[0], ends[1]]), torch.cat([ends[1], ends[0]]), 30)
    features = compact(rows) if kind == "csr" else rows
    inputs = student.model.prepare(features, edges, None)
    by_hops = [predict(student.model, inputs, k) for k in range(4)]
    answered = student.predict(rows.numpy(), ends)
    assert torch.allclose(answered.logits_NC[:20], by_hops[3][:20], atol=1e-5)
    assert torch.allclose(answered.logits_NC[20:], by_hops[0][20:], atol=1e-5)
    assert not torch.allclose(by_hops[0], by_hops[3], atol=1e-3)
    mixed = student.predict(sp.csr_matrix(rows.numpy()), ends, hops=torch.arange(30) % 4)
    for node in range(30):
        assert torch.allclose(mixed.logits_NC[node], by_hops[node % 4][node], atol=1e-5)


def test_labels_and_probabilities_follow_from_the_logits(make: Make) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 4))
    one = load_student(make("mlp")).predict(rows)
    assert one.labels == [one.classes[i] for i in one.logits_NC.argmax(1)]
    assert torch.allclose(one.probabilities_NC.sum(1), torch.ones(20))
    several = load_student(make("mlp", task="multilabel")).predict(rows)
    for labels, row in zip(several.labels, several.logits_NC, strict=True):
        assert labels == tuple(
            name
            for name, z in zip(several.classes, row.tolist(), strict=True)
            if 1 / (1 + np.exp(-z)) > 0.5
        )


@pytest.mark.parametrize(
    ("rows", "edges", "hops", "said"),
    [
        (np.zeros((2, 5)), None, None, "5 columns, this student reads 4"),
        (np.zeros(4), None, None, "not numbers [nodes, features]"),
        (np.zeros((0, 4)), None, None, "no nodes"),
        (np.array([[0.0] * 4, [0, np.nan, 0, 0]]), None, None, "row 1 of the features has NaN"),
        (np.zeros((2, 4)), np.array([[0], [2]]), None, "outside 0 … 1"),
        (np.zeros((2, 4)), np.array([[0.0], [1.0]]), None, "not whole numbers [2, edges]"),
        (np.zeros((2, 4)), np.array([[0], [1]]), 4, "reads 0 … 3 hops"),
    ],
)
def test_wrong_input_is_one_sentence(
    make: Make, rows: np.ndarray, edges: np.ndarray | None, hops: int | None, said: str
) -> None:
    with pytest.raises(InputError, match=said.replace("[", r"\[").replace("]", r"\]")):
        load_student(make("hop")).predict(rows, edges, hops=hops)


def test_there_must_be_a_student(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no student"):
        load_student(tmp_path / "nowhere")
