"""The tables of a study: scores of every variant, and paired differences with their intervals."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from g2t.metrics import CONFIDENCE, difference, spread
from g2t.study.plan import Cell, Study, cells_of
from g2t.study.standing import Standing

SCHEMA = "g2t.study/1"

#: Evaluations of one cell, by seed.
Results = Mapping[int, Mapping[str, Any]]


def tabulate_study(study: Study, standing: Standing, command: str) -> dict[str, Any]:
    """Return `g2t.study/1`: a table per tier, recipe, setting and student, from all that is done.

    Scores are fractions. A difference is paired by seed, over the seeds that both variants have.
    `command` is the call that cells not run are to be appended to.
    """
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells_of(study):
        groups.setdefault((cell.tier, *cell.place, cell.student), []).append(cell)
    tables, not_run = [], []
    for key, cells in groups.items():
        states = {(c, seed): standing.state(c, seed) for c in cells for seed in c.seeds}
        done: dict[str, Results] = {
            c.variant: {s: standing.result(c, s) for s in c.seeds if states[c, s] == "done"}
            for c in cells
        }
        names = dict(zip(("tier", "recipe", "setting", "student"), key, strict=True))
        tables.append({**names, **table_of(done, study.study.rivals)})
        for cell in cells:
            for state in ("not run", "other settings"):
                seeds = [seed for seed in cell.seeds if states[cell, seed] == state]
                if seeds:
                    not_run.append(_missing(cell.name, state, seeds, command))
    comparisons = sum(table["comparisons"] for table in tables)
    return {
        "schema": SCHEMA,
        "title": study.study.title,
        "rivals": list(study.study.rivals),
        "confidence": CONFIDENCE,
        "comparisons": comparisons,
        "clear": sum(table["clear"] for table in tables),
        "tables": tables,
        "by_validation": rank(tables, study.study.rivals[0]),
        "not_run": not_run,
        "command": command,
    }


def _missing(name: str, state: str, seeds: Sequence[int], command: str) -> dict[str, Any]:
    part = shlex.join(["--only", name, "--seeds", ",".join(map(str, seeds))])
    return {"cell": name, "state": state, "seeds": list(seeds), "command": f"{command} {part}"}


def table_of(done: Mapping[str, Results], rivals: Sequence[str]) -> dict[str, Any]:
    """Return one table: the teacher, and a row per variant that was run with any seed."""
    scored = {seed: result for results in done.values() for seed, result in results.items()}
    tests = {name: _scores(results, "test") for name, results in done.items()}
    vals = {name: _scores(results, "val") for name, results in done.items()}
    rows = []
    for name, results in done.items():
        if not results:
            continue
        others = [rival for rival in rivals if rival != name and rival in done]
        minus = {rival: difference(tests[name], tests[rival]) for rival in others}
        minus_val = {rival: difference(vals[name], vals[rival]) for rival in others}
        rows.append({"variant": name, **_row(results), "minus": minus, "minus_val": minus_val})
    pairs = {
        frozenset((row["variant"], rival)): found  # two rivals meet in two rows
        for row in rows
        for rival, found in row["minus"].items()
    }
    intervals = [found for found in pairs.values() if found and found["low"] is not None]
    teachers = {seed: {"student": scored[seed]["teacher"]} for seed in sorted(scored)}
    return {
        "metric": next(iter(scored.values()))["metric"] if scored else None,
        "teacher": _scored(teachers) if teachers else None,
        "rows": rows,
        "comparisons": len(intervals),
        "clear": sum(found["clear"] for found in intervals),
    }


def _row(results: Results) -> dict[str, Any]:
    """Return the scores of a variant over its seeds."""
    row = _scored(results)
    students = {seed: result["student"] for seed, result in results.items()}
    if all(student["by_hops"] for student in students.values()):
        row["no_hop"] = spread([student["by_hops"]["0"]["test"] for student in students.values()])
    return {**row, "agreement": spread([result["agreement"] for result in results.values()])}


def _scored(results: Results) -> dict[str, Any]:
    """Return validation and test score, and in production what the latter is made of."""
    students = [result["student"] for result in results.values()]
    row: dict[str, Any] = {"seeds": list(results)}
    row |= {part: spread([student[part] for student in students]) for part in ("val", "test")}
    if "settings" in students[0]:
        parts = students[0]["settings"]
        row["settings"] = {k: spread([s["settings"][k] for s in students]) for k in parts}
    return row


def _scores(results: Results, part: str) -> dict[int, float]:
    """Return a score by seed, without those that have none."""
    scores = {seed: result["student"][part] for seed, result in results.items()}
    return {seed: score for seed, score in scores.items() if score is not None}


def rank(tables: Sequence[Mapping[str, Any]], rival: str) -> dict[str, list[dict[str, Any]]]:
    """Return, of each tier, the variants by their mean validation gain over a rival, best first.

    Every table counts the same, whatever its number of seeds. No test score is looked at, so a
    later tier may take the best of an earlier one.
    """
    gains: dict[str, dict[str, list[float]]] = {}
    for table in tables:
        tier = gains.setdefault(table["tier"], {})
        for row in table["rows"]:
            found = row["minus_val"].get(rival)
            if found is not None:
                tier.setdefault(row["variant"], []).append(found["mean"])
    return {
        tier: sorted(
            (
                {"variant": name, "gain": sum(values) / len(values), "tables": len(values)}
                for name, values in variants.items()
            ),
            key=lambda entry: (-float(entry["gain"]), entry["variant"]),
        )
        for tier, variants in gains.items()
    }
