"""Teachers on disk: a network, and `split.safetensors`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from g2t.artifact import Artifact
from g2t.config import look_up
from g2t.errors import IntegrityError
from g2t.graph.bundle import Graph
from g2t.graph.splits import Split, read_split
from g2t.network import FACTS, assemble, read_weights
from g2t.teacher import TEACHERS
from g2t.teacher.description import Description
from g2t.teacher.frame import GNN

SCHEMA = "g2t.teacher/1"
SPLIT = "split.safetensors"


@dataclass(frozen=True)
class TeacherFile:
    """A teacher as it lies on disk, its network not built: artefact, `model.json`, weights, split.

    `description` says how to compute its layers without the network; None where it cannot be said.
    """

    artifact: Artifact
    facts: dict[str, Any]
    weights: dict[str, Tensor]
    split: Split
    description: Description | None

    @property
    def name(self) -> str:
        """Its kind, such as `gcn`."""
        return str(self.facts["teacher"])

    @property
    def hidden(self) -> int:
        """How many layers give an embedding, L."""
        settings = self.facts["model"]
        return int(settings["layers"]) - (0 if settings["post"] else 1)

    def network(self) -> GNN:
        """Build the network; raises IntegrityError where weights and `model.json` disagree."""
        return assemble(self.artifact.path, self.facts, self.weights, build)


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


def open_teacher(path: Path) -> TeacherFile:
    """Open a teacher without building it, so without importing PyG.

    Raises InputError if there is none, IntegrityError if it was changed.
    """
    artifact, facts, weights = read_weights(path, "teacher", SCHEMA)
    try:
        described = facts.get("layers")
        description = None if described is None else Description.model_validate(described)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = f"{path / FACTS} is damaged at layers.{where}: {first['msg']}"
        raise IntegrityError(said) from None
    return TeacherFile(artifact, facts, weights, read_split(path / SPLIT), description)


def read_teacher(path: Path) -> Teacher:
    """Open a teacher; raises InputError if there is none, IntegrityError if it was changed."""
    file = open_teacher(path)
    return Teacher(file.artifact, file.network(), file.split, file.facts)


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
