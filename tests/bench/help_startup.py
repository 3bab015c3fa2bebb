"""`g2t --help` against a bare Typer app with the same commands, options and help, empty bodies.

Prints the ratio of medians over runs in turn; exits with 1 above the limit of 1.3.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import typer

from g2t_cli.app import app

RUNS, LIMIT = 10, 1.3
HEAD = "import typer\napp = typer.Typer(name='g2t', no_args_is_help=True)\n"
TAIL = "if __name__ == '__main__':\n    app()\n"


def bare_app() -> str:
    """Return the source of a Typer app with our commands and options, and nothing else."""
    return HEAD + "".join(_group(typer.main.get_command(app), "app")) + TAIL


def _group(group: Any, owner: str) -> list[str]:
    parts = [f"@{owner}.callback()\ndef {owner}_root() -> None:\n    {group.help!r}\n"]
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            parts.append(f"{name} = typer.Typer(help={command.help!r})\n")
            parts += _group(command, name)
            parts.append(f"{owner}.add_typer({name}, name={name!r})\n")
        else:
            parts.append(_command(name, command, owner))
    return parts


def _command(name: str, command: Any, owner: str) -> str:
    parameters = [_parameter(p) for p in command.params if p.name != "help"]
    function = f"{owner}_{name.replace('-', '_')}"
    body = f"    {command.help!r}\n"
    return f"@{owner}.command({name!r})\ndef {function}({', '.join(parameters)}) -> None:\n{body}"


def _parameter(parameter: Any) -> str:
    kind = "bool" if getattr(parameter, "is_flag", False) else "str"
    if parameter.param_type_name == "argument":
        return f"{parameter.name}: {kind} = typer.Argument(None)"
    flags = ", ".join(repr(flag) for flag in parameter.opts)
    return f"{parameter.name}: {kind} = typer.Option(None, {flags}, help={parameter.help!r})"


def seconds(command: list[str]) -> float:
    """Return how long a command takes, as a whole process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Measure in turn and print the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(bare_app())
        ours = [sys.executable, "-m", "g2t_cli", "--help"]
        bare = [sys.executable, str(script), "--help"]
        for command in (ours, bare):
            seconds(command)
        pairs = [(seconds(ours), seconds(bare)) for _ in range(RUNS)]
    mine, rival = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"g2t --help {mine:.3f} s, bare Typer app {rival:.3f} s, ratio {mine / rival:.2f}")
    return 0 if mine / rival <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
