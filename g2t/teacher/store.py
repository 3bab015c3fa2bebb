"""Teachers on disk: a network, and `split.safetensors`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import Tensor

from g2t.artifact import Artifact
from g2t.config import Settings, look_up
from g2t.errors import IntegrityError
from g2t.graph.bundle import Graph
from g2t.graph.splits import Split, read_split
from g2t.network import FACTS, assemble, read_weights
from g2t.teacher import TEACHERS
from g2t.teacher.description import Description, HiddenFacts
from g2t.teacher.frame import GNN

SCHEMA = "g2t.teacher/2"
SPLIT = "split.safetensors"

P = TypeVar("P", bound=Settings)


@dataclass(frozen=True)
class TeacherFile:
    """A teacher as it lies on disk, its network not built: artefact, `model.json`, weights, split.

    `shape` says how many hidden layers it has and how wide they are; `description` how to compute
    them without the network, None where it cannot be said.
    """

    artifact: Artifact
    facts: dict[str, Any]
    weights: dict[str, Tensor]
    split: Split
    shape: HiddenFacts
    description: Description | None

    @property
    def name(self) -> str:
        """Its kind, such as `gcn`."""
        return str(self.facts["teacher"])

    @property
    def hidden(self) -> int:
        """How many layers give an embedding, L."""
        return self.shape.layers

    @property
    def width(self) -> int:
        """How wide they are, D; 0 where there is none."""
        return self.shape.width

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
    shape = _part(path, facts, "hidden", HiddenFacts)
    described = facts.get("layers") is not None
    description = _part(path, facts, "layers", Description) if described else None
    return TeacherFile(artifact, facts, weights, read_split(path / SPLIT), shape, description)


def _part(path: Path, facts: dict[str, Any], key: str, kind: type[P]) -> P:
    """Return a part of `model.json`; raises IntegrityError where it is not what it should be."""
    try:
        return kind.model_validate(facts.get(key))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (key, *first["loc"]))
        said = f"{path / FACTS} is damaged at {where}: {first['msg']}"
        raise IntegrityError(said) from None


def read_teacher(path: Path) -> Teacher:
    """Open a teacher; raises InputError if there is none, IntegrityError if it was changed."""
    file = open_teacher(path)
    return Teacher(file.artifact, file.network(), file.split, file.facts)


def facts_of(graph: Graph, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what `model.json` says: enough to rebuild the network and to check its graph.

    `told_by` adds what can be run and read without the network.
    """
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


def told_by(model: GNN) -> dict[str, Any]:
    """Return what `model.json` says of a built network's layers."""
    width = model.widths[0] if model.hidden else 0
    description = model.describe()
    return {
        "hidden": HiddenFacts(layers=model.hidden, width=width).model_dump(mode="json"),
        "layers": None if description is None else description.model_dump(mode="json"),
    }
