"""`g2t data ls|inspect`."""

from typing import Annotated

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_json

app = typer.Typer(no_args_is_help=True, help="See what sources there are and what a graph holds.")
As = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("ls")
@command
def ls(as_json: As = False) -> None:
    """List the sources of `g2t import` and the names that each takes."""
    from g2t.graph.sources import SOURCES, find_source

    names = {kind: find_source(f"{kind}:")[0].names for kind in SOURCES}
    if as_json:
        emit_json({"schema": "g2t.sources/1", "sources": names})
        return
    for kind, choices in names.items():
        print(f"{kind}:", *choices)


@app.command("inspect")
@command
def inspect(graph: o.GraphPath, as_json: As = False) -> None:
    """Show counts, degrees, homophily, splits and warnings of a graph artefact."""
    from g2t.graph.bundle import read_graph
    from g2t.graph.inspect import summarize

    summary = summarize(read_graph(graph))
    if as_json:
        emit_json(summary)
        return
    from g2t_cli.tables import show_summary

    show_summary(summary)
