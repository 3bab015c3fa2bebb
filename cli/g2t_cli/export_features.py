"""`g2t export-features`."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_artifact, emit_json, emit_toml, out_or_usage, progress
from g2t_cli.settings import gather


@command
def export_features(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER", help="A trained teacher.")],
    graph: o.GraphOption,
    out: o.Out = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="fp32|fp16|bf16",
            help="Type of the stored numbers (default fp16).",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    hops: Annotated[
        int | None,
        typer.Option(
            "--hops", min=0, help="Also write hop tokens, Âx to Â^K x.", rich_help_panel=o.OUTPUT
        ),
    ] = None,
    config: o.Config = None,
    sets: o.Sets = None,
    print_config: o.PrintConfig = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Write a teacher's layers and logits into a cache.

    The cache holds all that students are trained from; the GNN does not run again. An interrupted
    export goes on with the first shard that is missing.

    Examples:

      g2t export-features runs/cora/teacher --graph runs/cora/graph --out runs/cora/cache

      g2t export-features T --graph G --dtype fp32 --out cache-exact

      g2t export-features T --graph G --hops 3 --out cache-with-tokens
    """
    from g2t.config import validate
    from g2t.export import ExportSettings, export

    values = gather("export", config, sets, {"dtype": dtype, "hops": hops})
    settings = validate(ExportSettings, values)
    if print_config:
        emit_toml(settings.model_dump(mode="json"))
        return
    target = out_or_usage(out)
    if dry_run:
        from g2t_cli.plan import cache_plan

        emit_json(cache_plan(teacher, graph, settings, target, force))
        return
    with progress(quiet) as show:
        made = export(teacher, graph, target, settings, force=force, progress=show)
    emit_artifact(made, as_json)
