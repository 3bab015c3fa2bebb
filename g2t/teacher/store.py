"""Teachers on disk: a network, and `split.safetensors`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2t.artifact import Artifact
from g2t.config import look_up
from g2t.graph.bundle import Graph
from g2t.graph.splits import Split, read_split
from g2t.network import read_network
from g2t.teacher import TEACHERS
from g2t.teacher.frame import GNN

SCHEMA = "g2t.teacher/1"
SPLIT = "split.safetensors"


@dataclass(frozen=True)
class Teacher:
    """A trained teacher: its artefact, network (in eval mode), split and `model.json`."""

    artifact: Artifact
    model: GNN
    split: Split
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Its kind, such as `gcn`."""
        return str(self.facts["teacher"])


def build(facts: dict[str, Any]) -> GNN:
    """Build the network that a `model.json` describes, with fresh weights."""
    kind = look_up(TEACHERS, facts["teacher"], "teacher")
    settings = kind.Settings.model_validate(facts["model"])
    model: GNN = kind(facts["features"]["width"], len(facts["classes"]), settings)
    return model


def read_teacher(path: Path) -> Teacher:
    """Open a teacher; raises InputError if there is none, IntegrityError if it was changed."""
    artifact, facts, model = read_network(path, "teacher", SCHEMA, build)
    return Teacher(artifact, model, read_split(path / SPLIT), facts)


def facts_of(graph: Graph, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what `model.json` says: enough to rebuild the network and to check its graph."""
    return {
        "schema": SCHEMA,
        "teacher": settings["teacher"],
        "model": settings["model"],
        "features": {"width": graph.features.shape[1], "scaling": settings["features"]},
        "classes": list(graph.classes),
        "task": graph.task,
        "metric": graph.metric,
        "graph": {"name": graph.name, "fingerprint": graph.fingerprints()["graph"]},
    }
