"""Digests that were computed before, remembered outside the artefacts they belong to.

Hashing a terabyte takes minutes, looking at its files' identities a second. A digest holds as long
as device, inode, size, mtime and ctime of its file stay what they were: the system sets the ctime
at every change of content or times, and no call sets it back. Where a file system keeps no ctime,
only a full check (`g2t cache verify`) finds a change that also restored the mtime.

The memory is a convenience: damaged, missing or unwritable, it only costs the hashing again.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import SystemRandom, token_hex
from typing import Any

from g2t.errors import G2TError, IntegrityError
from g2t.files import MOST_JSON, home, parse_json, read_bounded

SCHEMA = "g2t.verified/1"

#: A file this young is not remembered: a change within the same tick of the file system's clock
#: would leave its identity as it is. FAT has the coarsest clock, 2 seconds.
SETTLED_NS = 2_000_000_000

#: How many other memories are looked at when one is written, to forget folders that are gone.
LOOKED_AT = 16

#: Seconds after which a half-written memory is taken for left behind.
STALE = 3600.0

Identity = list[int]


def identity_of(facts: os.stat_result) -> Identity:
    """Return what stays the same only as long as a file does."""
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def is_settled(facts: os.stat_result, now_ns: int) -> bool:
    """Tell whether any change of a file after `now_ns` must change its identity."""
    return now_ns - max(facts.st_mtime_ns, facts.st_ctime_ns) >= SETTLED_NS


class Memory:
    """The digests of one folder's files, as computed before.

    With `recall` false, nothing is known of before, and what is kept replaces it.
    """

    def __init__(self, folder: Path, recall: bool = True) -> None:
        self.folder = os.path.realpath(folder)
        self._before = self._read() if recall else None
        self._files: dict[str, list[int | str]] = {}

    @property
    def path(self) -> Path:
        """The file of this memory; raises RuntimeError where no home can be found."""
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:32]
        return home() / "verified" / f"{name}.json"

    def knows(self, name: str, facts: os.stat_result, digest: str) -> bool:
        """Tell whether a file, as it is now, was found to have this digest; if so, keep it."""
        known: list[int | str] = [*identity_of(facts), digest]
        if self._before is None or self._before.get(name) != known:
            return False
        self._files[name] = known
        return True

    def keep(self, name: str, facts: os.stat_result, began_ns: int, digest: str) -> None:
        """Remember the digest of a file with `facts`, which was not hashed before `began_ns`."""
        if is_settled(facts, began_ns):
            self._files[name] = [*identity_of(facts), digest]

    def save(self) -> None:
        """Write what is known now, if it is news; a home that cannot be written is no error."""
        if self._files == self._before:
            return
        with suppress(OSError, RuntimeError):
            path = self.path
            if not self._files:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            content = {"schema": SCHEMA, "folder": self.folder, "files": self._files}
            _replace(path, json.dumps(content))
            _forget(path.parent)

    def _read(self) -> Mapping[str, Any]:
        with suppress(OSError, RuntimeError, G2TError, ValueError, KeyError):
            content = parse_json(read_bounded(self.path, MOST_JSON))
            files = content["files"]
            if (content["schema"], content["folder"]) == (SCHEMA, self.folder):
                return files if isinstance(files, dict) else {}
        return {}


def _replace(path: Path, text: str) -> None:
    """Write a file so that whoever reads it at the same time sees the old one or the new one."""
    temporary = path.with_name(f"{path.name}.{token_hex(4)}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _forget(folder: Path) -> None:
    """Look at some memories and remove those that are damaged or whose folder is gone."""
    files = list(folder.iterdir())
    # Not the generator that training draws from, and not always the same ones.
    for file in SystemRandom().sample(files, min(LOOKED_AT, len(files))):
        with suppress(OSError):
            if file.suffix == ".tmp":
                gone = time.time() - file.stat().st_mtime > STALE
            else:
                gone = file.suffix == ".json" and _is_gone(file)
            if gone:
                file.unlink()


def _is_gone(file: Path) -> bool:
    try:
        return not Path(parse_json(read_bounded(file, MOST_JSON))["folder"]).is_dir()
    except (IntegrityError, ValueError, KeyError, TypeError):
        return True
    except G2TError:  # not ours to read
        return False
