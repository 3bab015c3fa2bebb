"""`g2t eval`."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_json, progress


@command
def evaluate(
    student: Annotated[Path, typer.Argument(metavar="STUDENT", help="A trained student.")],
    graph: o.GraphOption,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="DIR", help="The cache that taught it.", rich_help_panel=o.INPUTS
        ),
    ] = None,
    teachers: Annotated[
        list[Path] | None,
        typer.Option(
            "--teacher",
            metavar="DIR",
            help="Its teacher, run once; without it the cache's logits speak for it. Of several, "
            "all: repeat it, in any order.",
            rich_help_panel=o.INPUTS,
        ),
    ] = None,
    out: o.Out = None,
    as_json: o.Json = False,
    force: o.Force = False,
) -> None:
    """Score a student on its split, beside its teacher.

    Test labels are read here and nowhere else. Without --out nothing is written.

    In the production setting tran is the score of the test nodes that were seen, ind that of the
    held-out ones, answered from the whole graph, and test = 0.8 tran + 0.2 ind. The teacher's ind
    needs --teacher: its cache does not know the held-out nodes.

    Examples:

      g2t eval runs/cora/student --graph runs/cora/graph --cache runs/cora/cache

      g2t eval S --graph G --cache C --teacher T --json | jq .student.test

      g2t eval S --graph G --cache C --teacher T1 --teacher T2 --teacher T3

      g2t eval S --graph G --cache C --out runs/cora/evaluation
    """
    from g2t.evaluate import Sources
    from g2t.evaluate import evaluate as run

    sources = Sources(student, graph, cache, teachers)
    with progress(quiet=False) as show:
        result = run(sources, out, force=force, progress=show)
    if as_json:
        emit_json(result)
        return
    from g2t_cli.tables import show_evaluation

    show_evaluation(result)
    if out is not None:
        print(out)
