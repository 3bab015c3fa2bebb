"""`g2t distill`."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_artifact, emit_json, emit_toml, out_or_usage, progress
from g2t_cli.settings import gather


@command
def distill(
    cache: Annotated[Path, typer.Argument(metavar="CACHE", help="A teacher's cache.")],
    out: o.Out = None,
    student: Annotated[
        str | None,
        typer.Option(
            "--student",
            metavar="landmark|hop|mlp",
            help="Kind of student; with a recipe, one of its students.",
            rich_help_panel=o.MODEL,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="soft|paper|pseudo|none",
            help="Losses to start from.",
            rich_help_panel=o.MODEL,
        ),
    ] = None,
    second: Annotated[
        Path | None,
        typer.Option(
            "--second",
            metavar="STUDENT",
            help="A finished student that teaches too, e.g. hop for landmark.",
            rich_help_panel=o.INPUTS,
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
    """Train a student from a cache alone.

    Neither the graph nor the GNN is read. The best epoch by validation is kept.

    Examples:

      g2t distill runs/cora/cache --student landmark --seed 0 --out runs/cora/student

      g2t distill runs/cora/cache --student hop --set train.epochs=100 --out runs/cora/hop

      g2t distill runs/cora/cache --second runs/cora/hop --out runs/cora/taught-twice

      g2t distill runs/cora/cache --preset paper --set loss.align.weight=0 --out runs/cora/paper
    """
    from g2t.distill.settings import as_values, distill_settings
    from g2t.distill.train import distill as run
    from g2t.distill.train import plan_student
    from g2t.ranks import together

    named = {"student": student, "preset": preset, "seed": seed}
    values = gather("distill", config, sets, named)
    if print_config:
        emit_toml(as_values(distill_settings(values)))
        return
    target = out_or_usage(out)
    if dry_run:
        from g2t_cli.plan import student_plan

        emit_json(student_plan(plan_student(cache, values, second), target, force))
        return
    with together(device) as ranks, progress(quiet or not ranks.first) as show:
        made = run(
            cache,
            target,
            values,
            second=second,
            device=device,
            force=force,
            progress=show,
            ranks=ranks,
        )
    if ranks.first:
        emit_artifact(made, as_json)
