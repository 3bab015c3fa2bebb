"""`g2t recipe ls|show|copy`."""

from pathlib import Path
from typing import Annotated

import typer

from g2t_cli.output import command

app = typer.Typer(no_args_is_help=True, help="List, show and copy the shipped recipes.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe.")]


@app.command("ls")
@command
def ls() -> None:
    """List the shipped recipes."""
    from g2t.config import recipe_names

    for name in recipe_names():
        print(name)


@app.command("show")
@command
def show(name: Name) -> None:
    """Print a recipe."""
    from g2t.config import recipe_text

    print(recipe_text(name), end="")


@app.command("copy")
@command
def copy(
    name: Name, target: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")]
) -> None:
    """Copy a recipe to a file of your own, as a start; an existing file is not overwritten."""
    from g2t.config import recipe_text
    from g2t.errors import InputError

    text = recipe_text(name)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{target} exists", "choose another file") from None
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
    print(target)
