"""`g2t report`."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_json, out_or_usage, progress


@command
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="Folders of g2t run, evaluations, students, or folders of these."
        ),
    ],
    graph: Annotated[
        Path | None,
        typer.Option(
            "--graph",
            metavar="DIR",
            help="Their graph, for the embeddings; without it one that lies in RUN.",
            rich_help_panel=o.INPUTS,
        ),
    ] = None,
    out: o.Out = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Write one page about runs: scores, inherited structure, cost, curves, lineage.

    OUT/index.html needs no network and no script; OUT/report.md and OUT/report.json say the same.
    Evaluations of one student are joined, so a card made later can be given beside the run. Parts
    that no evaluation has are left out, with the command that gives them.

    Needs the extra report (matplotlib, jinja2); with scikit-learn there is t-SNE too.

    Examples:

      g2t report runs/cora --out runs/cora-report

      g2t report runs/cora runs/cora-cards --out report

      g2t report runs/cora/seed-0/evaluation-hop --graph runs/cora/graph --out report
    """
    from g2t.report import report as run

    place = out_or_usage(out)
    with progress(quiet) as show:
        content = run(runs, place, graph=graph, force=force, progress=show)
    if as_json:
        emit_json(content)
        return
    print(place / "index.html")
    print(place)
