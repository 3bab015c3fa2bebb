"""The options of `g2t predict` alone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from g2t_cli.options import OUTPUT

NODES, EDGES = "New nodes", "Edges (for hop)"

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="[INPUT|-]",
        help="CSV, Parquet, JSON Lines, .npz, .npy, or JSON of id to indices; - is stdin.",
    ),
]
FeatureFile = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FILE",
        help="Features beside a table of ids: .npz CSR, .npy, or JSON of id to indices.",
        rich_help_panel=NODES,
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option(
        "--id-column",
        metavar="NAME",
        help="Default: id, else the first that is no feature, else row numbers from 0.",
        rich_help_panel=NODES,
    ),
]
FeatureColumns = Annotated[
    str | None,
    typer.Option(
        "--feature-columns",
        metavar="A,B",
        help="Default: those that the student knows by name, else all but the id.",
        rich_help_panel=NODES,
    ),
]
OnError = Annotated[
    Literal["stop", "skip"],
    typer.Option(
        "--on-error",
        help="At a wrong row: leave with 3, or leave it out and count it on stderr.",
        rich_help_panel=NODES,
    ),
]
Graph = Annotated[
    Path | None,
    typer.Option(
        "--graph",
        metavar="DIR",
        help="Answer for its nodes, or join INPUT to them with --edges.",
        rich_help_panel=EDGES,
    ),
]
Ids = Annotated[
    str | None,
    typer.Option(
        "--ids",
        metavar="A,B|@FILE",
        help="Some nodes of --graph; a file has one per line. Default: all.",
        rich_help_panel=EDGES,
    ),
]
EdgeFile = Annotated[
    Path | None,
    typer.Option(
        "--edges",
        metavar="FILE",
        help="CSV or Parquet with two id columns: edges of INPUT.",
        rich_help_panel=EDGES,
    ),
]
SourceColumn = Annotated[
    str | None,
    typer.Option(
        "--source-column",
        metavar="NAME",
        help="Default: the first of the edge table.",
        rich_help_panel=EDGES,
    ),
]
TargetColumn = Annotated[
    str | None,
    typer.Option(
        "--target-column",
        metavar="NAME",
        help="Default: the second.",
        rich_help_panel=EDGES,
    ),
]
UnknownNodes = Annotated[
    Literal["error", "drop"],
    typer.Option(
        "--unknown-nodes",
        help="Edge ends that neither INPUT nor --graph has.",
        rich_help_panel=EDGES,
    ),
]
Directed = Annotated[
    bool,
    typer.Option(
        "--directed",
        help="Edges go one way; without it both ways, unless --graph is directed.",
        rich_help_panel=EDGES,
    ),
]
Hops = Annotated[
    int | None,
    typer.Option(
        "--hops",
        min=0,
        help="Hops to use at most. Default: all that the student reads.",
        rich_help_panel=EDGES,
    ),
]
HopsColumn = Annotated[
    str | None,
    typer.Option(
        "--hops-column",
        metavar="NAME",
        help="How many hops of each node are known; else all where it has an edge.",
        rich_help_panel=EDGES,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help=".jsonl, .csv or .parquet; without it stdout.",
        rich_help_panel=OUTPUT,
    ),
]
To = Annotated[
    Literal["jsonl", "csv", "parquet"] | None,
    typer.Option("--to", help="Format. Default: by --out, else jsonl.", rich_help_panel=OUTPUT),
]
Probabilities = Annotated[
    bool,
    typer.Option(
        "--probabilities",
        help="Write the probability of every class.",
        rich_help_panel=OUTPUT,
    ),
]
Embedding = Annotated[
    bool,
    typer.Option("--embedding", help="Write the last block's embedding.", rich_help_panel=OUTPUT),
]
Force = Annotated[bool, typer.Option("--force", help="Replace --out.", rich_help_panel=OUTPUT)]
