"""The options of `g2t cache import` alone."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli.options import INPUTS, MODEL, OUTPUT

Logits = Annotated[
    Path,
    typer.Option(
        "--logits",
        metavar="FILE",
        help=".npy or Parquet, one row per node, one column per class.",
        rich_help_panel=INPUTS,
    ),
]
Split = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="NAME",
        help="The split that the teacher kept to: public, cpf:SEED, random:A/B/C:SEED …",
        rich_help_panel=INPUTS,
    ),
]
Layers = Annotated[
    list[Path] | None,
    typer.Option(
        "--layer",
        metavar="FILE",
        help="A hidden layer, from the first to the last; repeatable.",
        rich_help_panel=INPUTS,
    ),
]
Ids = Annotated[
    Path | None,
    typer.Option(
        "--ids",
        metavar="FILE",
        help="Ids of the rows: .npy, or text with one per line. Default: the graph's order.",
        rich_help_panel=INPUTS,
    ),
]
IdsColumn = Annotated[
    str | None,
    typer.Option(
        "--ids-column",
        metavar="NAME",
        help="Column of ids in Parquet files.",
        rich_help_panel=INPUTS,
    ),
]
TeacherName = Annotated[
    str | None,
    typer.Option(
        "--teacher-name",
        metavar="NAME",
        help="How results call it (default outside).",
        rich_help_panel=MODEL,
    ),
]
Scaling = Annotated[
    str | None,
    typer.Option(
        "--scaling",
        metavar="raw|row",
        help="How it saw the features (default raw).",
        rich_help_panel=MODEL,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="fp32|fp16|bf16|int8",
        help="Type of layers and logits (default fp16).",
        rich_help_panel=OUTPUT,
    ),
]
