"""`g2t.report/1`: all that a report says, as JSON; the pages are made from it alone."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import g2t
from g2t.artifact import RECORD, read_json
from g2t.report import blocks, cost
from g2t.report.curves import curves
from g2t.report.find import Found
from g2t.report.gather import Cell, Row
from g2t.report.headline import headline
from g2t.report.projection import projections, setup_of
from g2t.runtime import Progress

SCHEMA = "g2t.report/1"

#: The parts of a cell, in the order of the page, and the command that gives what a part shows.
COMMANDS: Mapping[str, str] = {
    "curves": "g2t report with the folder of the student: g2t distill CACHE --out STUDENT",
    "card": "g2t eval STUDENT --graph G --cache C --teacher T --card --out E",
    "degree": "g2t eval STUDENT --graph G --cache C --teacher T --breakdown --out E",
    "homophily": "g2t eval STUDENT --graph G --cache C --teacher T --breakdown --out E",
    "latency": "g2t eval STUDENT --graph G --teacher T --latency --out E",
    "robust": "g2t eval STUDENT --graph G --teacher T --robust --out E",
    "hops": "g2t distill CACHE --student hop",
    "projection": "g2t report RUN… --graph G, with the student's folder beside its evaluation",
}


def content_of(
    cells: Sequence[Cell], found: Found, graph: Path | None, tsne: bool, progress: Progress
) -> dict[str, Any]:
    """Return what a report of some cells says; scores are fractions."""
    return {
        "schema": SCHEMA,
        "g2t": g2t.__version__,
        "cells": [_cell(cell, found, graph, tsne, progress) for cell in cells],
        "lineage": _lineage(cells, found),
    }


def _cell(
    cell: Cell, found: Found, graph: Path | None, tsne: bool, progress: Progress
) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "curves": curves(cell),
        "card": blocks.card(cell),
        "degree": blocks.groups(cell, "degree"),
        "homophily": blocks.groups(cell, "homophily"),
        "latency": cost.latency(cell),
        "robust": cost.robust(cell),
        "hops": blocks.hops(cell),
        "projection": _projection(cell, found, graph, tsne, progress),
    }
    facts = {"graph": cell.graph, "graph_digest": cell.graph_digest, "metric": cell.metric}
    splits = {
        entry.split["digest"]: {**entry.split, "seed": entry.seed}
        for row in cell.rows
        for entry in row.entries.values()
    }
    return {
        **facts,
        "split": cell.split,
        "setting": cell.setting,
        "seeds": sorted({seed for row in cell.rows for seed in row.entries}),
        "splits": sorted(splits.values(), key=lambda split: int(split["seed"])),
        "headline": headline(cell),
        **parts,
        "notes": [note for row in cell.rows for note in _notes(row)],
        "absent": {name: COMMANDS[name] for name, part in parts.items() if part is None},
    }


def _notes(row: Row) -> Iterator[str]:
    """Yield a sentence where evaluations of one student do not say the same of it."""
    seeds = [seed for seed in sorted(row.entries) if row.entries[seed].differs]
    if seeds:
        named = ", ".join(map(str, seeds))
        yield (
            f"{row.label}: its evaluations differ in its scores (seed {named}); those of the "
            "first that was given stand here."
        )


def _projection(
    cell: Cell, found: Found, graph: Path | None, tsne: bool, progress: Progress
) -> dict[str, Any] | None:
    if all(row.first.student is None for row in cell.rows):
        return None
    setup = setup_of(cell, found.graphs() if graph is None else [graph])
    if setup is None:
        return None
    progress.note(f"{cell.graph}: embeddings of the first seed")
    return projections(cell, setup, tsne)


def _lineage(cells: Sequence[Cell], found: Found) -> list[dict[str, Any]]:
    """Return a line per artefact that the report shows or that what it shows was made from."""
    lines: list[dict[str, Any]] = []
    for row in (row for cell in cells for row in cell.rows):
        for seed in sorted(row.entries):
            entry = row.entries[seed]
            made = [*entry.evaluations, *([entry.student] if entry.student else [])]
            lines += [_line(artifact.record, row.label, seed, entry.split) for artifact in made]
    wanted = {digest for line in lines for digest in line["inputs"].values()}
    for digest, path in found.others.items():
        record = read_json(path / RECORD)
        if digest in wanted or record["kind"] in ("graph", "cache"):
            lines.append(_line(record, "", record.get("seed"), None))
    return lines


def _line(
    record: Mapping[str, Any], label: str, seed: int | None, split: Mapping[str, Any] | None
) -> dict[str, Any]:
    made_by = record.get("environment", {})
    return {
        "kind": record["kind"],
        "label": label,
        "seed": seed,
        "digest": record["digest"],
        "inputs": dict(record["inputs"]),
        "split": None if split is None else dict(split),
        "g2t": record.get("g2t"),
        "command": _command(made_by.get("command", [])),
    }


def _command(words: Sequence[str]) -> str:
    """Return a command line as it can be typed again."""
    return shlex.join(["g2t", *map(str, words[1:])]) if words else ""
