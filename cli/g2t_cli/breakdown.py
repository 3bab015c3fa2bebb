"""The breakdown of a test score for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from g2t_cli.tables import new_table, percent, show

MODELS = ("student", "teacher")


def show_breakdown(result: Mapping[str, Any]) -> None:
    """Print the breakdown of a `g2t.evaluation/1`: groups of test nodes, classes, calibration."""
    breakdown = result["breakdown"]
    models = [name for name in MODELS if result[name] is not None]
    title = f"{result['metric']} of {breakdown['nodes']} test nodes by group, in %"
    both = len(models) == len(MODELS)
    table = new_table(title, "nodes with", "count", *models, *(["agreement"] if both else []))
    sections = (
        [(_degrees(group), group) for group in breakdown["degree"]],
        [
            (_homophily(group), group)
            for group in breakdown["homophily"] or ()
            if group["nodes"] or group["low"] is not None
        ],
        [("seen" if g["seen"] else "never seen", g) for g in breakdown["seen"] or ()],
    )
    for groups in sections:
        table.add_section()
        for name, group in groups:
            figures = [group[model] for model in models] + ([group["agreement"]] if both else [])
            table.add_row(name, str(group["nodes"]), *map(percent, figures))
    show(table)
    _show_classes(breakdown["classes"], models)
    if breakdown["calibration"] is None:
        show("several labels per node: neither a local homophily nor a calibration error")
        return
    for model in models:
        show(_calibration(model, breakdown["calibration"][model]))


def _degrees(group: Mapping[str, Any]) -> str:
    low, high = group["low"], group["high"]
    return f"degree {low}" if low == high else f"degree {low} … {high}"


def _homophily(group: Mapping[str, Any]) -> str:
    if group["low"] is None:
        return "no labelled neighbour"
    return f"{100 * group['low']:.0f} … {100 * group['high']:.0f} % neighbours of its class"


def _show_classes(classes: Sequence[Mapping[str, Any]], models: Sequence[str]) -> None:
    figures = ("precision", "recall", "f1")
    # Two lines and a short word, so that both models fit into 80 columns.
    heads = [f"{model}\n{head}" for model in models for head in ("prec.", "recall", "f1")]
    table = new_table("classes of the test nodes, in %", "class", "count", *heads)
    for row in classes:
        known = [row[model] or dict.fromkeys(figures) for model in models]
        cells = [percent(found[figure]) for found in known for figure in figures]
        text = row["class"]
        table.add_row(text if text.isprintable() else repr(text), str(row["nodes"]), *cells)
    show(table)


def _calibration(model: str, found: Mapping[str, Any] | None) -> str:
    if found is None:
        return f"calibration error of the {model}: not known"
    said = f"calibration error of the {model}: {percent(found['before'])} %"
    if found["after"] is None:
        return f"{said}; no temperature is best on the validation nodes"
    heat = f"temperature {found['temperature']:.3g}, fitted on the validation nodes"
    return f"{said}, {percent(found['after'])} % at {heat}"
