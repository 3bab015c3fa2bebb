"""What a teacher's file says of its layers, and what is said where it says it wrongly."""

from pathlib import Path
from typing import Any

import pytest

from g2t.errors import IntegrityError
from g2t.graph.bundle import read_graph
from g2t.graph.importing import import_graph
from g2t.graph.splits import write_split
from g2t.network import write_network
from g2t.runtime import Silent
from g2t.stage import Stage
from g2t.teacher import TEACHERS
from g2t.teacher.forward import trace
from g2t.teacher.store import SPLIT, build, open_teacher, read_teacher, told_by
from g2t.teacher.train import plan_teacher, teach

CSBM = {"nodes": 60, "degree": 4.0, "classes": 3, "features": 8, "noise": 2.0}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graph") / "g"
    return import_graph("synthetic:csbm", out, CSBM, None, Silent(), False).path


@pytest.mark.parametrize("name", TEACHERS)
def test_every_teacher_is_taught_and_says_which_layers_it_has(
    graph: Path, tmp_path: Path, name: str
) -> None:
    values = {"teacher": name, "split": "random:30/30/40:0", "train": {"epochs": 2}}
    out = teach(graph, tmp_path / "t", values, device="cpu").path
    said = open_teacher(out)
    found = trace(read_teacher(out), read_graph(graph))
    assert said.hidden == len(found.layers) == {"appnp": 10, "gcn2": 16, "sgc": 0}.get(name, 1)
    assert {layer.shape[1] for layer in found.layers} == ({said.width} if said.hidden else set())
    assert found.logits_NC.shape[1] == 3


def written(graph: Path, out: Path, **facts: Any) -> Path:
    """Write an untrained teacher whose `model.json` says something else."""
    plan = plan_teacher(graph, {"split": "random:30/30/40:0"})
    network = build(plan.facts)
    with Stage(out, "teacher", plan.asked, plan.inputs, 0) as stage:
        write_network(stage.path, {**plan.facts, **told_by(network), **facts}, network)
        write_split(plan.split, stage.path / SPLIT)
        return stage.commit({}).path


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"schema": "g2t.teacher/1"}, "has schema 'g2t.teacher/1', this g2t reads 'g2t.teacher/2'"),
        ({"hidden": None}, "is damaged at hidden"),
        ({"hidden": {"layers": 1}}, "is damaged at hidden.width"),
        ({"hidden": {"layers": -1, "width": 3}}, "is damaged at hidden.layers"),
        ({"layers": {"layers": 3}}, "is damaged at layers.layers"),
        ({"layers": {"layers": [], "join": "last"}}, "is damaged at layers.join"),
    ],
)
def test_a_wrong_word_of_its_layers_is_found(
    graph: Path, tmp_path: Path, facts: dict[str, Any], said: str
) -> None:
    assert open_teacher(written(graph, tmp_path / "sound")).hidden == 1
    with pytest.raises(IntegrityError, match=said):
        open_teacher(written(graph, tmp_path / "t", **facts))
