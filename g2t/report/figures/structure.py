"""Figures of what students know of the graph: the report card, and their embeddings."""

from collections.abc import Mapping
from typing import Any

from g2t.report.figures.canvas import SERIES
from g2t.report.figures.charts import Dot, cloud, dots, heat
from g2t.report.figures.series import Figure, Names, Panel, over, said
from g2t.report.projection import class_counts
from g2t.report.words import variant


def card(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    """Return what each student inherits by measure, and the CKA of its blocks."""
    part = cell["card"]
    drawn = names.drawn(part["rows"])
    rows: dict[str, list[Dot]] = {}
    for measure in part["levels"]:
        found = [(s, row["hops"] is not None, row["inheritance"][measure]) for s, row in drawn]
        rows[measure] = [
            Dot(s or 0, share["mean"], share["error"] or 0.0, hollow)
            for s, hollow, share in found
            if share["mean"] is not None
        ]
    shown = {measure: found for measure, found in rows.items() if found}
    shares = "; ".join(
        f"{variant(row)} "
        + said(list(shown), [row["inheritance"][measure]["mean"] for measure in shown])
        for _, row in drawn
    )
    panels = []
    if shown:
        svg = dots(f"{name}-shares", f"Inherited structure in %: {shares}", shown)
        panels.append(Panel("inherited, % of the way from raw features to the teacher", svg))
    blocks = {
        f"{variant(row)}{_block(row, index)}": values
        for _, row in drawn
        for index, values in enumerate(row["cka"])
    }
    alt = "CKA in % of student blocks with teacher layers: " + "; ".join(
        f"{label}: {', '.join('none' if v is None else f'{100 * v:.0f}' for v in values)}"
        for label, values in blocks.items()
    )
    if blocks:
        svg = heat(f"{name}-cka", alt, blocks, "layer of the teacher")
        panels.append(Panel("debiased CKA of each block, %", svg))
    seeds = over(row["seeds"] for row in part["rows"])
    several = any(row["seeds"] > 1 for row in part["rows"])
    error = f"± std {seeds}" if several else "standard error over the draws of one seed"
    caption = (
        f"0: raw features; 100: {part['teacher']}. Line: {error}. Measures in which teacher and "
        "features do not differ are left out."
    )
    hollow = "no hop at hand" if any(row["hops"] is not None for _, row in drawn) else ""
    return Figure(
        name,
        "Inherited structure",
        caption,
        tuple(panels),
        names.key(part["rows"]),
        hollow,
        "marks",
    )


def _block(row: Mapping[str, Any], index: int) -> str:
    return f" · {index + 1}" if len(row["cka"]) > 1 else ""


def projection(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    """Return the embeddings of some nodes in two dimensions, coloured by class."""
    part = cell["projection"]
    total: dict[int, int] = {}
    for panel in part["panels"]:
        for label, count in class_counts(panel).items():
            total[label] = total.get(label, 0) + count
    largest = sorted((label for label in total if label >= 0), key=lambda label: -total[label])
    series: dict[int, int | None] = {label: i for i, label in enumerate(sorted(largest[:SERIES]))}
    panels = []
    ordered = sorted(part["panels"], key=lambda panel: panel["method"])  # a row for each
    for index, found in enumerate(ordered):
        method = found["method"].upper() if found["method"] == "pca" else "t-SNE"
        colours = [series.get(label) for label in found["classes"]]
        alt = f"{method} of {len(colours)} nodes as {found['label']} embeds them, by class"
        svg = cloud(f"{name}-{index}", alt, found["points"], colours)
        panels.append(Panel(f"{found['label']}, {method}", svg))
    key = [(f"class {part['names'][label]}", number) for label, number in series.items()]
    if any(label not in series for label in total):
        key.append(("other" if series else "no single class", -1))
    seed = part["panels"][0]["seed"]
    caption = (
        f"Embeddings of the last block, seed {seed}, all hops at hand; the same nodes everywhere, "
        "drawn at random. Axes have no unit."
    )
    return Figure(name, "Embeddings", caption, tuple(panels), tuple(key), key_style="points")
