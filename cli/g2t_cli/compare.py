"""`g2t compare`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_json

SIDE = "A row of a run as OUT:ROW; or evaluations, joined by commas or by a quoted pattern."


@command
def compare(
    ours: Annotated[str, typer.Argument(metavar="A", help=SIDE)],
    theirs: Annotated[str, typer.Argument(metavar="B", help="What A is compared with, alike.")],
    min_difference: Annotated[
        float | None,
        typer.Option(
            "--min-difference",
            min=-1,
            max=1,
            metavar="D",
            help="Leave with 6 if the mean test difference A - B is below D, a fraction.",
            rich_help_panel="Checks",
        ),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Compare two models by pairs of evaluations: the same seed, split and graph.

    Prints the mean difference A - B with its standard error, the 95 % intervals of Student's t
    and of a bootstrap over the pairs, and how often A is above B.

    An evaluation is what g2t eval wrote with --out or printed with --json; PATH:teacher takes the
    teacher's score in it.

    Examples:

      g2t compare runs/cora:hop runs/cora:landmark

      g2t compare runs/cora:hop runs/cora:teacher --json | jq .parts.test.difference

      g2t compare new-0.json,new-1.json old-0.json,old-1.json --min-difference -0.005

      g2t compare 'runs/a/seed-*/evaluation-hop' 'runs/b/seed-*/evaluation-hop'
    """
    from g2t.compare import check_difference, compare_given

    result = compare_given(ours, theirs)
    if as_json:
        emit_json(result)
    else:
        _show(result)
    if min_difference is not None:
        check_difference(result, min_difference)


def _show(result: Mapping[str, Any]) -> None:
    from g2t_cli.tables import new_table, show, spread

    level, parts = round(100 * result["confidence"]), result["parts"]
    title = f"{result['graph']}, {result['metric']} in %, {result['setting']}"
    table = new_table(title, "", *parts)
    gaps = {part: found["difference"] for part, found in parts.items()}
    for side in ("a", "b"):
        table.add_row(side.upper(), *(spread(found[side]) for found in parts.values()))
    table.add_section()
    table.add_row("A − B ± s.e.", *map(_mean, gaps.values()))
    table.add_row(f"{level} %, Student's t", *map(_interval, gaps.values()))
    bootstraps = [_interval(gap["bootstrap"]) for gap in gaps.values()]
    table.add_row(f"{level} %, bootstrap", *bootstraps)
    for sign in ("above", "equal", "below"):
        table.add_row(f"A {sign}", *(str(gap["signs"][sign]) for gap in gaps.values()))
    show(table)
    for side in ("a", "b"):
        show(f"{side.upper()}: {result[side]['given']} ({result[side]['model']})")
    pairs = zip(result["seeds"], result["splits"], strict=True)
    show("pairs: " + "; ".join(_pair(seed, split) for seed, split in pairs))


def _pair(seed: int | None, split: Mapping[str, str]) -> str:
    named = f"{split['name']} ({split['digest'][7:19]})"
    return named if seed is None else f"seed {seed}, {named}"


def _mean(gap: Mapping[str, Any]) -> str:
    error = gap["standard_error"]
    return signed(gap["mean"]) + ("" if error is None else f" ± {100 * error:.2f}")


def _interval(ends: Mapping[str, float | None]) -> str:
    low, high = ends["low"], ends["high"]
    return "–" if low is None or high is None else f"{signed(low)} … {signed(high)}"


def signed(value: float) -> str:
    """Return a fraction in percent with its sign; what rounds to nothing is +0.00."""
    return f"{round(100 * value, 2) + 0.0:+.2f}"
