"""Students on disk: `model.json` (what to build, and from what it learned), `model.safetensors`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2t.artifact import Artifact, open_artifact, read_json, write_json
from g2t.config import look_up
from g2t.errors import IntegrityError
from g2t.student import STUDENTS
from g2t.student.base import Student
from g2t.tensors import load_tensors, save_tensors

SCHEMA = "g2t.student/1"


@dataclass(frozen=True)
class TrainedStudent:
    """A trained student: its artefact, network (in eval mode) and `model.json`."""

    artifact: Artifact
    model: Student
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Its kind, such as `hop`."""
        return str(self.facts["student"])


def build(facts: dict[str, Any]) -> Student:
    """Build the network that a `model.json` describes, with fresh weights."""
    kind = look_up(STUDENTS, facts["student"], "student")
    features = facts["features"]
    settings = kind.Settings.model_validate(facts["model"])
    model: Student = kind(
        features["width"], features["kind"] == "csr", len(facts["classes"]), settings
    )
    return model


def write_student(folder: Path, facts: dict[str, Any], model: Student) -> None:
    """Write the two files of a student into a folder."""
    write_json(folder / "model.json", facts)
    save_tensors(folder / "model.safetensors", model.state_dict())


def read_student(path: Path) -> TrainedStudent:
    """Open a student; raises InputError if there is none, IntegrityError if it was changed."""
    artifact = open_artifact(path, "student")
    facts = read_json(path / "model.json")
    if facts.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path} has student schema {facts.get('schema')!r}, this g2t reads {SCHEMA!r}"
        )
    model = build(facts)
    try:
        model.load_state_dict(load_tensors(path / "model.safetensors"))
    except RuntimeError as error:
        raise IntegrityError(f"{path}: its weights do not fit its model.json: {error}") from error
    model.eval()
    return TrainedStudent(artifact, model, facts)
