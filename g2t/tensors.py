"""Reading and writing safetensors files the way every artefact of ours does."""

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from g2t.errors import InputError, IntegrityError


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
    """Write tensors and, as JSON in the header, some facts; the same content gives the same bytes.

    Raises OSError where the file cannot be written.

    The facts stand under a single key because the order of several header keys is not fixed, and
    the file gets the mode that the umask allows instead of safetensors' 0600.
    """
    metadata = None if facts is None else {"g2t": json.dumps(facts, sort_keys=True)}
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(whole, path, metadata)
    except SafetensorError as error:  # such as a full disk; the rest of g2t expects OSError
        known = re.search(r"\(os error (\d+)\)", str(error))
        number = int(known[1]) if known else errno.EIO
        said = os.strerror(number) if known else str(error)
        raise OSError(number, said, str(path)) from error
    set_mode(path)


def set_mode(path: Path) -> None:
    """Give a new file the mode that the umask allows."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file of ours.

    Raises IntegrityError if it is missing or damaged, InputError where it cannot be read.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def load_facts(path: Path) -> Any:
    """Read the facts in a file's header; raises IntegrityError if there are none, or no file."""
    with _opened(path) as file:
        metadata = file.metadata() or {}
    try:
        return json.loads(metadata["g2t"])
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"{path} has no readable header: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file as safetensors does, with errors of ours."""
    missing = IntegrityError(f"{path} is missing from its artefact")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise missing from None
    except RuntimeError as error:  # torch opens it a second time, and it may be gone by then
        if os.strerror(errno.ENOENT) not in str(error):
            raise
        raise missing from None
    except SafetensorError as error:
        raise IntegrityError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
