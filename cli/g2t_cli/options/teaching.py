"""The options of `g2t teach` alone."""

from typing import Annotated

import typer

from g2t_cli.options import MODEL, OUTPUT

Kind = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        metavar="gcn|sage|gat|…",
        help="gcn, sage, gat, gatv2, gat-sep, gin, pna, appnp, gcn2 or sgc.",
        rich_help_panel=MODEL,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME",
        help="public, cpf:SEED, random:60/20/20:SEED or official:I.",
        rich_help_panel=MODEL,
    ),
]
Setting = Annotated[
    str | None,
    typer.Option(
        "--setting",
        metavar="transductive|production",
        help="production: a fifth of the test nodes is held out, unseen until g2t eval.",
        rich_help_panel=MODEL,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="plain|strong",
        help="strong: try both feature scalings, average 3 seeds.",
        rich_help_panel=MODEL,
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        min=1,
        metavar="N",
        help="Train N > 1 teachers of one split, as OUT/0, OUT/1, …",
        rich_help_panel=MODEL,
    ),
]
MinVal = Annotated[
    float | None,
    typer.Option(
        "--min-val",
        min=0,
        max=1,
        metavar="X",
        help="Leave with 6 if the validation score is below X, a fraction.",
        rich_help_panel=OUTPUT,
    ),
]
