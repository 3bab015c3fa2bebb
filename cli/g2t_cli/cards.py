"""The structure report card for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from g2t_cli.tables import new_table, show, spread


def show_card(card: Mapping[str, Any]) -> None:
    """Print a `g2t.card/1`: per measure floor, ceiling, and each student with what it inherits."""
    title = (
        f"structure of {card['graph']}: {card['nodes']} nodes, {card['edges']} edges; "
        f"floor: raw features; ceiling: {card['teacher']}"
    )
    students = card["students"]
    columns = [column for row in students for column in (_name(row), "I %")]
    table = new_table(title, "measure", "floor", "ceiling", *columns)
    before = None
    for measure, level in card["levels"].items():
        if level != before:
            table.add_section()
        before = level
        cells = [figure(card["floor"][measure]), figure(card["ceiling"][measure])]
        for row in students:
            cells.append(figure(row["values"][measure]))
            cells.append(figure(row["inheritance"][measure], 100))
        table.add_row(measure, *cells)
    show(table)
    show("I = (student - floor) / (ceiling - floor); – where ceiling and floor do not differ")
    show(f"±: standard error over {card['draws']} draws of nodes, edges and paths")


def show_cards(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what the students of a `g2t.run/1` inherit, mean ± std over seeds."""
    table = new_table("inherited structure in %", "measure", *(row["name"] for row in rows))
    for measure in rows[0]["card"]:
        shares = [row["card"][measure]["inheritance"] for row in rows]
        table.add_row(measure, *map(spread, shares))
    show(table)


def _name(row: Mapping[str, Any]) -> str:
    alone = "baseline " if row["role"] == "baseline" else ""
    return f"{alone}{row['name']}" + ("" if row["hops"] is None else f", k = {row['hops']}")


def figure(estimate: Mapping[str, Any], scale: float = 1) -> str:
    """Return value ± standard error, or a dash where there is none."""
    if estimate["value"] is None:
        return "–"
    digits = 0 if scale == 100 else 2
    value, error = scale * estimate["value"], scale * estimate["standard_error"]
    return f"{value:.{digits}f} ± {error:.{digits}f}"
