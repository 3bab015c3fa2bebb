"""`g2t eval`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_json, progress

CARD, USE, CHECKS = "Report card", "In use", "Checks"


@command
def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL…", help="A student; or a teacher, or several to average."),
    ],
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
    card: Annotated[
        bool,
        typer.Option(
            "--card",
            help="Add the structure report card; needs --teacher.",
            rich_help_panel=CARD,
        ),
    ] = False,
    card_baseline: Annotated[
        Path | None,
        typer.Option(
            "--card-baseline",
            metavar="STUDENT",
            help="Another student for the card, such as one without a teacher.",
            rich_help_panel=CARD,
        ),
    ] = None,
    structure_of: Annotated[
        Path | None,
        typer.Option(
            "--structure-of",
            metavar="GRAPH",
            help="Measure the edges of this graph of the same nodes instead; needs --ceiling.",
            rich_help_panel=CARD,
        ),
    ] = None,
    ceiling: Annotated[
        Path | None,
        typer.Option(
            "--ceiling",
            metavar="TEACHER",
            help="The teacher of that graph, as the card's ceiling.",
            rich_help_panel=CARD,
        ),
    ] = None,
    breakdown: Annotated[
        bool,
        typer.Option(
            "--breakdown",
            help="Take the test score apart: degree, homophily, seen, classes, calibration.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = False,
    latency: Annotated[
        bool,
        typer.Option(
            "--latency",
            help="Time its answers, beside those of --teacher with its neighbour fetch.",
            rich_help_panel=USE,
        ),
    ] = False,
    latency_device: Annotated[
        str,
        typer.Option(
            "--latency-device",
            metavar="auto|cpu|cuda[:I]",
            help="Where to time them.",
            rich_help_panel=USE,
        ),
    ] = "cpu",
    robust: Annotated[
        bool,
        typer.Option(
            "--robust",
            help="Score it, and --teacher, with worse features and edges.",
            rich_help_panel=USE,
        ),
    ] = False,
    draws: Annotated[
        int,
        typer.Option(
            "--robust-draws",
            min=1,
            metavar="INT",
            help="Draws of every corruption.",
            rich_help_panel=USE,
        ),
    ] = 3,
    min_test: Annotated[
        float | None,
        typer.Option(
            "--min-test",
            min=0,
            max=1,
            metavar="X",
            help="Leave with 6 if the test score is below X, a fraction.",
            rich_help_panel=CHECKS,
        ),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            "--min-agreement",
            min=0,
            max=1,
            metavar="X",
            help="Leave with 6 if the agreement with the teacher is below X, a fraction.",
            rich_help_panel=CHECKS,
        ),
    ] = None,
    max_p50_ms: Annotated[
        float | None,
        typer.Option(
            "--max-p50-ms",
            min=0,
            metavar="Z",
            help="Leave with 6 if its median answer for one node takes longer; implies --latency.",
            rich_help_panel=CHECKS,
        ),
    ] = None,
    out: o.Out = None,
    as_json: o.Json = False,
    force: o.Force = False,
) -> None:
    """Score a student on its split, beside its teacher; or a teacher alone.

    Test labels are read here and nowhere else. Without --out nothing is written.

    In the production setting tran is the score of the test nodes that were seen, ind that of the
    held-out ones, answered from the whole graph, and test = 0.8 tran + 0.2 ind. The teacher's ind
    needs --teacher: its cache does not know the held-out nodes.

    Examples:

      g2t eval runs/cora/student --graph runs/cora/graph --cache runs/cora/cache

      g2t eval S --graph G --cache C --teacher T --json | jq .student.test

      g2t eval S --graph G --cache C --teacher T1 --teacher T2 --teacher T3

      g2t eval S --graph G --cache C --out runs/cora/evaluation

      g2t eval S --graph G --cache C --teacher T --card --card-baseline ALONE

      g2t eval S --graph G --teacher T --breakdown

      g2t eval S --graph G --teacher T --min-test 0.8 --min-agreement 0.9

      g2t eval S --graph G --cache C --teacher T --latency --robust

      g2t eval S --graph G --max-p50-ms 2

      g2t eval runs/cora/teachers/* --graph runs/cora/graph
    """
    from g2t.artifact import kind_of
    from g2t.errors import UsageError
    from g2t.evaluate import CardSources, Sources, check_scores, evaluate_teachers
    from g2t.evaluate import evaluate as run

    beside = CardSources(card_baseline, structure_of, ceiling)
    if not card and beside != CardSources():
        raise UsageError("--card-baseline, --structure-of and --ceiling need --card", "add --card")
    if min_agreement is not None and cache is None and not teachers:
        raise UsageError(
            "--min-agreement is about a student and its teacher", "add --teacher DIR or --cache DIR"
        )
    timed = latency or max_p50_ms is not None
    if kind_of(models[0]) == "teacher":
        if cache or teachers or card:
            raise UsageError("--cache, --teacher and --card belong to a student", "leave them out")
        if timed or robust:
            raise UsageError(
                "--latency, --max-p50-ms and --robust belong to a student",
                "name the student, and this as --teacher",
            )
        result = evaluate_teachers(models, graph, out, breakdown=breakdown, force=force)
    elif len(models) > 1:
        raise UsageError(f"{models[0]} is no teacher: one student at a time", "name one alone")
    else:
        sources = Sources(models[0], graph, cache, teachers)
        with progress(quiet=False) as show:
            result = run(
                sources,
                out,
                card=beside if card else None,
                breakdown=breakdown,
                robust=draws if robust else None,
                latency=latency_device if timed else None,
                force=force,
                progress=show,
            )
    if as_json:
        emit_json(result)
    else:
        _show(result)
        if out is not None:
            print(out)
    check_scores(result, min_test, min_agreement, max_p50_ms)


def _show(result: Mapping[str, Any]) -> None:
    from g2t_cli.tables import show_evaluation

    show_evaluation(result)
    if "breakdown" in result:
        from g2t_cli.breakdown import show_breakdown

        show_breakdown(result)
    if "card" in result:
        from g2t_cli.cards import show_card

        show_card(result["card"])
    if "robust" in result:
        from g2t_cli.robust import show_robust

        show_robust(result)
    if "latency" in result:
        from g2t_cli.latency import show_latency

        show_latency(result["latency"])
