"""`g2t export-features`."""

from g2t_cli import options as o
from g2t_cli.options import exporting as own
from g2t_cli.output import command, emit_artifact, emit_json, emit_toml, out_or_usage, progress
from g2t_cli.settings import gather


@command
def export_features(
    teachers: own.Teachers,
    graph: o.GraphOption,
    out: o.Out = None,
    for_: o.For = None,
    dtype: own.Dtype = None,
    topk: own.TopK = None,
    logits_from: own.LogitsFrom = None,
    hops: own.Hops = None,
    project: own.Project = None,
    precision: own.Precision = None,
    memory: o.Memory = None,
    worker: own.Worker = None,
    workers: own.Workers = None,
    config: o.Config = None,
    sets: o.Sets = None,
    print_config: o.PrintConfig = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Write a teacher's layers and logits into a cache, or those of several.

    The cache holds all that students are trained from; the GNN does not run again. It is made layer
    by layer from disk, within --memory, with every neighbour of every node; an interrupted export
    goes on with the first shard that is missing. Ranks of torchrun or SLURM share the shards.

    Several teachers of one graph and split: layers, and what derives from them, are the first's;
    logits are the log of their mean probabilities, over all or those that --logits-from names.

    Examples:

      g2t export-features runs/cora/teacher --graph runs/cora/graph --out runs/cora/cache

      g2t export-features T --graph G --dtype fp32 --out cache-exact

      g2t export-features T --graph G --hops 3 --out cache-with-tokens

      g2t export-features T --graph G --memory 1GiB --precision fp16 --out big-cache

      g2t export-features T --graph G --for soft,lsp --out small-cache

      g2t export-features T1 T2 T3 --graph G --out averaged-cache

      g2t export-features GCN APPNP1 APPNP2 --logits-from 2,3 --graph G --out mixed-cache
    """
    from g2t.config import validate
    from g2t.export import ExportSettings, export
    from g2t.export.share import share_of

    named = {"dtype": dtype, "topk": topk, "hops": hops, "project": project, "precision": precision}
    chosen = {"signals": o.signals(for_), "logits_from": o.positions(logits_from)}
    values = gather("export", config, sets, {**named, **chosen})
    settings = validate(ExportSettings, values)
    if print_config:
        emit_toml(settings.model_dump(mode="json"))
        return
    target = out_or_usage(out)
    if dry_run:
        from g2t_cli.plan import cache_plan

        emit_json(cache_plan(teachers, graph, settings, target, force))
        return
    budget, share = o.budget(memory), share_of(worker, workers)
    with progress(quiet) as show:
        made = export(
            teachers,
            graph,
            target,
            settings,
            memory=budget,
            share=share,
            force=force,
            progress=show,
        )
    if made is not None:
        emit_artifact(made, as_json)
