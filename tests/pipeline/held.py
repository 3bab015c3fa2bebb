"""Walks in the production setting, by the library and by commands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from g2t.distill.train import distill
from g2t.evaluate import Sources
from g2t.export import ExportSettings, export
from g2t.graph.bundle import Graph, read_graph, write_graph
from g2t.graph.importing import import_graph
from g2t.graph.splits import Split, read_split
from g2t.runtime import Silent
from g2t.stage import Stage
from g2t.teacher.train import teach

FEW: dict[str, Any] = {"train": {"epochs": 4}}
STUDENTS: dict[str, dict[str, Any]] = {
    "hop": {"student": "hop", "model": {"hops": 2}, **FEW},
    "landmark": {"student": "landmark", **FEW},
    "mlp": {"student": "mlp", **FEW},
}
GRAPH = {"nodes": 160, "degree": 6.0, "classes": 3, "features": 6, "noise": 2.0}


def g2t(*words: object) -> Result:
    from g2t_cli.app import app

    return CliRunner().invoke(app, [str(word) for word in words])


def made(folder: Path, **values: Any) -> Graph:
    """Return a generated graph of no folder."""
    settings = {**GRAPH, **values}
    return read_graph(
        import_graph("synthetic:csbm", folder / "raw", settings, None, Silent(), False).path
    )


def store(graph: Graph, out: Path) -> Path:
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        return stage.commit({}).path


def walk(
    folder: Path,
    split: str,
    settings: ExportSettings,
    students: Mapping[str, Mapping[str, Any]] = STUDENTS,
) -> Path:
    """Teach, export and distil beside the folder's graph, in the production setting."""
    values = {"split": split, "setting": "production", "model": {"hidden": 16}, "seed": 2}
    teach(folder / "graph", folder / "teacher", {**values, "train": {"epochs": 10}})
    export(folder / "teacher", folder / "graph", folder / "cache", settings)
    for name, student in students.items():
        distill(folder / "cache", folder / name, student)
    return folder


def sources(folder: Path, student: str, *parts: str) -> Sources:
    return Sources(folder / student, folder / "graph", **{part: folder / part for part in parts})


def split_of(folder: Path) -> Split:
    return read_split(folder / "teacher" / "split.safetensors")
