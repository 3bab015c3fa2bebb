"""The stage `import`: from a source to a graph artefact."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2t.artifact import Artifact, file_digest
from g2t.config import Settings, validate
from g2t.errors import InputError
from g2t.graph.bundle import Graph, write_graph
from g2t.graph.sources import Request, Source, find_source
from g2t.runtime import Progress
from g2t.stage import Stage

#: Left out of a record where they are not set: a plain copy is what it was before there were any.
CONTROLS = frozenset({"rewire", "permute"})


def resolve_import(source: str, values: Mapping[str, Any]) -> Settings:
    """Return the validated settings of a source; raises UsageError naming the first wrong one."""
    settings: Settings = validate(find_source(source)[0].settings, values)
    return settings


@dataclass(frozen=True)
class ImportPlan:
    """An import before it starts: `asked` and the digests of its files are its identity."""

    source: Source[Any]
    settings: Settings
    request: Request
    asked: dict[str, Any]
    inputs: dict[str, str]
    seed: int


def plan_import(
    source: str, values: Mapping[str, Any], root: Path | None, progress: Progress
) -> ImportPlan:
    """Resolve the settings and digest the files of an import, downloading them if need be.

    Raises UsageError for wrong settings, InputError for a missing file.
    """
    kind, argument = find_source(source)
    settings = validate(kind.settings, values)
    request = Request(argument, root, progress.note)
    files = kind.files(settings, request)
    inputs = {role: _digest(path) for role, path in files.items()}
    asked = _config(source, argument, settings, files)
    return ImportPlan(kind, settings, request, asked, inputs, getattr(settings, "seed", 0))


def import_graph(
    source: str,
    out: Path,
    values: Mapping[str, Any],
    root: Path | None,
    progress: Progress,
    force: bool,
) -> Artifact:
    """Read a source and write it as a graph artefact at `out`.

    `values` are settings of the source, `root` the folder that holds PyG's class folders. The same
    settings and the same files again give the artefact that is there. Raises UsageError for wrong
    settings and InputError for wrong data; then nothing is left behind.
    """
    plan = plan_import(source, values, root, progress)
    with Stage(out, "graph", plan.asked, plan.inputs, plan.seed, force) as stage:
        if stage.finished is not None:
            progress.note(f"{out} is done already")
            return stage.finished
        graph = plan.source.read(plan.settings, plan.request)
        write_graph(graph, stage.path)
        return stage.commit(_summary(graph))


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _config(
    source: str, argument: str, settings: Settings, files: Mapping[str, Path]
) -> dict[str, Any]:
    """Return what identifies the import: no paths, since files count by digest, and no seed."""
    last = Path(argument).name
    is_path = bool(last) and any(last in (file.name, file.parent.name) for file in files.values())
    name = source.partition(":")[0] if is_path or not argument else source
    asked = settings.model_dump(mode="json", exclude={"seed", *files})
    asked = {k: v for k, v in asked.items() if k not in CONTROLS or v is not None}
    return {"source": name, **asked}


def was_asked(record: Mapping[str, Any], source: str, values: Mapping[str, Any]) -> bool:
    """Tell whether a graph's record has a source and its settings; files are not looked at."""
    asked = resolve_import(source, values).model_dump(mode="json")
    config, seed = record["config"], asked.pop("seed", 0)
    controls = {k: v for k, v in asked.items() if k in CONTROLS and v is not None}
    known = {k: v for k, v in asked.items() if k not in CONTROLS and k in config}
    return (
        config["source"] in (source, source.partition(":")[0])
        and record["seed"] == seed
        and controls == {k: v for k, v in config.items() if k in CONTROLS}
        and all(config[key] == value for key, value in known.items())
    )


def _summary(graph: Graph) -> dict[str, int]:
    return {
        "nodes": graph.nodes,
        "edges": len(graph.edges.column_E),
        "classes": len(graph.classes),
    }
