"""`g2t cache inspect|verify|convert`, and the place of `add` and `import`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from g2t_cli import options as o
from g2t_cli.cache_add import add_signals
from g2t_cli.cache_import import import_cache
from g2t_cli.output import command, emit_artifact, emit_json, out_or_usage, progress

app = typer.Typer(no_args_is_help=True, help="Inspect, verify, convert, import and add to caches.")
app.command("import")(import_cache)
app.command("add")(add_signals)
CachePath = Annotated[Path, typer.Argument(metavar="CACHE", help="A teacher's cache.")]


@app.command("inspect")
@command
def inspect(cache: CachePath, as_json: o.Json = False) -> None:
    """Show what a cache holds: rows, tensors, their types, errors and room, and its lineage.

    Examples:

      g2t cache inspect runs/cora/cache

      g2t cache inspect runs/cora/cache --json | jq '.tensors[] | {name, bytes}'
    """
    from g2t.cache.check import open_cache
    from g2t.cache.describe import describe

    summary = describe(open_cache(cache))
    if as_json:
        emit_json(summary)
        return
    from g2t_cli.cache_show import show_cache

    show_cache(summary)


@app.command("verify")
@command
def verify(
    cache: CachePath,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Compute some rows again from teacher and graph, and compare."),
    ] = False,
    teachers: o.CacheTeachers = None,
    graph: Annotated[
        Path | None,
        typer.Option(
            "--graph", metavar="DIR", help="With --deep: its graph.", rich_help_panel=o.INPUTS
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="With --deep: how many rows (default 256)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="With --deep: which rows (default 0).")
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Hash every file of a cache again and read every number once.

    Leaves with 4 and the reason if anything is damaged.

    Examples:

      g2t cache verify runs/cora/cache

      g2t cache verify C --deep --teacher T --graph G --sample 1000
    """
    from g2t.cache.check import open_cache
    from g2t.cache.verify import verify as run
    from g2t.errors import UsageError

    if deep and (teachers is None or graph is None):
        raise UsageError("--deep needs --teacher DIR and --graph DIR", "name what it was made from")
    if not deep and any(given is not None for given in (teachers, graph, sample, seed)):
        raise UsageError("--teacher, --graph, --sample and --seed go with --deep", "add --deep")
    with progress(quiet) as show:
        opened = open_cache(cache, remembered=False)
        found: dict[str, Any] = {**run(opened, show), "deep": None}
        if teachers is not None and graph is not None:
            from g2t.export.deep import compare

            rows, draw = sample or 256, seed or 0
            errors = compare(opened, teachers, graph, rows, draw)
            found["deep"] = {"sample": rows, "seed": draw, "relative_error": errors}
    if as_json:
        emit_json(found)
        return
    print(
        f"{found['path']}: sound: {len(found['tensors'])} tensors of {found['rows']} rows in "
        f"{found['files']} files, {found['bytes']} bytes"
    )
    if found["deep"] is not None:
        for name, error in found["deep"]["relative_error"].items():
            print(f"  {name}: within {error:.2g} of the teacher")


@app.command("convert")
@command
def convert(
    cache: CachePath,
    out: o.Out = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="fp32|fp16|bf16|int8",
            help="Type of layers, logits, and tokens of sparse features.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    topk: Annotated[
        int | None,
        typer.Option(
            "--topk", min=1, help="Keep this many logits of a row.", rich_help_panel=o.OUTPUT
        ),
    ] = None,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Write a cache anew in another type; features, edges and lineage stay as they are.

    Examples:

      g2t cache convert runs/cora/cache --dtype int8 --out runs/cora/cache-int8

      g2t cache convert C --dtype fp16 --topk 10 --out cache-top10
    """
    from g2t.cache.convert import ConvertSettings, plan_conversion
    from g2t.cache.convert import convert as run
    from g2t.config import validate
    from g2t.errors import UsageError

    if dtype is None:
        raise UsageError("--dtype is missing", "choose from: fp32, fp16, bf16, int8")
    settings = validate(ConvertSettings, {"dtype": dtype, "topk": topk})
    target = out_or_usage(out)
    if dry_run:
        from g2t.stage import Stage
        from g2t_cli.plan import stage_plan

        plan = plan_conversion(cache, settings)
        entries = {entry.name: entry.model_dump() for entry in plan.wanted}
        asked = settings.model_dump(mode="json")
        stage = Stage(target, "cache", asked, plan.inputs, 0, force)
        content = {"settings": asked, "inputs": plan.inputs, "tensors": entries}
        emit_json(stage_plan(stage, content))
        return
    with progress(quiet) as show:
        made = run(cache, target, settings, force=force, progress=show)
    emit_artifact(made, as_json)
