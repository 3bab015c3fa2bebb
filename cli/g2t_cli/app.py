"""The `g2t` command: its subcommands, `--version`, and nothing heavy at import."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli import cache, data, model, recipe
from g2t_cli.compare import compare
from g2t_cli.distill import distill
from g2t_cli.doctor import doctor
from g2t_cli.evaluate import evaluate
from g2t_cli.export_features import export_features
from g2t_cli.import_graph import import_graph
from g2t_cli.output import command, emit_json, keep_log, say_error
from g2t_cli.predict import predict
from g2t_cli.report import report
from g2t_cli.run import run
from g2t_cli.sweep import sweep
from g2t_cli.teach import teach

app = typer.Typer(
    name="g2t",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("import")(import_graph)
app.command("teach")(teach)
app.command("export-features")(export_features)
app.command("distill")(distill)
app.command("eval")(evaluate)
app.command("predict")(predict)
app.command("run")(run)
app.command("compare")(compare)
app.command("report")(report)
app.command("sweep")(sweep)
app.command("doctor")(doctor)
app.add_typer(cache.app, name="cache")
app.add_typer(model.app, name="model")
app.add_typer(recipe.app, name="recipe")
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
@command
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --version: versions of all that counts.")
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            envvar="G2T_LOG_FILE",
            metavar="FILE",
            help="Before the command: append what goes to stderr to a file too, with its time.",
        ),
    ] = None,
) -> None:
    """Distil what a GNN knows about a graph into a Transformer.

    Graph → teacher → cache → student → evaluation: each arrow is a command, each noun a directory.
    `g2t run recipe:demo --out runs/demo` walks them all on a generated graph.

    Exit codes: 0 done, 1 unexpected, 2 usage, 3 input, 4 integrity, 5 training failed,
    6 a check failed (--min-…), 69 extra or device missing, 75 stopped by a signal after a
    checkpoint, 130 interrupted.
    """
    if log_file is not None:
        keep_log(log_file)
    if not version:
        if as_json and context.invoked_subcommand is None:
            say_error("--json alone goes with --version", "or with a command: g2t COMMAND --json")
            raise SystemExit(2)
        return
    import g2t
    from g2t.stage import environment

    facts = environment()
    if as_json:
        emit_json({"schema": "g2t.version/1", "g2t": g2t.__version__, **facts})
    else:
        packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
        print(f"g2t {g2t.__version__} ({packages}, Python {facts['python']})")
    raise SystemExit


def main() -> None:
    """Run the command line."""
    app()
