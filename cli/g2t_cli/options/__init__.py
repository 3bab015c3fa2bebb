"""The options that several commands share, frozen by a snapshot test; modules hold those of one."""

from pathlib import Path
from typing import Annotated

import typer

MODEL, RUNTIME, OUTPUT, INPUTS = "Model and training", "Runtime", "Output", "Inputs"

GraphPath = Annotated[Path, typer.Argument(metavar="GRAPH", help="A graph artefact.")]
StudentPath = Annotated[
    Path, typer.Argument(metavar="STUDENT", help="A student, or a hub folder of one.")
]
GraphOption = Annotated[
    Path, typer.Option("--graph", metavar="DIR", help="The graph artefact.", rich_help_panel=INPUTS)
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Where to write the artefact.", rich_help_panel=OUTPUT
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of everything random.", rich_help_panel=MODEL),
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        envvar="G2T_ROOT",
        metavar="DIR",
        help="Folder with PyG's class folders; never written to. Without it PyG downloads.",
        rich_help_panel=INPUTS,
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE|recipe:NAME",
        help="Settings: a TOML file or a shipped recipe.",
        rich_help_panel=MODEL,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting, e.g. train.epochs=50; repeatable.",
        rich_help_panel=MODEL,
    ),
]
PrintConfig = Annotated[
    bool,
    typer.Option(
        "--print-config",
        help="Print the resolved settings as TOML and stop.",
        rich_help_panel=OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what would be done; write nothing.", rich_help_panel=OUTPUT
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Nothing on stderr but errors.", rich_help_panel=OUTPUT),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace what is at --out.", rich_help_panel=OUTPUT)
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="G2T_DEVICE",
        metavar="auto|cpu|cuda[:I]",
        help="Where to compute.",
        rich_help_panel=RUNTIME,
    ),
]
For = Annotated[
    list[str] | None,
    typer.Option(
        "--for",
        metavar="LOSS[,LOSS]",
        help="Write what these losses, presets or signals need (default: layers,logits).",
        rich_help_panel=OUTPUT,
    ),
]
CacheTeachers = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        metavar="DIR",
        help="Its teacher; of several, all: repeat it, in any order.",
        rich_help_panel=INPUTS,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Most memory to hold, e.g. 1GiB (default: what is free). The result is the same.",
        rich_help_panel=RUNTIME,
    ),
]


def signals(for_: list[str] | None) -> list[str] | None:
    """Return the signals that `--for` asks for, None where it was not given."""
    from g2t.distill.settings import signals_for

    if for_ is None:
        return None
    names = [name.strip() for text in for_ for name in text.split(",") if name.strip()]
    return sorted(signals_for(names))


def positions(text: str | None) -> str | list[int] | None:
    """Return the numbers of `--logits-from 2,3`, or `all`; None where it was not given."""
    from g2t.errors import UsageError

    if text is None or text == "all":
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(
            f"--logits-from {text} names no teachers", "e.g. --logits-from 2,3, or all"
        )
    return [int(part) for part in parts]


def budget(memory: str | None) -> int | None:
    """Return the bytes of `--memory`, None where it was not given."""
    from g2t.units import parse_size

    return None if memory is None else parse_size(memory)
