"""`g2t eval`."""

from collections.abc import Mapping
from typing import Any

from g2t_cli import options as o
from g2t_cli.options import evaluation as own
from g2t_cli.output import command, emit_json, progress


@command
def evaluate(
    models: own.Models,
    graph: o.GraphOption,
    cache: own.Cache = None,
    teachers: own.Teachers = None,
    card: own.Card = False,
    card_baseline: own.CardBaseline = None,
    structure_of: own.StructureOf = None,
    ceiling: own.Ceiling = None,
    breakdown: own.Breakdown = False,
    latency: own.Latency = False,
    latency_device: own.LatencyDevice = "cpu",
    robust: own.Robust = False,
    draws: own.RobustDraws = 3,
    min_test: own.MinTest = None,
    min_agreement: own.MinAgreement = None,
    max_p50_ms: own.MaxP50 = None,
    out: o.Out = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
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
        with progress(quiet) as show:
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
