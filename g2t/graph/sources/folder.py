"""`folder:DIR`: a graph artefact that is there already, so that a recipe can start from it."""

from pathlib import Path

from pydantic import Field

from g2t.config import Settings
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.rewire import relabelled, rewired
from g2t.graph.sources import Request, Source


class FolderSettings(Settings):
    """A graph as it is, or as a control: seeds of `g2t.graph.rewire`, None for none."""

    rewire: int | None = Field(None, ge=0, description="swap edges at random, degrees stay")
    permute: int | None = Field(None, ge=0, description="move all edges to other nodes")


def _read(settings: FolderSettings, request: Request) -> Graph:
    graph = read_graph(Path(request.argument))
    if settings.rewire is not None:
        graph = rewired(graph, settings.rewire)
    return graph if settings.permute is None else relabelled(graph, settings.permute)


def _files(settings: FolderSettings, request: Request) -> dict[str, Path]:
    folder = Path(request.argument)
    return {name: folder / name for name in ("graph.safetensors", "graph.json")}


FOLDER = Source(FolderSettings, _read, _files, ("DIR",))
