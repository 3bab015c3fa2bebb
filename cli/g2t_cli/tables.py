"""Tables for people: percentages, on stdout."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def percent(value: float | None) -> str:
    """Return a fraction in percent, or a dash where there is none."""
    return "–" if value is None else f"{100 * value:.2f}"


def show_evaluation(result: Mapping[str, Any]) -> None:
    """Print a `g2t.evaluation/1`."""
    split = result["split"]
    named = f"{split['name']} ({split['digest'][7:19]})"
    title = f"{result['graph']}, {result['metric']} in %, split {named}"
    table = _table(title, "model", "val", "test")
    student, teacher = result["student"], result["teacher"]
    if teacher is not None:
        table.add_row(
            f"teacher {teacher['name']}", percent(teacher["val"]), percent(teacher["test"])
        )
    table.add_row(f"student {student['name']}", percent(student["val"]), percent(student["test"]))
    for hops, scores in student["by_hops"].items():
        table.add_row(f"  with {hops} hops", percent(scores["val"]), percent(scores["test"]))
    _print(table)
    if result["agreement"] is not None:
        _print(f"agreement with the teacher on test nodes: {percent(result['agreement'])} %")


def show_run(result: Mapping[str, Any]) -> None:
    """Print a `g2t.run/1`."""
    over = f"split {result['split']['name']}, seeds {result['seeds']}"
    title = f"{result['graph']}, test {result['metric']} in %, {over}"
    table = _table(title, "model", "mean ± std", "minus teacher ± s.e.")
    for row in result["rows"]:
        _add(table, row["name"], row, difference=row["name"] != "teacher")
        for hops, scores in row.get("by_hops", {}).items():
            _add(table, f"  with {hops} hops", scores, difference=True)
    _print(table)


def _add(table: Table, name: str, row: Mapping[str, Any], difference: bool) -> None:
    minus, paired = row["minus_teacher"], ""
    several = len(row["values"]) > 1
    if difference and several and minus is not None:
        paired = f"{100 * minus['mean']:+.2f} ± {percent(minus['standard_error'])}"
    spread = f" ± {percent(row['std'])}" if several else ""
    table.add_row(name, percent(row["mean"]) + spread, paired)


def show_summary(summary: Mapping[str, Any]) -> None:
    """Print what `g2t data inspect` found, one fact per line; warnings last."""
    table = _table(f"graph {summary['name']}", "fact", "value")
    for key, value in summary.items():
        if key not in ("schema", "name", "warnings", "fingerprints"):
            table.add_row(key.replace("_", " "), _text(value))
    table.add_row("fingerprint", summary["fingerprints"]["graph"][:19])
    _print(table)
    for warning in summary["warnings"]:
        _print(f"warning: {warning}")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        return "/".join(str(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _print(content: Table | str) -> None:
    Console(markup=False, highlight=False).print(content)
