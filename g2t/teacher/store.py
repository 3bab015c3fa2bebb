"""Teachers on disk: `model.json` (what to build), `model.safetensors`, `split.safetensors`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2t.artifact import Artifact, open_artifact, read_json, write_json
from g2t.config import look_up
from g2t.errors import IntegrityError
from g2t.graph.bundle import Graph
from g2t.graph.splits import Split, read_split, write_split
from g2t.teacher import TEACHERS
from g2t.teacher.frame import GNN
from g2t.tensors import load_tensors, save_tensors

SCHEMA = "g2t.teacher/1"


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


def write_teacher(folder: Path, facts: dict[str, Any], model: GNN, split: Split) -> None:
    """Write the three files of a teacher into a folder."""
    write_json(folder / "model.json", facts)
    save_tensors(folder / "model.safetensors", model.state_dict())
    write_split(split, folder / "split.safetensors")


def read_teacher(path: Path) -> Teacher:
    """Open a teacher; raises InputError if there is none, IntegrityError if it was changed."""
    artifact = open_artifact(path, "teacher")
    facts = read_json(path / "model.json")
    if facts.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path} has teacher schema {facts.get('schema')!r}, this g2t reads {SCHEMA!r}"
        )
    model = build(facts)
    try:
        model.load_state_dict(load_tensors(path / "model.safetensors"))
    except RuntimeError as error:
        raise IntegrityError(f"{path}: its weights do not fit its model.json: {error}") from error
    model.eval()
    return Teacher(artifact, model, read_split(path / "split.safetensors"), facts)


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
