"""`g2t cache add`."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_artifact, progress


@command
def add_signals(
    cache: Annotated[Path, typer.Argument(metavar="CACHE", help="A teacher's cache.")],
    for_: Annotated[
        list[str],
        typer.Option(
            "--for",
            metavar="LOSS[,LOSS]",
            help="Losses, presets or signals to serve.",
            rich_help_panel=o.OUTPUT,
        ),
    ],
    teachers: o.CacheTeachers = None,
    graph: Annotated[
        Path | None,
        typer.Option("--graph", metavar="DIR", help="Its graph.", rich_help_panel=o.INPUTS),
    ] = None,
    memory: o.Memory = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Add to a cache what more losses need; what it holds is not rewritten.

    Students distilled from it stay valid. Edge scores and codes come from the cached layers alone,
    clusters from the cached edges; layers, before their activation too (pre_layers), logits and
    reliability need --teacher and --graph, of several teachers all.

    Examples:

      g2t cache add runs/cora/cache --for lsp

      g2t cache add C --for reliable_edge,codebook --teacher T --graph G
    """
    from g2t.errors import UsageError
    from g2t.export.add import add

    if (teachers is None) != (graph is None):
        raise UsageError("--teacher and --graph go together", "give both, or neither")
    with progress(quiet) as show:
        made = add(
            cache,
            o.signals(for_) or [],
            teacher=teachers,
            graph=graph,
            memory=o.budget(memory),
            progress=show,
        )
    emit_artifact(made, as_json)
