"""Tables for people: percentages, on stdout."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

#: Columns where stdout is no terminal: enough for the parts of every score.
WIDTH = 120


def percent(value: float | None) -> str:
    """Return a fraction in percent, or a dash where there is none."""
    return "–" if value is None else f"{100 * value:.2f}"


def show_evaluation(result: Mapping[str, Any]) -> None:
    """Print a `g2t.evaluation/1`."""
    split = result["split"]
    named = f"{split['name']} ({split['digest'][7:19]}){_setting(split)}"
    title = f"{result['graph']}, {result['metric']} in %, split {named}"
    student, teacher = result["student"], result["teacher"]
    parts = _parts(student or teacher)
    table = new_table(title, "model", "val", *parts, "test")

    def add(name: str, scores: Mapping[str, Any]) -> None:
        figures = (scores["val"], *(scores["settings"][part] for part in parts), scores["test"])
        table.add_row(name, *map(percent, figures))

    if teacher is not None:
        add(f"teacher {teacher['name']}", teacher)
    if student is not None:
        add(f"student {student['name']}", student)
        for hops, scores in student["by_hops"].items():
            add(f"  with {hops} hops", scores)
    show(table)
    if result["agreement"] is not None:
        show(f"agreement with the teacher on test nodes: {percent(result['agreement'])} %")


def show_run(result: Mapping[str, Any]) -> None:
    """Print a `g2t.run/1`."""
    split = result["split"]
    over = f"split {split['name']}{_setting(split)}, seeds {result['seeds']}"
    title = f"{result['graph']}, test {result['metric']} in %, {over}"
    parts = _parts(result["rows"][0])
    table = new_table(
        title, "model", *parts, "prod" if parts else "mean ± std", "minus teacher ± s.e."
    )
    for row in result["rows"]:
        _add(table, row["name"], row, difference=row["name"] != "teacher")
        for hops, scores in row.get("by_hops", {}).items():
            _add(table, f"  with {hops} hops", scores, difference=True)
    show(table)


def _add(table: Table, name: str, row: Mapping[str, Any], difference: bool) -> None:
    minus, paired = row["minus_teacher"], ""
    if difference and len(row["values"]) > 1 and minus is not None:
        paired = f"{100 * minus['mean']:+.2f} ± {percent(minus['standard_error'])}"
    parts = [spread(row["settings"][part]) for part in _parts(row)]
    table.add_row(name, *parts, spread(row), paired)


def spread(figures: Mapping[str, Any]) -> str:
    """Return mean ± std in percent; of a single value, or of none, only the mean."""
    several = len(figures["values"]) > 1 and figures["std"] is not None
    return percent(figures["mean"]) + (f" ± {percent(figures['std'])}" if several else "")


def _parts(scores: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the test score is made of, as columns: nothing unless in production."""
    return ("tran", "ind") if "settings" in scores else ()


def _setting(split: Mapping[str, Any]) -> str:
    return f", {split['setting']}" if "setting" in split else ""


def show_ranking(rows: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> None:
    """Print the ranking of a `g2t.sweep/1`; `settings` are those that vary."""
    table = new_table("finished settings, validation score in %", *settings, "seeds", "val")
    for row in rows:
        val = percent(row["val"]) + ("" if row["std"] is None else f" ± {percent(row['std'])}")
        chosen = (str(row["settings"][key]) for key in settings)
        table.add_row(*chosen, str(len(row["seeds"])), val)
    show(table)


def show_summary(summary: Mapping[str, Any]) -> None:
    """Print what `g2t data inspect` found, one fact per line; warnings last."""
    table = new_table(f"graph {summary['name']}", "fact", "value")
    for key, value in summary.items():
        if key not in ("schema", "name", "warnings", "fingerprints"):
            table.add_row(key.replace("_", " "), _text(value))
    table.add_row("fingerprint", summary["fingerprints"]["graph"][:19])
    show(table)
    for warning in summary["warnings"]:
        show(f"warning: {warning}")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        return "/".join(str(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def new_table(title: str, *columns: str) -> Table:
    """Return an empty table: names to the left, figures to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def show(content: Table | str) -> None:
    """Print a table or a sentence to stdout."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # a file is as wide as its lines
        console.width = max(console.width, WIDTH)
    console.print(content)
