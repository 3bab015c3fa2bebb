"""The structure report card for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from g2t_cli.tables import new_table, show, spread


def show_card(card: Mapping[str, Any]) -> None:
    """Print a `g2t.card/1`: per measure floor, ceiling, and each student with what it inherits.

    The standard errors of a student's own figures are in the JSON.
    """
    title = (
        f"structure of {card['graph']}: {card['nodes']} nodes, {card['edges']} edges; "
        f"floor: raw features; ceiling: {card['teacher']}"
    )
    for alone in (False, True):  # a baseline has a table of its own: one for both is too wide
        students = [row for row in card["students"] if (row["role"] == "baseline") == alone]
        if students:
            show(_table(card, students, title))
    show("I = (student - floor) / (ceiling - floor); – where ceiling and floor do not differ")
    show(f"±: standard error over {card['draws']} draws of nodes, edges and paths")


def _table(card: Mapping[str, Any], students: Sequence[Mapping[str, Any]], title: str) -> Table:
    columns = [f"{_name(row)}\n{'I %':>11}" for row in students]
    table = new_table(title, "measure", "floor", "ceiling", *columns)
    before = None
    for measure, level in card["levels"].items():
        if level != before:
            table.add_section()
        before = level
        cells = [figure(card["floor"][measure]), figure(card["ceiling"][measure])]
        for row in students:
            value, inherited = row["values"][measure]["value"], row["inheritance"][measure]
            own = "–" if value is None else f"{value:.2f}"
            cells.append(f"{own}{figure(inherited, 100):>10}")
        table.add_row(measure, *cells)
    return table


def show_cards(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what the students of a `g2t.run/1` inherit, mean ± std over seeds."""
    table = new_table("inherited structure in %", "measure", *(row["name"] for row in rows))
    for measure in rows[0]["card"]:
        shares = [row["card"][measure]["inheritance"] for row in rows]
        table.add_row(measure, *map(spread, shares))
    show(table)


def _name(row: Mapping[str, Any]) -> str:
    alone = "baseline " if row["role"] == "baseline" else ""
    parts = ", tokens" if row["role"] == "tokens" else ""
    return f"{alone}{row['name']}{parts}" + ("" if row["hops"] is None else f", k = {row['hops']}")


def figure(estimate: Mapping[str, Any], scale: float = 1) -> str:
    """Return value ± standard error, or a dash where there is none."""
    if estimate["value"] is None:
        return "–"
    digits = 0 if scale == 100 else 2
    value, error = scale * estimate["value"], scale * estimate["standard_error"]
    return f"{value:.{digits}f} ± {error:.{digits}f}"
