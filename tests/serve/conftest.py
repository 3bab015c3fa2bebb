"""Students with random weights: what serves does not ask how they were trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from g2t.network import write_network
from g2t.stage import Stage
from g2t.student.memory import Memory
from g2t.student.store import SCHEMA, build

#: Make a student's folder: kind, and what differs from a dense one of four named columns.
Make = Callable[..., Path]
NAMES = ("age", "height", "income", "clicks")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(
        student: str,
        *,
        kind: str = "dense",
        width: int = 4,
        names: tuple[str, ...] | None = None,
        classes: tuple[str, ...] = ("cat", "dog", "owl"),
        task: str = "multiclass",
        memory: Memory | None = None,
        **model: Any,
    ) -> Path:
        torch.manual_seed(0)
        features: dict[str, Any] = {"kind": kind, "width": width}
        if names is not None:
            features["names"] = list(names)
        small = {"hidden": 8, "heads": 2, "landmarks": 3} if student != "mlp" else {"hidden": 8}
        facts = {
            "schema": SCHEMA,
            "student": student,
            "model": {**small, **model},
            "features": features,
            "classes": list(classes),
            "task": task,
            "metric": "accuracy" if task != "multilabel" else "roc_auc",
            "losses": {"soft": {"weight": 1.0}},
            "graph": {"name": "toy", "digest": "sha256:0"},
            "split": {"name": "public", "digest": "sha256:1"},
            "teacher": {"name": "gcn", "digest": "sha256:2", "layers": 2, "scaling": "raw"},
            "second": None,
        }
        network = build(facts)
        for parameter in network.parameters():  # far from the start, where all answers are alike
            parameter.data += torch.randn_like(parameter) / 2
        if kind == "dense":
            network.normalize.shift.uniform_(-1, 1)
            network.normalize.scale.uniform_(0.5, 2)
        if memory is not None:
            network.memory, facts["memory"] = memory, memory.facts.model_dump()
        out = tmp_path / f"student-{student}-{kind}-{task}"
        with Stage(out, "student", {"seed": 0}, {}, 0) as stage:
            write_network(stage.path, facts, network)
            stage.commit({})
        return out

    return make
