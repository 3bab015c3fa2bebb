"""Where graphs come from: one file per family, one table line per source.

A source is named `KIND:ARGUMENT`. Its row names a `Source`: the settings that it takes, and the
function that reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from g2t.config import Settings, look_up
from g2t.errors import UsageError, did_you_mean
from g2t.graph.bundle import Graph

S = TypeVar("S", bound=Settings)

SOURCES: Mapping[str, str] = {
    "planetoid": "g2t.graph.sources.pyg:PLANETOID",
    "citationfull": "g2t.graph.sources.pyg:CITATION_FULL",
    "amazon": "g2t.graph.sources.pyg:AMAZON",
    "coauthor": "g2t.graph.sources.pyg:COAUTHOR",
    "hetero": "g2t.graph.sources.pyg:HETEROPHILOUS",
    "webkb": "g2t.graph.sources.pyg:WEBKB",
    "linkx": "g2t.graph.sources.pyg:LINKX",
    "npz": "g2t.graph.sources.npz:NPZ",
    "folder": "g2t.graph.sources.folder:FOLDER",
    "table": "g2t.graph.sources.table:TABLE",
    "synthetic": "g2t.graph.sources.synthetic:SYNTHETIC",
}


@dataclass(frozen=True)
class Request:
    """What a reader gets beside its settings.

    `argument` follows the colon of the source's name; `root` holds PyG's class folders and is never
    written to (None: download); `note` takes sentences for the user, such as what was left out.
    """

    argument: str
    root: Path | None
    note: Callable[[str], None]

    def file(self, name: str) -> Path:
        """Return where a file lies that is named in settings: here, or else below `root`."""
        path = Path(name)
        if self.root is None or path.exists() or not (self.root / path).exists():
            return path
        return self.root / path


@dataclass(frozen=True)
class Source(Generic[S]):
    """One kind of source: its settings, its reader, and the files (by role) that it will read.

    `names` are the arguments that it takes, for `g2t data ls`; a source that `downloads` does so in
    `files` where no root is given.
    """

    settings: type[S]
    read: Callable[[S, Request], Graph]
    files: Callable[[S, Request], dict[str, Path]]
    names: tuple[str, ...] = ()
    downloads: bool = False


def find_source(name: str) -> tuple[Source[Any], str]:
    """Return the source and argument of `KIND:ARGUMENT`; raises UsageError for an unknown kind."""
    kind, colon, argument = name.partition(":")
    if not colon:
        raise UsageError(f"source {name!r} is not KIND:ARGUMENT", did_you_mean(kind, SOURCES))
    return look_up(SOURCES, kind, "source"), argument
