"""Students on disk: a network, and in its `model.json` where it comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from g2t.artifact import Artifact
from g2t.config import look_up
from g2t.network import read_network
from g2t.student import STUDENTS
from g2t.student.base import Student
from g2t.student.memory import blank

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

    @property
    def identity(self) -> dict[str, str]:
        """Its kind and digest, as another student records it that learned from it."""
        return {"name": self.name, "digest": self.artifact.digest}


def build(facts: dict[str, Any]) -> Student:
    """Build the network that a `model.json` describes, with fresh weights."""
    kind = look_up(STUDENTS, facts["student"], "student")
    features = facts["features"]
    settings = kind.Settings.model_validate(facts["model"])
    model: Student = kind(
        features["width"], features["kind"] == "csr", len(facts["classes"]), settings
    )
    if features.get("projected_from") is not None:
        model.basis = torch.zeros(features["projected_from"], features["width"])
    model.votes = facts.get("votes", False)
    if facts.get("memory") is not None:
        model.memory = blank(facts["memory"], features, len(facts["classes"]), facts["task"])
    return model


def read_student(path: Path) -> TrainedStudent:
    """Open a student; raises InputError if there is none, IntegrityError if it was changed."""
    artifact, facts, model = read_network(path, "student", SCHEMA, build)
    return TrainedStudent(artifact, model, facts)
