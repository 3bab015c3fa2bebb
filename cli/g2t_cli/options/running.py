"""The options of `g2t run` alone."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli.options import INPUTS, MODEL

Recipe = Annotated[
    str, typer.Argument(metavar="recipe:NAME|FILE", help="A shipped recipe, or a TOML file.")
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="A:B|A,B,C",
        help="Seeds: a range or a list (default: 0:1; of a study, those of its tiers).",
        rich_help_panel=MODEL,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting of the recipe, e.g. teach.train.epochs=50; repeatable.",
        rich_help_panel=MODEL,
    ),
]
Graph = Annotated[
    Path | None,
    typer.Option(
        "--graph",
        metavar="DIR",
        help="A graph artefact to use instead of the recipe's source.",
        rich_help_panel=INPUTS,
    ),
]
TeachersOnly = Annotated[
    bool,
    typer.Option(
        "--teachers-only", help="Train and score the teachers alone.", rich_help_panel=MODEL
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="PATTERN",
        help="Cells of a study, e.g. 'a/cora-*/*/hop/soft*'; repeatable.",
        rich_help_panel=MODEL,
    ),
]
Card = Annotated[
    bool,
    typer.Option(
        "--card", help="Add a structure report card of every student.", rich_help_panel=MODEL
    ),
]
