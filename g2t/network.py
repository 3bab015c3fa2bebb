"""Trained networks on disk, teachers and students alike: `model.json` and `model.safetensors`.

`model.json` says what to build and from what it learned; both files are part of the identity.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from g2t.artifact import Artifact, open_artifact, read_json, write_json
from g2t.errors import IntegrityError
from g2t.tensors import load_tensors, save_tensors

N = TypeVar("N", bound=nn.Module)

FACTS, WEIGHTS = "model.json", "model.safetensors"


def write_network(folder: Path, facts: dict[str, Any], model: nn.Module) -> None:
    """Write the two files of a network into a folder."""
    write_json(folder / FACTS, facts)
    save_tensors(folder / WEIGHTS, model.state_dict())


def read_weights(
    path: Path, kind: str, schema: str
) -> tuple[Artifact, dict[str, Any], dict[str, Tensor]]:
    """Open an artefact of a kind and return it, its `model.json` and its tensors, nothing built.

    Raises InputError if there is none, IntegrityError if it was changed or is of a newer version.
    """
    artifact = open_artifact(path, kind)
    facts = read_json(path / FACTS)
    if facts.get("schema") != schema:
        raise IntegrityError(
            f"{path} has schema {facts.get('schema')!r}, this g2t reads {schema!r}",
            "upgrade g2t to read it",
        )
    return artifact, facts, load_tensors(path / WEIGHTS)


def assemble(
    path: Path,
    facts: dict[str, Any],
    weights: Mapping[str, Tensor],
    build: Callable[[dict[str, Any]], N],
) -> N:
    """Build a network and give it its weights, in eval mode; IntegrityError if they disagree."""
    try:
        model = build(facts)
        model.load_state_dict(dict(weights))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise IntegrityError(f"{path}: {WEIGHTS} and {FACTS} disagree: {error}") from error
    model.eval()
    return model


def read_network(
    path: Path, kind: str, schema: str, build: Callable[[dict[str, Any]], N]
) -> tuple[Artifact, dict[str, Any], N]:
    """Open an artefact of a kind and return it, its `model.json`, and the network in eval mode.

    Raises what `read_weights` and `assemble` raise.
    """
    artifact, facts, weights = read_weights(path, kind, schema)
    return artifact, facts, assemble(path, facts, weights, build)
