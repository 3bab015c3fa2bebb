"""`g2t run` of a study."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g2t_cli.output import emit_json, emit_toml, out_or_usage, progress
from g2t_cli.plan import SCHEMA

if TYPE_CHECKING:
    from g2t.study import Cell, Study


@dataclass(frozen=True)
class Request:
    """What was typed: the study, changes to it, and which part of it is to be run."""

    study: str
    sets: Sequence[str]
    only: Sequence[str]
    seeds: Sequence[int] | None
    out: Path | None

    def command(self, out: Path) -> str:
        """Return the call without what selects cells."""
        sets = [word for value in self.sets for word in ("--set", value)]
        return shlex.join(["g2t", "run", self.study, *sets, "--out", str(out)])


def walk_study(
    asked: Request,
    content: Mapping[str, Any],
    root: Path | None,
    device: str,
    print_config: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run the cells asked for, or say what they are; print the tables, or where they are."""
    from g2t.config import layered, parse_sets
    from g2t.study import read_study, run_study, select

    study = read_study(layered(content, parse_sets(asked.sets)))
    chosen = select(study, asked.only, asked.seeds)
    if print_config:
        emit_toml(study.model_dump(mode="json", exclude_defaults=True))
        return
    out = out_or_usage(asked.out)
    if dry_run:
        emit_json(_plan(study, chosen, out))
        return
    with progress(quiet) as show:
        command = asked.command(out)
        table = run_study(study, chosen, out, command, root=root, device=device, progress=show)
    if as_json:
        emit_json(table)
        return
    print(out / "STUDY.md")
    print(out)


def _plan(study: "Study", chosen: Sequence["Cell"], out: Path) -> dict[str, Any]:
    """Describe a walk: every cell asked for, and how it stands with its seeds."""
    from g2t.study import Standing, check_study

    standing = Standing(check_study(study), out)
    cells = []
    for cell in chosen:
        states = {seed: standing.state(cell, seed) for seed in cell.seeds}
        cells.append({"cell": cell.name, "seeds": {str(s): state for s, state in states.items()}})
    found = [state for cell in cells for state in cell["seeds"].values()]
    return {
        "schema": SCHEMA,
        "stage": "study",
        "out": str(out),
        "cells": cells,
        "counts": {state: found.count(state) for state in ("done", "not run", "other settings")},
    }
