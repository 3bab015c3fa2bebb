"""`g2t predict`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from g2t_cli import options as o
from g2t_cli.output import command, progress

NODES, EDGES = "New nodes", "Edges (for hop)"


@command
def predict(
    student: Annotated[
        Path, typer.Argument(metavar="STUDENT", help="A student, or a hub folder of one.")
    ],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT|-]",
            help="CSV, Parquet, JSON Lines, .npz, .npy, or JSON of id to indices; - is stdin.",
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            metavar="FILE",
            help="Features beside a table of ids: .npz CSR, .npy, or JSON of id to indices.",
            rich_help_panel=NODES,
        ),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            "--id-column",
            metavar="NAME",
            help="Default: id, else the first that is no feature, else row numbers from 0.",
            rich_help_panel=NODES,
        ),
    ] = None,
    feature_columns: Annotated[
        str | None,
        typer.Option(
            "--feature-columns",
            metavar="A,B",
            help="Default: those that the student knows by name, else all but the id.",
            rich_help_panel=NODES,
        ),
    ] = None,
    on_error: Annotated[
        Literal["stop", "skip"],
        typer.Option(
            "--on-error",
            help="At a wrong row: leave with 3, or leave it out and count it on stderr.",
            rich_help_panel=NODES,
        ),
    ] = "stop",
    graph: Annotated[
        Path | None,
        typer.Option(
            "--graph",
            metavar="DIR",
            help="Answer for its nodes, or join INPUT to them with --edges.",
            rich_help_panel=EDGES,
        ),
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            "--ids",
            metavar="A,B|@FILE",
            help="Some nodes of --graph; a file has one per line. Default: all.",
            rich_help_panel=EDGES,
        ),
    ] = None,
    edges: Annotated[
        Path | None,
        typer.Option(
            "--edges",
            metavar="FILE",
            help="CSV or Parquet with two id columns: edges of INPUT.",
            rich_help_panel=EDGES,
        ),
    ] = None,
    source_column: Annotated[
        str | None,
        typer.Option(
            "--source-column",
            metavar="NAME",
            help="Default: the first of the edge table.",
            rich_help_panel=EDGES,
        ),
    ] = None,
    target_column: Annotated[
        str | None,
        typer.Option(
            "--target-column",
            metavar="NAME",
            help="Default: the second.",
            rich_help_panel=EDGES,
        ),
    ] = None,
    unknown_nodes: Annotated[
        Literal["error", "drop"],
        typer.Option(
            "--unknown-nodes",
            help="Edge ends that neither INPUT nor --graph has.",
            rich_help_panel=EDGES,
        ),
    ] = "error",
    directed: Annotated[
        bool,
        typer.Option(
            "--directed",
            help="Edges go one way; without it both ways, unless --graph is directed.",
            rich_help_panel=EDGES,
        ),
    ] = False,
    hops: Annotated[
        int | None,
        typer.Option(
            "--hops",
            min=0,
            help="Hops to use at most. Default: all that the student reads.",
            rich_help_panel=EDGES,
        ),
    ] = None,
    hops_column: Annotated[
        str | None,
        typer.Option(
            "--hops-column",
            metavar="NAME",
            help="How many hops of each node are known; else all where it has an edge.",
            rich_help_panel=EDGES,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help=".jsonl, .csv or .parquet; without it stdout.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    to: Annotated[
        Literal["jsonl", "csv", "parquet"] | None,
        typer.Option(
            "--to", help="Format. Default: by --out, else jsonl.", rich_help_panel=o.OUTPUT
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Write the probability of every class.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = False,
    embedding: Annotated[
        bool,
        typer.Option(
            "--embedding", help="Write the last block's embedding.", rich_help_panel=o.OUTPUT
        ),
    ] = False,
    quiet: o.Quiet = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace --out.", rich_help_panel=o.OUTPUT)
    ] = False,
) -> None:
    """Answer for nodes that nobody has seen, in their order: id, class, probability.

    Columns and encodings are those of `g2t import table:`; a student that learned from named
    columns finds them by name. JSON Lines have "features": [all], or "indices": [1, 7] and
    perhaps "values", or the columns by name, and "id".

    A hop student answers a node without edges from its features alone (k = 0). Memory is bounded
    for CSV, Parquet, JSON Lines and .npy; with edges or a graph all features are held.

    Exit codes: 2 options that do not fit the student, 3 a wrong row, column or file, 4 a student
    that was changed or is of a newer version.

    Examples:

      g2t predict runs/my/student new.csv --out answers.csv

      zcat new.jsonl.gz | g2t predict S - --on-error skip > answers.jsonl

      g2t predict S ids.csv --features features.json --edges edges.csv --hops 2

      g2t predict S new.csv --graph G --edges links.csv --out answers.parquet

      g2t predict S --graph G --ids 4,8,15 --probabilities
    """
    import sys

    from g2t.serve import load_student
    from g2t.serve.batch import Faults
    from g2t.serve.inputs import Source
    from g2t.serve.nodes import EdgeTable
    from g2t.serve.output import Wanted, format_of, opened
    from g2t.serve.run import Asked, check_asked
    from g2t.serve.run import predict as run
    from g2t.serve.tables import Columns

    names = None if feature_columns is None else tuple(feature_columns.split(","))
    columns = Columns(id_column, names, hops_column)
    read = None
    if source is not None:
        read = Source(None if source == "-" else Path(source), features, columns)
    named = {"source_column": source_column, "target_column": target_column}
    settings = {key: value for key, value in named.items() if value is not None}
    table = None
    if edges is not None:
        table = EdgeTable(edges, {**settings, "unknown_nodes": unknown_nodes}, directed)
    asked = Asked(read, graph, _ids(ids), table, hops)
    form = format_of(out, to)
    served = load_student(student)
    check_asked(asked, served)
    with progress(quiet) as show:
        faults = Faults(on_error == "skip", show.note)
        with opened(out, sys.stdout, form, Wanted(probabilities, embedding), force) as writer:
            run(served, asked, writer, faults, show)
    if out is not None:
        print(out)


def _ids(text: str | None) -> list[str] | None:
    """Return the ids of `--ids A,B` or `--ids @FILE`."""
    from g2t.errors import InputError, UsageError

    if text is None:
        return None
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {error}") from None
    else:
        found = [part.strip() for part in text.split(",")]
    ids = [name for name in found if name]
    if not ids:
        raise UsageError(f"--ids {text} names no node", "e.g. --ids 4,8,15 or --ids @FILE")
    return ids
