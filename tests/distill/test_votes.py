"""Whether the hops of a student vote is decided by validation, and kept with its weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from g2t.cache.check import open_cache
from g2t.distill.choice import better_by_vote
from g2t.distill.train import distill
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.metrics import score
from g2t.runtime import Silent
from g2t.student.base import Inputs, Output, Student, answers, predict
from g2t.student.store import read_student
from g2t.teacher.train import teach

GRAPH = {"nodes": 160, "degree": 6.0, "classes": 3, "features": 6, "noise": 1.5}
TEACH = {"split": "random:20/20/60:0", "train": {"epochs": 10}, "model": {"hidden": 16}}


class Said(Student):
    """A student of one hop that says what it was told to say, by hops at hand."""

    def __init__(self, said_KNC: list[list[list[float]]]) -> None:
        super().__init__()
        self.hops = len(said_KNC) - 1
        self.said_KNC = nn.Parameter(torch.tensor(said_KNC))

    def embed(self, inputs: Inputs, index_B: Tensor) -> Tensor:
        return index_B[:, None, None]

    def forward(self, tokens_BTD: Tensor, hops_B: Tensor | None = None) -> Output:
        assert hops_B is not None
        return Output(self.said_KNC[hops_B, tokens_BTD[:, 0, 0]], ())


@pytest.mark.parametrize(
    ("without", "with_one", "expected"),
    [
        # Each is surely right of one node and narrowly wrong of the other: together both are right.
        ([[4.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 4.0]], True),
        # Without a hop both are surely wrong: the mean is too.
        ([[0.0, 9.0], [9.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], False),
        # Both right, but the mean less surely: the loss breaks the tie.
        ([[1.0, 0.0], [0.0, 1.0]], [[4.0, 0.0], [0.0, 4.0]], False),
    ],
)
def test_the_mean_is_taken_where_it_is_better_on_validation(
    without: list[list[float]], with_one: list[list[float]], expected: bool
) -> None:
    cache: Any = SimpleNamespace(
        parts=SimpleNamespace(val=torch.tensor([0, 1])),
        labels=torch.tensor([0, 1]),
        manifest=SimpleNamespace(metric="accuracy", task="multiclass"),
    )
    inputs = Inputs(torch.zeros(2, 1))
    assert better_by_vote(Said([without, with_one]), inputs, cache) is expected


def test_the_choice_is_that_of_validation_and_decides_what_is_answered(tmp_path: Path) -> None:
    graph = import_graph("synthetic:csbm", tmp_path / "g", GRAPH, None, Silent(), False).path
    teacher = teach(graph, tmp_path / "t", TEACH).path
    made = tmp_path / "c"
    export(teacher, graph, made, ExportSettings())
    cache = open_cache(made)
    for name, seed in (("hop", 0), ("hop", 1), ("landmark", 0)):
        values = {"student": name, "seed": seed, "model": {"hidden": 16}, "train": {"epochs": 4}}
        artifact = distill(made, tmp_path / f"{name}-{seed}", values)
        student = read_student(artifact.path)
        votes = student.model.votes
        assert artifact.record["summary"]["votes"] is votes
        inputs = student.model.prepare(cache.features(), cache.edges, None)
        served_NC = predict(student.model, inputs)
        student.model.votes = False
        every = torch.arange(cache.rows)
        scales = answers(student.model, inputs, every, range(student.model.hops + 1))
        mean_NC = torch.stack(scales).mean(0)
        torch.testing.assert_close(served_NC, mean_NC if votes else scales[-1])
        val = cache.parts.val
        of_mean, of_last = (
            score(cache.manifest.metric, said[val], cache.labels[val])
            for said in (mean_NC, scales[-1])
        )
        assert (of_mean >= of_last) if votes else (of_last >= of_mean)
    assert not votes  # `landmark`, the last, has one scale
