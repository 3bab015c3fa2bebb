"""The headline of a report: scores over seeds, differences to the teacher, agreement."""

from collections.abc import Iterable, Mapping
from typing import Any

from g2t.metrics import difference, spread
from g2t.recipe import TEACHER
from g2t.report.gather import Cell, Entry, Row
from g2t.report.words import OWN

#: What a test score is made of in production.
PARTS = ("tran", "ind")


def headline(cell: Cell) -> dict[str, Any]:
    """Return the teachers' rows and the students', and which student validation would choose.

    Scores are fractions. A difference is paired by seed, each student with its own teacher.
    """
    students = [_student(row) for row in cell.rows if row.first.kind]
    known = [row for row in students if row["val"]["mean"] is not None]
    best = max(known, key=lambda row: float(row["val"]["mean"]), default=None)
    return {
        "rows": [*_teachers(cell), *students],
        "chosen": None if best is None else best["label"],
    }


def _student(row: Row) -> dict[str, Any]:
    entries = row.entries
    own, taught = _scored(entries, "student"), _scored(entries, TEACHER)
    scores = {seed: found.get("test") for seed, found in own.items()}
    rivals = {seed: found.get("test") for seed, found in taught.items()}
    agreement = [entry.result.get("agreement") for entry in entries.values()]
    return {
        "label": row.label,
        "role": "student",
        "kind": row.first.kind,
        "reads": _reads(row.first),
        **_spreads(own),
        "minus_teacher": difference(_known(scores), _known(rivals)),
        "agreement": spread(agreement),
    }


def _known(scores: Mapping[int, float | None]) -> dict[int, float]:
    return {seed: score for seed, score in scores.items() if score is not None}


def _scored(entries: Mapping[int, Entry], role: str) -> dict[int, Mapping[str, Any]]:
    """Return a model's scores by seed; of a student without evaluation, that of its training."""
    found: dict[int, Mapping[str, Any]] = {}
    for seed in sorted(entries):
        entry = entries[seed]
        scores = entry.result.get(role)
        if scores is None and role == "student" and entry.student is not None:
            scores = {"val": entry.student.record.get("summary", {}).get("val"), "test": None}
        found[seed] = scores or {}
    return found


def _spreads(scores: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return seeds, validation and test scores, and in production what the latter is made of."""
    every = list(scores.values())
    row: dict[str, Any] = {"seeds": list(scores)}
    row |= {part: spread([found.get(part) for found in every]) for part in ("val", "test")}
    if any("settings" in found for found in every):
        settings = [found.get("settings", {}) for found in every]
        row["settings"] = {part: spread([known.get(part) for known in settings]) for part in PARTS}
    return row


def _reads(entry: Entry) -> str:
    """Say what a student reads of the graph when it answers."""
    hops = (entry.facts.get("model") or {}).get("hops")
    if hops is None:
        counts = (entry.result.get("student") or {}).get("by_hops") or {}
        hops = max(map(int, counts), default=0)
    return f"0 to {hops} hops" if hops else OWN


def _teachers(cell: Cell) -> list[dict[str, Any]]:
    """Return a row per teacher: entries of one seed share a row if they had the same teachers."""
    groups: list[dict[int, Entry]] = []
    for entry in _taught(cell):
        for group in groups:
            twin = group.get(entry.seed)
            if twin is None or twin.teachers == entry.teachers:
                group.setdefault(entry.seed, entry)
                break
        else:
            groups.append({entry.seed: entry})
    rows = []
    for group in groups:
        of = "" if len(groups) == 1 else f" of {_label_of(cell, next(iter(group.values())))}"
        named = next(iter(group.values())).result[TEACHER]["name"]
        rows.append(
            {
                "label": f"{TEACHER}{of}",
                "role": TEACHER,
                "kind": _counted(named),
                "reads": "the whole graph",
                **_spreads(_scored(dict(sorted(group.items())), TEACHER)),
                "minus_teacher": None,
                "agreement": None,
            }
        )
    return rows


def _taught(cell: Cell) -> Iterable[Entry]:
    for row in cell.rows:
        for seed in sorted(row.entries):
            if row.entries[seed].result.get(TEACHER) is not None:
                yield row.entries[seed]


def _label_of(cell: Cell, entry: Entry) -> str:
    return next(row.label for row in cell.rows if entry in row.entries.values())


def _counted(name: str) -> str:
    """Write `gcn + gcn + gcn` as `3 × gcn`."""
    parts = name.split(" + ")
    alike = len(parts) > 1 and len(set(parts)) == 1
    return f"{len(parts)} × {parts[0]}" if alike else name
