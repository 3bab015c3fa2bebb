"""A report as an artefact: `index.html`, `report.md` and `report.json`, made of one content."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from g2t.artifact import read_json, write_json
from g2t.errors import MissingExtra
from g2t.report.content import content_of
from g2t.report.find import find
from g2t.report.gather import gather, inputs_of
from g2t.report.projection import check_given, has_tsne
from g2t.runtime import Progress, Silent
from g2t.stage import Stage

PAGE, TEXT, DATA = "index.html", "report.md", "report.json"


def report(
    runs: Sequence[Path],
    out: Path,
    *,
    graph: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a report of some folders to OUT and return its content, `g2t.report/1`.

    `graph` is where students are asked for their embeddings; without it one that lies in the
    folders. Raises MissingExtra without matplotlib and jinja2, InputError where nothing is there to
    report, IntegrityError where an artefact was changed or the graph belongs to none of them.
    """
    check_extra()
    progress = progress or Silent()
    found = find(runs)
    cells = gather(found)
    if graph is not None:
        check_given(graph, cells)
    own = [cell.graph_digest for cell in cells] if graph is not None else []
    inputs = {**inputs_of(cells), **{f"graph-{i}": digest for i, digest in enumerate(own)}}
    tsne = has_tsne()
    with Stage(out, "report", {"projection": _methods(tsne)}, inputs, 0, force) as stage:
        if stage.finished is None:
            content = content_of(cells, found, graph, tsne, progress)
            _write(stage.path, content)
            students = sum(len(cell.rows) for cell in cells)
            stage.commit({"tables": len(cells), "students": students})
    return read_json(out / DATA)


def check_extra() -> None:
    """Raise MissingExtra unless what pages are made with is installed."""
    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"a report needs {' and '.join(missing)}", "pip install 'g2t[report]'")


def _methods(tsne: bool) -> list[str]:
    return ["pca", "t-sne"] if tsne else ["pca"]


def _write(folder: Path, content: dict[str, Any]) -> None:
    from g2t.report.markdown import markdown_of
    from g2t.report.page import page_of

    write_json(folder / DATA, content)
    content = json.loads((folder / DATA).read_text(encoding="utf-8"))
    (folder / TEXT).write_text(markdown_of(content), encoding="utf-8")
    (folder / PAGE).write_text(page_of(content), encoding="utf-8")
