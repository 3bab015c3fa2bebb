"""Students with random weights on a small graph, with dense and with sparse features."""

from typing import Any

import pytest
import torch
from torch import Tensor

from g2t.config import look_up
from g2t.graph.csr import Csr, Features, compact, from_pairs
from g2t.student import STUDENTS
from g2t.student.base import Inputs, ModelSettings, Output, Student

NODES, WIDTH, CLASSES = 23, 12, 3

every_student = pytest.mark.parametrize("name", STUDENTS)
both_kinds = pytest.mark.parametrize("kind", ["dense", "csr"])


def features_of(kind: str, nodes: int = NODES) -> Features:
    draw = torch.Generator().manual_seed(0)
    if kind == "dense":
        return torch.randn(nodes, WIDTH, generator=draw)
    words = (torch.rand(nodes, WIDTH, generator=draw) < 0.2).float()
    words *= torch.rand(nodes, WIDTH, generator=draw) + 0.5
    words[3] = 0
    features = compact(words)
    assert isinstance(features, Csr)
    return features


def edges_of(nodes: int = NODES) -> Csr:
    """Return a path 0 - 1 - … with a chord, so that nodes differ in degree."""
    one = torch.arange(nodes - 1)
    source, target = (
        torch.cat([one, one + 1, torch.tensor([5, 9])]),
        torch.cat([one + 1, one, torch.tensor([9, 5])]),
    )
    return from_pairs(source, target, nodes)


def no_edges(nodes: int = NODES) -> Csr:
    empty = torch.empty(0, dtype=torch.int64)
    return from_pairs(empty, empty, nodes)


def settings_of(name: str, **values: Any) -> ModelSettings:
    settings: ModelSettings = look_up(STUDENTS, name, "student").Settings.model_validate(
        {"hidden": 16, "input_dropout": 0.2} | values
    )
    return settings


def student_called(name: str, kind: str, **values: Any) -> Student:
    torch.manual_seed(0)
    found = look_up(STUDENTS, name, "student")
    student: Student = found(WIDTH, kind == "csr", CLASSES, settings_of(name, **values))
    student.fit(features_of(kind), edges_of(), None)
    return student.eval()


def ready(
    student: Student, kind: str, edges: Csr | None = None, tokens: Tensor | None = None
) -> Inputs:
    return student.prepare(features_of(kind), edges_of() if edges is None else edges, tokens)


def call(student: Student, inputs: Inputs, index_B: Tensor) -> Output:
    output: Output = student(student.embed(inputs, index_B))
    return output
