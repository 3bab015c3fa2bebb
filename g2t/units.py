"""Sizes as people write them: `256MiB`, `1.5 GB`, `4096`."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from g2t.errors import UsageError

_UNITS = {
    "TiB": 1 << 40,
    "TB": 10**12,
    "GiB": 1 << 30,
    "GB": 10**9,
    "MiB": 1 << 20,
    "MB": 10**6,
    "KiB": 1 << 10,
    "kB": 10**3,
    "B": 1,
}
_FACTORS = {name.lower(): factor for name, factor in _UNITS.items()}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?b)?\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes that a size such as `256MiB` names; a bare number counts bytes.

    Raises UsageError where it names none, or less than one byte.
    """
    match = _SIZE.fullmatch(text)
    factor = _FACTORS.get((match[2] or "B").lower()) if match else None
    size = int(float(match[1]) * factor) if match and factor else 0
    if size < 1:
        raise UsageError(f"{text!r} is no size", "write it as 256MiB, 1GiB or 4096")
    return size


def format_size(size: int) -> str:
    """Return a size exactly, in the largest unit that divides it; `parse_size` reads it back."""
    return next(f"{size // factor}{name}" for name, factor in _UNITS.items() if size % factor == 0)


def _checked(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("write a size as 256MiB, 1GiB or 4096")
    try:
        return parse_size(str(value))
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.hint}") from None


#: A setting in bytes: takes a number or a text with a unit, and is written back as a text.
Size = Annotated[int, BeforeValidator(_checked), PlainSerializer(format_size, return_type=str)]
