"""`g2t model`: a student in other formats, and its card."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_json, out_or_usage, progress

app = typer.Typer(name="model", help="Export a student, write its card.", no_args_is_help=True)

Evaluations = Annotated[
    list[Path] | None,
    typer.Option(
        "--evaluation",
        metavar="DIR",
        help="An evaluation of it (g2t eval --out), for the card's figures; repeat it for those "
        "of other seeds.",
        rich_help_panel=o.INPUTS,
    ),
]


@app.command("export")
@command
def export(
    student: o.StudentPath,
    to: Annotated[
        Literal["torch-export", "onnx", "hf"],
        typer.Option("--to", help="Format.", rich_help_panel=o.OUTPUT),
    ],
    out: o.Out = None,
    evaluations: Evaluations = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="REPO",
            help="With hf: send the folder to this repository of the hub too.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Write a student for other runtimes (torch-export, onnx) or as a hub folder (hf).

    The written model answers generated nodes beside the student, and is refused (6) if they differ
    by more than 1e-4. serving.json says what goes in, what comes out, and how inputs are made.
    A hub folder has config.json, model.safetensors and a model card; load_student and g2t predict
    read it.

    Examples:

      g2t model export runs/cora/student --to onnx --out runs/cora/onnx

      g2t model export S --to torch-export --out exported

      g2t model export S --to hf --evaluation E0 --evaluation E1 --out hub

      g2t model export S --to hf --push me/cora-hop --out hub
    """
    from g2t.errors import UsageError
    from g2t.serve import load_student
    from g2t.serve.card import model_card, read_evaluations
    from g2t.serve.export import SIDECAR, export_model

    if to != "hf" and (push or evaluations):
        raise UsageError("--push and --evaluation belong to --to hf", "leave them out")
    target = out_or_usage(out)
    if push:
        from g2t.serve.push import check_hub

        check_hub()
    served = load_student(student)
    card = model_card(served, read_evaluations(evaluations or [], served)) if to == "hf" else ""
    export_model(served, target, to, card, force)
    with progress(quiet) as show:
        if push:
            from g2t.serve.push import push as send

            show.note(f"pushed to {send(target, push)}")
        elif to != "hf":
            show.note("the exported model answers as the student does")
    if as_json:
        from g2t.artifact import read_json
        from g2t.serve.hub import CONFIG

        facts = read_json(target / (CONFIG if to == "hf" else SIDECAR))
        emit_json({**facts, "path": str(target)})
    else:
        print(target)


@app.command("card")
@command
def card(student: o.StudentPath, evaluations: Evaluations = None) -> None:
    """Print a student's model card as Markdown, written from its lineage.

    Examples:

      g2t model card runs/cora/student

      g2t model card S --evaluation E0 --evaluation E1 > README.md
    """
    from g2t.serve import load_student
    from g2t.serve.card import model_card, read_evaluations

    served = load_student(student)
    print(model_card(served, read_evaluations(evaluations or [], served)), end="")
