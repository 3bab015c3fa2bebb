"""What evaluations say beside scores, over seeds: card, degrees, homophily, hops, cost, robustness.

Every function returns None where no evaluation has its block.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from g2t.metrics import spread
from g2t.recipe import TEACHER
from g2t.report.gather import Cell, Row

MODELS = ("student", TEACHER)


def blocks(row: Row, name: str) -> list[Any]:
    """Return a block of an evaluation by seed, of the seeds that have it."""
    found = (row.entries[seed].result.get(name) for seed in sorted(row.entries))
    return [block for block in found if block is not None]


def hops(cell: Cell) -> list[dict[str, Any]] | None:
    """Return each student's test score with 0, 1, … K hops at hand; in production `ind` too."""
    found = []
    for row in cell.rows:
        every = [entry.result.get("student") or {} for entry in row.entries.values()]
        counts = every[0].get("by_hops") or {}
        if not counts or not all(
            (known.get("by_hops") or {}).keys() == counts.keys() for known in every
        ):
            continue
        ordered = sorted(counts, key=int)
        line = {"label": row.label, "hops": [int(count) for count in ordered]}
        line["test"] = [spread([s["by_hops"][count]["test"] for s in every]) for count in ordered]
        if "settings" in counts[ordered[0]]:
            line["ind"] = [
                spread([s["by_hops"][count]["settings"]["ind"] for s in every]) for count in ordered
            ]
        found.append(line)
    return found or None


def card(cell: Cell) -> dict[str, Any] | None:
    """Return what each student inherits, measure by measure, and its CKA with the teacher's layers.

    Over seeds: mean and standard deviation; of one seed the standard error over the card's draws.
    """
    rows: list[dict[str, Any]] = []
    levels: dict[str, str] = {}
    teacher = ""
    for row in cell.rows:
        cards = blocks(row, "card")
        if not cards:
            continue
        levels, teacher = {**cards[0]["levels"], **levels}, cards[0]["teacher"]
        for index, first in enumerate(cards[0]["students"]):
            if first["role"] != "student":
                continue  # a baseline has a row of its own
            same = [known["students"][index] for known in cards if len(known["students"]) > index]
            hops = first["hops"]
            rows.append(
                {
                    "label": row.label,
                    "hops": hops,
                    "seeds": len(same),
                    "inheritance": _estimates([known["inheritance"] for known in same]),
                    "values": _estimates([known["values"] for known in same]),
                    "cka": _mean_matrix([known["cka"] for known in same]),
                }
            )
    return {"levels": levels, "teacher": teacher, "rows": rows} if rows else None


def _estimates(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each measure's mean over the seeds that have it, with its spread, or the reason."""
    found: dict[str, Any] = {}
    for name, first in seeds[0].items():
        known = [seed[name] for seed in seeds if seed[name]["value"] is not None]
        values = spread([estimate["value"] for estimate in known])
        error = values["std"] if len(known) > 1 else first["standard_error"]
        found[name] = {"mean": values["mean"], "error": error, "n": len(known)}
        if not known:
            found[name]["reason"] = first.get("reason", "")
    return found


def _mean_matrix(matrices: Sequence[Sequence[Sequence[float | None]]]) -> list[list[float | None]]:
    first = matrices[0]
    alike = [
        known for known in matrices if len(known) == len(first) and len(known[0]) == len(first[0])
    ]
    return [
        [spread([known[i][j] for known in alike])["mean"] for j in range(len(first[0]))]
        for i in range(len(first))
    ]


def groups(cell: Cell, by: str) -> dict[str, Any] | None:
    """Return scores by groups of test nodes: `by` is `degree` or `homophily`.

    A point per bin and model; seeds whose bins differ from those of the first are left out.
    """
    lines: list[dict[str, Any]] = []
    bins: list[tuple[float, float]] | None = None
    counts: list[float | None] = []
    for row in cell.rows:
        breakdowns = [block.get(by) for block in blocks(row, "breakdown")]
        for model in MODELS:
            if model == TEACHER and any(line["role"] == TEACHER for line in lines):
                continue
            mine = [list(_bins(known)) for known in breakdowns if known]
            if not mine:
                continue
            bins = bins or [key for key, _ in mine[0]]
            same = [dict(known) for known in mine if [key for key, _ in known] == bins]
            scores = [spread([known[key][model] for known in same]) for key in bins]
            if same and any(score["mean"] is not None for score in scores):
                label = row.label if model == "student" and row.first.kind else TEACHER
                lines.append({"label": label, "role": model, "scores": scores, "seeds": len(same)})
                counts = [spread([known[key]["nodes"] for known in same])["mean"] for key in bins]
    if not lines or bins is None:
        return None
    ordered = sorted(lines, key=lambda line: line["role"] != TEACHER)
    ends = [{"low": low, "high": high} for low, high in bins]
    return {"bins": ends, "nodes": counts, "lines": ordered}


def _bins(parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[tuple[float, float], Any]]:
    """Yield the ends of each bin that has nodes, and the bin; that of no neighbours has none."""
    for part in parts:
        if part["nodes"] and part["low"] is not None:
            yield (part["low"], part["high"]), part
