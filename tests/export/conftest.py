"""Teachers of the odd graph, each made once, and a disk that need not survive a loss of power."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g2t.cache.reader import Cache
from g2t.teacher.store import open_teacher
from tests.export.graphs import (
    EVERYTHING,
    PLAIN,
    Kind,
    Taught,
    Teach,
    odd_graph,
    store,
    write_teacher,
)
from tests.export.several import ALL, together


@pytest.fixture(scope="module", autouse=True)
def no_sync() -> Iterator[None]:
    """Let files reach the disk when they will: waiting for it would be half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def teach(tmp_path_factory: pytest.TempPathFactory) -> Teach:
    """Give the teacher `teach(name, features, split, **model)` of the odd graph, made once."""
    folder = tmp_path_factory.mktemp("taught")
    graphs: dict[str, Path] = {}
    made: dict[str, Taught] = {}

    def teach(name: str, kind: Kind = "dense", split: str = "public", **model: Any) -> Taught:
        if kind not in graphs:
            graphs[kind] = store(odd_graph(kind=kind), folder / kind)
        key = "-".join(map(str, (name, kind, split, *model.items())))
        if key not in made:
            out = folder / f"teacher-{len(made)}"
            made[key] = write_teacher(graphs[kind], out, name, split=split, **model)
            assert open_teacher(out).description is not None
        return made[key]

    return teach


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Taught]:
    """Of different kinds, depths and widths; the second saw features that the others did not."""
    folder = tmp_path_factory.mktemp("three")
    graph = store(odd_graph(kind="words"), folder / "g")
    return [
        write_teacher(graph, folder / "t1", "gcn", **PLAIN),
        write_teacher(graph, folder / "t2", "gat", features="raw", **EVERYTHING),
        write_teacher(graph, folder / "t3", "sage", **{**PLAIN, "layers": 3}),
    ]


@pytest.fixture(scope="module")
def made(three: list[Taught], tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """The three in one cache, with all signals."""
    return together(three, tmp_path_factory.mktemp("made") / "c", signals=ALL)
