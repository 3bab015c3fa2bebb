"""What an answer costs, and scores on worse graphs: from `g2t.latency/1` and `g2t.robust/1`.

Both return None where no evaluation has such a block.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from g2t.metrics import spread
from g2t.recipe import TEACHER
from g2t.report.blocks import MODELS, blocks
from g2t.report.gather import Cell, Entry, Row

#: A point of the chart: the model's name, and its hops where these are not all.
Point = tuple[str, int | None]


def latency(cell: Cell) -> list[dict[str, Any]] | None:
    """Return of each student and its teacher how long one answer takes, and the test score.

    `p50_ms` is the median of calls for one node, over seeds their mean; `nodes_per_second` that of
    the largest batch. Teachers read all neighbours, and of several the sum counts.
    """
    found: dict[Point, list[dict[str, Any]]] = {}
    for row in cell.rows:
        for entry in row.entries.values():
            timed = entry.result.get("latency")
            for key, figures in _points(row, entry, timed) if timed else ():
                if key != (TEACHER, None) or _first_speaks(found, key, row.label):
                    found.setdefault(key, []).append({**figures, "of": row.label})
    points = [
        {
            "label": label,
            "hops": hops,
            "seeds": len(every),
            **{name: _mean([known[name] for known in every]) for name in FIGURES},
        }
        for (label, hops), every in found.items()
    ]
    return sorted(points, key=lambda point: point["label"] != TEACHER) or None


#: What a point says.
FIGURES = ("p50_ms", "nodes_per_second", "parameters", "bytes", "score")


def _first_speaks(found: Mapping[Point, Sequence[Mapping[str, Any]]], key: Point, of: str) -> bool:
    """Tell whether a teacher is timed beside the first student; others timed it again."""
    return key not in found or found[key][0]["of"] == of


def _mean(values: Sequence[float | None]) -> float | None:
    mean: float | None = spread(values)["mean"]
    return mean


def _points(
    row: Row, entry: Entry, timed: Mapping[str, Any]
) -> Iterator[tuple[Point, dict[str, Any]]]:
    """Yield what was timed together: the student, it without hops, and the teachers' sum."""
    student = entry.result.get("student") or {}
    models = timed["models"]
    for index, model in enumerate(known for known in models if known["role"] == "student"):
        bare = index > 0 and model["hops"] == 0
        score = student["by_hops"].get("0", {}).get("test") if bare else student["test"]
        if index == 0 or bare:
            yield (row.label, 0 if bare else None), {**_cost([model]), "score": score}
    full = [known for known in models if known["role"] == TEACHER and known["fetch"] == "full"]
    if full:
        score = (entry.result.get(TEACHER) or {}).get("test")
        yield (TEACHER, None), {**_cost(full), "score": score}


def _cost(models: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the cost of models that are asked one after the other."""
    one, many = ([model["batches"][which] for model in models] for which in (0, -1))
    return {
        "p50_ms": sum(batch["p50_ms"] for batch in one),
        "nodes_per_second": 1 / sum(1 / batch["nodes_per_second"] for batch in many),
        "parameters": sum(model["parameters"] for model in models),
        "bytes": sum(model["bytes"] for model in models),
    }


def robust(cell: Cell) -> dict[str, list[dict[str, Any]]] | None:
    """Return of each corruption a curve per student and one of the teacher: score by share.

    Over seeds: mean and deviation of the means over draws; of one seed those of its draws.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in cell.rows:
        seeds = [block["curves"] for block in blocks(row, "robust")]
        for kind in seeds[0] if seeds else ():
            lines = found.setdefault(kind, [])
            for model in MODELS:
                label = row.label if model != TEACHER else TEACHER
                curves = [seed[kind][model] for seed in seeds if model in (seed.get(kind) or {})]
                if curves and label not in [line["label"] for line in lines]:
                    lines.append({"label": label, **_curve(curves)})
    return {kind: lines for kind, lines in found.items() if lines} or None


def _curve(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    shares = [point["share"] for point in seeds[0]]
    alike = [seed for seed in seeds if [point["share"] for point in seed] == shares]
    scores = []
    for index in range(len(shares)):
        points = [seed[index] for seed in alike]
        several = len(points) > 1
        found = spread([point["mean"] for point in points]) if several else points[0]
        scores.append({key: found[key] for key in ("mean", "std", "values")})
    return {"shares": shares, "scores": scores, "seeds": len(alike)}
