"""`g2t sweep`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_json, progress
from g2t_cli.settings import gather

if TYPE_CHECKING:
    from g2t.sweep import Finding

SCHEMA = "g2t.sweep/1"


@command
def sweep(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="SPEC.toml", help="Cache, out, seeds, [fixed] and [vary], maybe [random]."
        ),
    ],
    optuna: Annotated[
        int | None,
        typer.Option(
            "--optuna",
            min=1,
            metavar="N",
            help="Let optuna choose, up to N choices of settings in all, each from the scores of "
            "those that are done.",
            rich_help_panel=o.MODEL,
        ),
    ] = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            help="Print what is done, best validation first, instead of commands.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Print the commands of a sweep, one `g2t distill …` per line, without those that are done.

    With [random] settings are drawn; without it [vary] is a grid. Every student gets a folder of
    its own, called by what varies. Choosing sees validation scores only.

    Examples:

      g2t sweep sweep.toml | xargs -r -P 2 -d '\\n' -n1 sh -c

      g2t sweep sweep.toml > lines && sbatch --array=1-$(wc -l < lines) sweep.sbatch lines

      g2t sweep sweep.toml --optuna 16 | xargs -r -P 2 -d '\\n' -n1 sh -c

      g2t sweep sweep.toml --json | jq .ranking[0].settings
    """
    from g2t.config import read_config
    from g2t.sweep import inspect, rank, read_spec, search, trials_of

    read = read_spec(read_config(spec))

    def resolve(values: Any) -> dict[str, Any]:
        return gather("distill", read.config, None, values)

    trials = trials_of(read, resolve) if optuna is None else search(read, resolve, optuna)
    findings = inspect(read, trials)
    ranking = rank(read, findings)
    if as_json:
        emit_json(
            {
                "schema": SCHEMA,
                "cache": read.cache,
                "out": read.out,
                "trials": [_row(found) for found in findings],
                "ranking": ranking,
            }
        )
        return
    if table:
        from g2t_cli.tables import show_ranking

        show_ranking(ranking, list(read.axes))
        return
    left = [found for found in findings if found.standing != "done"]
    progress(quiet).note(f"{len(findings) - len(left)} of {len(findings)} students are done")
    _print_commands(left)


def _print_commands(findings: Sequence["Finding"]) -> None:
    for found in findings:
        print(found.trial.command)


def _row(found: "Finding") -> dict[str, Any]:
    trial = found.trial
    return {
        "out": str(trial.out),
        "settings": dict(trial.chosen),
        "seed": trial.seed,
        "standing": found.standing,
        "val": found.val,
        "val_loss": found.val_loss,
        "command": trial.command,
    }
