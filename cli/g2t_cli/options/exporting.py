"""The options of `g2t export-features` alone."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli.options import OUTPUT, RUNTIME

Teachers = Annotated[
    list[Path],
    typer.Argument(
        metavar="TEACHER...",
        help="A trained teacher, or several whose probabilities are averaged.",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="fp32|fp16|bf16|int8",
        help="Type of stored layers and logits (default fp16).",
        rich_help_panel=OUTPUT,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option("--topk", min=1, help="Keep this many logits per node.", rich_help_panel=OUTPUT),
]
LogitsFrom = Annotated[
    str | None,
    typer.Option(
        "--logits-from",
        metavar="all|I,J",
        help="Of several teachers, those whose mean the logits are, from 1 (default all).",
        rich_help_panel=OUTPUT,
    ),
]
Hops = Annotated[
    int | None,
    typer.Option(
        "--hops", min=0, help="Also write hop tokens, Âx to Â^K x.", rich_help_panel=OUTPUT
    ),
]
Project = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="svd:W|random:W",
        help="Hop tokens of features projected to W columns.",
        rich_help_panel=OUTPUT,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="fp32|fp16",
        help="Type to compute with: fp32 is exact (default), fp16 takes half the memory.",
        rich_help_panel=RUNTIME,
    ),
]
Worker = Annotated[
    int | None,
    typer.Option(
        "--worker",
        min=0,
        metavar="I",
        help="This is worker I of a job array, from 0.",
        rich_help_panel=RUNTIME,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="How many workers share the shards.",
        rich_help_panel=RUNTIME,
    ),
]
