"""Files before they are trusted: opened without waiting, read up to a bound, parsed strictly.

Whoever opens an artefact may have been given a FIFO, a file that claims to be huge, or JSON made to
exhaust memory; here all of these end in one sentence.
"""

import errno
import json
import math
import os
import reprlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Never

from g2t.errors import G2TError, InputError, IntegrityError

#: Longest JSON file that is read: the manifest of a billion nodes has less than half of it.
MOST_JSON = 64 << 20

#: Digits of the longest whole number that is read.
MOST_DIGITS = 40

#: What to do where an artefact of ours is not as it was made.
REMAKE = "make the artefact again with --force"

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = 60


def home() -> Path:
    """Return the folder for what g2t keeps for itself: `$G2T_HOME`, or `~/.cache/g2t`."""
    return Path(os.environ.get("G2T_HOME") or Path.home() / ".cache" / "g2t")


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor; never waits, as a FIFO would.

    Raises OSError, also where the path is a directory, a FIFO, a socket or a device.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.ENXIO, "it is no regular file", str(path))


def unreadable(path: Path, error: OSError) -> G2TError:
    """Return what a user is told where a file of an artefact could not be opened or read.

    IntegrityError where it is missing or no regular file, InputError for all other reasons.
    """
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return IntegrityError(f"{path} is missing from its artefact", REMAKE)
    if error.errno in (errno.ENXIO, errno.EISDIR, errno.ELOOP):
        return IntegrityError(f"{path} is no regular file", REMAKE)
    return InputError(f"cannot read {path}: {error.strerror}")


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file of an artefact; what goes wrong is raised as `unreadable` says."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            yield file
    except OSError as error:
        raise unreadable(path, error) from None


def read_bounded(path: Path, most: int) -> bytes:
    """Return the bytes of an artefact's file; raises IntegrityError beyond `most` of them."""
    with reading(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise IntegrityError(f"{path} is damaged: it is longer than {most} bytes", REMAKE)
    return data


def parse_json(data: bytes) -> dict[str, Any]:
    """Parse a JSON object as all of ours are: UTF-8, every key once, every number finite.

    Raises ValueError for anything else.
    """
    try:
        content = json.loads(
            data.decode(),
            object_pairs_hook=_once,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise ValueError("the nesting is too deep") from None
    if not isinstance(content, dict):
        raise ValueError("this is no JSON object")
    return content


def shown(value: object) -> str:
    """Return a value of unknown origin as it can stand in a sentence: quoted, on one short line."""
    return _SHORT.repr(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands twice")
    if not all(map(str.isprintable, content)):
        raise ValueError("a key is not printable")
    return content


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:  # beyond thousands of them, Python's own message is for programmers
        raise ValueError("a number is too large")
    return int(text)
