"""Latency beside score, and scores under damage: blocks `latency` and `robust` of evaluations."""

from collections.abc import Iterator, Mapping
from typing import Any

from g2t.metrics import spread
from g2t.recipe import TEACHER
from g2t.report.blocks import MODELS, blocks
from g2t.report.gather import Cell

#: The median of the seconds that one answer takes, in thousandths.
P50 = "p50_ms"
#: What a setting of a damage is called, where it is a number.
LEVELS = ("level", "share", "amount", "std")


def latency(cell: Cell) -> list[dict[str, Any]] | None:
    """Return of each student, and of its teacher, the median latency of one node and its score."""
    points: list[dict[str, Any]] = []
    for row in cell.rows:
        known = [dict(_p50s(block)) for block in blocks(row, "latency")]
        for model in MODELS:
            values = [seed[model] for seed in known if model in seed]
            scores = [(entry.result.get(model) or {}).get("test") for entry in row.entries.values()]
            score = spread(scores)["mean"]
            label = row.label if model != TEACHER else TEACHER
            if values and score is not None and label not in [point["label"] for point in points]:
                mean = sum(values) / len(values)
                points.append({"label": label, P50: mean, "score": score, "seeds": len(values)})
    return points or None


def _p50s(block: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield student and teacher with the first median that stands below their names."""
    for model in MODELS:
        value = _first_p50(block.get(model))
        if value is not None:
            yield model, value


def _first_p50(block: Any) -> float | None:
    if not isinstance(block, Mapping):
        return None
    value = block.get(P50)
    if isinstance(value, int | float):
        return float(value)
    below = (_first_p50(part) for part in block.values())
    return next((found for found in below if found is not None), None)


def robust(cell: Cell) -> dict[str, list[dict[str, Any]]] | None:
    """Return of each damage a curve per student and of the teacher: score by level, over seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in cell.rows:
        seeds = blocks(row, "robust")
        names = [name for name, part in (seeds[0] if seeds else {}).items() if _is_curve(part)]
        for name in names:
            lines = found.setdefault(name, [])
            curves = [seed[name] for seed in seeds if _is_curve(seed.get(name))]
            for model in MODELS:
                label = row.label if model != TEACHER else TEACHER
                line = _line(curves, model)
                if line is not None and label not in [known["label"] for known in lines]:
                    lines.append({"label": label, **line})
    return {name: lines for name, lines in found.items() if lines} or None


def _is_curve(part: Any) -> bool:
    steps = part if isinstance(part, list) else []
    return bool(steps) and all(isinstance(s, Mapping) and _level(s) is not None for s in steps)


def _level(step: Mapping[str, Any]) -> float | None:
    return next((float(step[key]) for key in LEVELS if key in step), None)


def _line(curves: list[list[Mapping[str, Any]]], model: str) -> dict[str, Any] | None:
    levels = [_level(step) for step in curves[0]]
    same = [curve for curve in curves if [_level(step) for step in curve] == levels]
    scores = [spread([_score(curve[i].get(model)) for curve in same]) for i in range(len(levels))]
    if all(score["mean"] is None for score in scores):
        return None
    return {"levels": levels, "scores": scores}


def _score(value: Any) -> float | None:
    found = value.get("test") if isinstance(value, Mapping) else value
    return float(found) if isinstance(found, int | float) else None
