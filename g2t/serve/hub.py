"""A student as a folder for a model hub: `config.json`, `model.safetensors` and a model card.

`config.json` holds what `model.json` does and the student's digest, by which both are checked;
nothing of the machine that it was made on.
"""

import shutil
from pathlib import Path
from typing import Any

import xxhash

from g2t.artifact import file_digest, json_text, outputs_digest, read_json, write_json
from g2t.errors import IntegrityError
from g2t.files import shown, unreadable
from g2t.network import FACTS, WEIGHTS, assemble
from g2t.student.base import Student
from g2t.student.store import SCHEMA as STUDENT
from g2t.student.store import build
from g2t.tensors import load_tensors

CONFIG, CARD = "config.json", "README.md"
SCHEMA = "g2t.hub/1"
AGAIN = "fetch or export it again"


def write_hub(folder: Path, facts: dict[str, Any], weights: Path, digest: str, card: str) -> None:
    """Write the three files; `digest` is the identity of the student that `weights` belongs to."""
    shutil.copyfile(weights, folder / WEIGHTS)
    content = {
        "schema": SCHEMA,
        "library_name": "g2t",
        "model_type": f"g2t-{facts['student']}",
        "digest": digest,
        "student": facts,
    }
    write_json(folder / CONFIG, content)
    (folder / CARD).write_text(card, encoding="utf-8")


def read_hub(folder: Path) -> tuple[dict[str, Any], Student, str]:
    """Return a hub folder's facts, its network in eval mode, and the student's digest.

    Raises IntegrityError where a file is missing, was changed, or is of a newer version.
    """
    config = read_json(folder / CONFIG)
    facts = config.get("student")
    known = [(config.get("schema"), SCHEMA)]
    if config.get("schema") == SCHEMA and isinstance(facts, dict):
        known.append((facts.get("schema"), STUDENT))
    for found, wanted in known:
        if found != wanted:
            raise IntegrityError(
                f"{folder / CONFIG} has schema {shown(found)}, this g2t reads {wanted!r}",
                "upgrade g2t to read it",
            )
    if not isinstance(facts, dict):
        raise IntegrityError(f"{folder / CONFIG} is damaged: it describes no student", AGAIN)
    if _digest(folder, facts) != config.get("digest"):
        raise IntegrityError(
            f"{folder}: {CONFIG} or {WEIGHTS} was changed: they do not have the recorded digest",
            AGAIN,
        )
    model = assemble(folder, facts, load_tensors(folder / WEIGHTS), build)
    return facts, model, str(config["digest"])


def _digest(folder: Path, facts: dict[str, Any]) -> str:
    """Return the digest that the student had as an artefact: of `model.json` and its weights."""
    text = json_text(facts).encode()
    try:
        weights = file_digest(folder / WEIGHTS)
    except OSError as error:
        raise unreadable(folder / WEIGHTS, error) from None
    described = xxhash.xxh3_128_hexdigest(text)
    return outputs_digest({FACTS: {"xxh3_128": described}, WEIGHTS: {"xxh3_128": weights}})
