"""The options of `g2t import` alone."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli.options import INPUTS

TABLE, CONTROLS = "Tables (source `table:`)", "Controls (source `folder:`)"


def _column(flag: str, metavar: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        flag, metavar=metavar, help=text, rich_help_panel=TABLE
    )
    return option


def _control(flag: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        flag, metavar="SEED", min=0, help=text, rich_help_panel=CONTROLS
    )
    return option


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="planetoid:Cora, npz:FILE, table:, synthetic:csbm …; see data ls.",
    ),
]
NodeFile = Annotated[
    Path | None, _column("--nodes", "FILE", "CSV or Parquet: id, label, maybe features.")
]
EdgeFile = Annotated[Path | None, _column("--edges", "FILE", "CSV or Parquet with two id columns.")]
FeatureFile = Annotated[
    Path | None, _column("--features", "FILE", ".npz CSR, .npy, or JSON of id to indices.")
]
IdColumn = Annotated[str | None, _column("--id-column", "NAME", "Default: id, else the first.")]
LabelColumn = Annotated[
    str | None,
    _column("--label-column", "NAME", "Default: label, else y. A,B,C: several labels of 0 and 1."),
]
SourceColumn = Annotated[
    str | None, _column("--source-column", "NAME", "Default: the first of the edge table.")
]
TargetColumn = Annotated[str | None, _column("--target-column", "NAME", "Default: the second.")]
FeatureColumns = Annotated[
    str | None,
    _column("--feature-columns", "A,B", "Default: every numeric column but id and label."),
]
UnknownNodes = Annotated[
    str | None,
    _column("--unknown-nodes", "error|add|drop", "Edge ends that no node row names."),
]
Directed = Annotated[
    bool | None,
    typer.Option(
        "--directed/--undirected",
        help="Default: as the source says; tables and npz are undirected.",
        rich_help_panel=INPUTS,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="auto|accuracy|roc_auc|f1",
        help="What scores are reported.",
        rich_help_panel=INPUTS,
    ),
]
Rewire = Annotated[
    int | None, _control("--rewire", "Swap its edges at random: degrees stay, links do not.")
]
Permute = Annotated[
    int | None, _control("--permute", "Move its edges to other nodes: the structure stays.")
]
