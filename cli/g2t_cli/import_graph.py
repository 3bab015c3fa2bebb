"""`g2t import`."""

from pathlib import Path

from g2t_cli import options as o
from g2t_cli.options import graphs as own
from g2t_cli.output import command, emit_artifact, emit_json, emit_toml, out_or_usage, progress


@command
def import_graph(
    source: own.Source,
    out: o.Out = None,
    root: o.Root = None,
    nodes: own.NodeFile = None,
    edges: own.EdgeFile = None,
    features: own.FeatureFile = None,
    id_column: own.IdColumn = None,
    label_column: own.LabelColumn = None,
    source_column: own.SourceColumn = None,
    target_column: own.TargetColumn = None,
    feature_columns: own.FeatureColumns = None,
    unknown_nodes: own.UnknownNodes = None,
    directed: own.Directed = None,
    metric: own.Metric = None,
    rewire: own.Rewire = None,
    permute: own.Permute = None,
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
