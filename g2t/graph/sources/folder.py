"""`folder:DIR`: a graph artefact that is there already, so that a recipe can start from it."""

from pathlib import Path

from g2t.config import Settings
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.sources import Request, Source


class FolderSettings(Settings):
    """A graph artefact has nothing left to set."""


def _read(settings: FolderSettings, request: Request) -> Graph:
    return read_graph(Path(request.argument))


def _files(settings: FolderSettings, request: Request) -> dict[str, Path]:
    folder = Path(request.argument)
    return {name: folder / name for name in ("graph.safetensors", "graph.json")}


FOLDER = Source(FolderSettings, _read, _files, ("DIR",))
