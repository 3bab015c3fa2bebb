"""`g2t import`."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_artifact, emit_json, emit_toml, out_or_usage, progress

TABLE = "Tables (source `table:`)"


def _column(flag: str, metavar: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        flag, metavar=metavar, help=text, rich_help_panel=TABLE
    )
    return option


def _control(flag: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        flag, metavar="SEED", min=0, help=text, rich_help_panel="Controls (source `folder:`)"
    )
    return option


@command
def import_graph(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="planetoid:Cora, npz:FILE, table:, synthetic:csbm …; see data ls.",
        ),
    ],
    out: o.Out = None,
    root: o.Root = None,
    nodes: Annotated[
        Path | None, _column("--nodes", "FILE", "CSV or Parquet: id, label, maybe features.")
    ] = None,
    edges: Annotated[
        Path | None, _column("--edges", "FILE", "CSV or Parquet with two id columns.")
    ] = None,
    features: Annotated[
        Path | None, _column("--features", "FILE", ".npz CSR, .npy, or JSON of id to indices.")
    ] = None,
    id_column: Annotated[
        str | None, _column("--id-column", "NAME", "Default: id, else the first.")
    ] = None,
    label_column: Annotated[
        str | None,
        _column(
            "--label-column", "NAME", "Default: label, else y. A,B,C: several labels of 0 and 1."
        ),
    ] = None,
    source_column: Annotated[
        str | None, _column("--source-column", "NAME", "Default: the first of the edge table.")
    ] = None,
    target_column: Annotated[
        str | None, _column("--target-column", "NAME", "Default: the second.")
    ] = None,
    feature_columns: Annotated[
        str | None,
        _column("--feature-columns", "A,B", "Default: every numeric column but id and label."),
    ] = None,
    unknown_nodes: Annotated[
        str | None,
        _column("--unknown-nodes", "error|add|drop", "Edge ends that no node row names."),
    ] = None,
    directed: Annotated[
        bool | None,
        typer.Option(
            "--directed/--undirected",
            help="Default: as the source says; tables and npz are undirected.",
            rich_help_panel=o.INPUTS,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="auto|accuracy|roc_auc|f1",
            help="What scores are reported.",
            rich_help_panel=o.INPUTS,
        ),
    ] = None,
    rewire: Annotated[
        int | None, _control("--rewire", "Swap its edges at random: degrees stay, links do not.")
    ] = None,
    permute: Annotated[
        int | None, _control("--permute", "Move its edges to other nodes: the structure stays.")
    ] = None,
    seed: o.Seed = None,
    config: o.Config = None,
    sets: o.Sets = None,
    print_config: o.PrintConfig = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Bring a graph in: a public data set, a file, your own tables, or a generated one.

    Examples:

      g2t import planetoid:Cora --out runs/cora/graph

      g2t import table: --nodes nodes.csv --edges edges.csv --label-column y --out runs/my/graph

      g2t import folder:runs/cora/graph --rewire 0 --out runs/cora-rewired/graph

      g2t import synthetic:csbm --set nodes=100000 --set homophily=0.6 --out runs/csbm/graph
    """
    from g2t.config import from_environment, layered, parse_sets, read_config
    from g2t.graph.importing import import_graph as run
    from g2t.graph.importing import resolve_import
    from g2t.graph.sources import find_source
    from g2t.recipe import part_of
    from g2t_cli.plan import graph_plan

    named = {
        "nodes": nodes,
        "edges": edges,
        "features": features,
        "id_column": id_column,
        "label_column": label_column,
        "source_column": source_column,
        "target_column": target_column,
        "feature_columns": feature_columns,
        "unknown_nodes": unknown_nodes,
        "directed": directed,
        "metric": metric,
        "rewire": rewire,
        "permute": permute,
        "seed": seed,
    }
    given = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in named.items()
        if value is not None
    }
    content = part_of(read_config(config), "import") if config else {}
    known = {"directed", "metric", "seed"} & set(find_source(source)[0].settings.model_fields)
    values = layered(content, from_environment(known), parse_sets(sets or []), given)
    if print_config:
        emit_toml(resolve_import(source, values).model_dump(mode="json"))
        return
    target = out_or_usage(out)
    if dry_run:
        emit_json(graph_plan(source, target, values, root, force))
        return
    with progress(quiet) as show:
        made = run(source, target, values, root, show, force)
    emit_artifact(made, as_json)
