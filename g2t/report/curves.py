"""Learning curves: loss terms and validation score by epoch, mean and range over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from g2t.artifact import METRICS
from g2t.errors import IntegrityError
from g2t.files import REMAKE, parse_json
from g2t.report.gather import Cell, Entry, Row

TERM = "loss."
#: Most points of a curve; of longer trainings every n-th epoch is kept, and the last.
MOST_POINTS = 120
#: Longest log that is read.
MOST_BYTES = 64 << 20

#: A figure by epoch.
Curve = Mapping[int, float]


def curves(cell: Cell) -> dict[str, list[dict[str, Any]]] | None:
    """Return of each loss term, and of `val`, a curve per student; None where no log is at hand."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in cell.rows:
        for name, by_seed in _terms(row).items():
            found.setdefault(name, []).append({"label": row.label, **_over_seeds(by_seed)})
    named = sorted(found, key=lambda name: name == "val")  # the score stands last
    return {name: found[name] for name in named} or None


def _terms(row: Row) -> dict[str, list[Curve]]:
    """Return the logged terms of a student, a curve per seed."""
    terms: dict[str, list[Curve]] = {}
    for entry in row.entries.values():
        for name, curve in _logged(entry).items():
            terms.setdefault(name, []).append(curve)
    return terms


def _logged(entry: Entry) -> dict[str, dict[int, float]]:
    path = None if entry.student is None else entry.student.path / METRICS
    if path is None or not path.is_file():
        return {}
    curves: dict[str, dict[int, float]] = {}
    for line in _lines(path):
        for key, value in line.items():
            shown = key == "val" or key.startswith(TERM)
            if shown and isinstance(value, int | float):
                curves.setdefault(key.removeprefix(TERM), {})[int(line["epoch"])] = value
    return curves


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read a log; raises IntegrityError where a line is none of ours."""
    lines = []
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too long")
        for text in path.read_bytes().splitlines():
            line = parse_json(text)
            if type(line.get("epoch")) is not int:
                raise ValueError("a line has no epoch")
            lines.append(line)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", REMAKE) from None
    return lines


def _over_seeds(by_seed: Sequence[Curve]) -> dict[str, Any]:
    """Return mean, least and largest over seeds, at the epochs that all of them have."""
    common = sorted(set.intersection(*(set(curve) for curve in by_seed)))
    step = -(-len(common) // MOST_POINTS) or 1
    epochs = sorted({*common[::step], *common[-1:]})
    columns = [[curve[epoch] for curve in by_seed] for epoch in epochs]
    return {
        "epochs": epochs,
        "mean": [_short(sum(column) / len(column)) for column in columns],
        "low": [_short(min(column)) for column in columns],
        "high": [_short(max(column)) for column in columns],
        "seeds": len(by_seed),
    }


def _short(value: float) -> float:
    """Return a figure with as many digits as a curve can show."""
    return float(f"{value:.5g}")
