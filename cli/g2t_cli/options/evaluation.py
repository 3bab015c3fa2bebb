"""The options of `g2t eval` alone."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli.options import INPUTS, OUTPUT

CARD, USE, CHECKS = "Report card", "In use", "Checks"

Models = Annotated[
    list[Path],
    typer.Argument(metavar="MODEL…", help="A student; or a teacher, or several to average."),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache", metavar="DIR", help="The cache that taught it.", rich_help_panel=INPUTS
    ),
]
Teachers = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        metavar="DIR",
        help="Its teacher, run once; without it the cache's logits speak for it. Of several, "
        "all: repeat it, in any order.",
        rich_help_panel=INPUTS,
    ),
]
Card = Annotated[
    bool,
    typer.Option(
        "--card",
        help="Add the structure report card; needs --teacher.",
        rich_help_panel=CARD,
    ),
]
CardBaseline = Annotated[
    Path | None,
    typer.Option(
        "--card-baseline",
        metavar="STUDENT",
        help="Another student for the card, such as one without a teacher.",
        rich_help_panel=CARD,
    ),
]
StructureOf = Annotated[
    Path | None,
    typer.Option(
        "--structure-of",
        metavar="GRAPH",
        help="Measure the edges of this graph of the same nodes instead; needs --ceiling.",
        rich_help_panel=CARD,
    ),
]
Ceiling = Annotated[
    Path | None,
    typer.Option(
        "--ceiling",
        metavar="TEACHER",
        help="The teacher of that graph, as the card's ceiling.",
        rich_help_panel=CARD,
    ),
]
Breakdown = Annotated[
    bool,
    typer.Option(
        "--breakdown",
        help="Take the test score apart: degree, homophily, seen, classes, calibration.",
        rich_help_panel=OUTPUT,
    ),
]
Latency = Annotated[
    bool,
    typer.Option(
        "--latency",
        help="Time its answers, beside those of --teacher with its neighbour fetch.",
        rich_help_panel=USE,
    ),
]
LatencyDevice = Annotated[
    str,
    typer.Option(
        "--latency-device",
        metavar="auto|cpu|cuda[:I]",
        help="Where to time them.",
        rich_help_panel=USE,
    ),
]
Robust = Annotated[
    bool,
    typer.Option(
        "--robust",
        help="Score it, and --teacher, with worse features and edges.",
        rich_help_panel=USE,
    ),
]
RobustDraws = Annotated[
    int,
    typer.Option(
        "--robust-draws",
        min=1,
        metavar="INT",
        help="Draws of every corruption.",
        rich_help_panel=USE,
    ),
]
MinTest = Annotated[
    float | None,
    typer.Option(
        "--min-test",
        min=0,
        max=1,
        metavar="X",
        help="Leave with 6 if the test score is below X, a fraction.",
        rich_help_panel=CHECKS,
    ),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        "--min-agreement",
        min=0,
        max=1,
        metavar="X",
        help="Leave with 6 if the agreement with the teacher is below X, a fraction.",
        rich_help_panel=CHECKS,
    ),
]
MaxP50 = Annotated[
    float | None,
    typer.Option(
        "--max-p50-ms",
        min=0,
        metavar="Z",
        help="Leave with 6 if its median answer for one node takes longer; implies --latency.",
        rich_help_panel=CHECKS,
    ),
]
