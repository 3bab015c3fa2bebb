"""`g2t teach`."""

from typing import Annotated

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_artifact, emit_json, emit_toml, out_or_usage, progress
from g2t_cli.settings import gather


@command
def teach(
    graph: o.GraphPath,
    out: o.Out = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher", metavar="gcn|sage|gat", help="Kind of GNN.", rich_help_panel=o.MODEL
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="public, cpf:SEED, random:60/20/20:SEED or official:I.",
            rich_help_panel=o.MODEL,
        ),
    ] = None,
    setting: Annotated[
        str | None,
        typer.Option(
            "--setting",
            metavar="transductive|production",
            help="production: a fifth of the test nodes is held out, unseen until g2t eval.",
            rich_help_panel=o.MODEL,
        ),
    ] = None,
    seed: o.Seed = None,
    config: o.Config = None,
    sets: o.Sets = None,
    device: o.Device = "auto",
    print_config: o.PrintConfig = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Train a GNN teacher on a graph.

    The best epoch by validation is kept; test labels never reach the training code.

    Examples:

      g2t teach runs/cora/graph --teacher gcn --split public --out runs/cora/teacher

      g2t teach runs/cora/graph --config recipe:cora --seed 1 --out runs/cora/teacher-1

      g2t teach runs/my/graph --teacher sage --set model.layers=3 --out runs/my/teacher

      g2t teach runs/cora/graph --split cpf:0 --setting production --out runs/cora/teacher-cpf
    """
    from g2t.teacher.settings import teach_settings
    from g2t.teacher.train import plan_teacher
    from g2t.teacher.train import teach as run

    named = {"teacher": teacher, "split": split, "setting": setting, "seed": seed}
    values = gather("teach", config, sets, named)
    if print_config:
        emit_toml(teach_settings(values).model_dump(mode="json"))
        return
    target = out_or_usage(out)
    if dry_run:
        from g2t_cli.plan import teacher_plan

        emit_json(teacher_plan(plan_teacher(graph, values), target, force))
        return
    with progress(quiet) as show:
        made = run(graph, target, values, device=device, force=force, progress=show)
    emit_artifact(made, as_json)
