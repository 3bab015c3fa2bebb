"""Settings: where they come from, in which order, and what is said when one is wrong.

Every stage has one frozen pydantic model. Its values come from, in rising order of precedence:
defaults, a TOML file or recipe, the environment (`G2T_TRAIN__EPOCHS=50`), `--set train.epochs=50`,
and named options. An unknown key is an error that names the nearest known one.
"""

import importlib
import os
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from g2t.errors import InputError, UsageError, did_you_mean

S = TypeVar("S", bound="Settings")

#: Environment variables that are no settings of a stage.
RESERVED = {"root", "home", "debug"}


class Settings(BaseModel):
    """Base of all settings: immutable, and no unknown key is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def layered(
    *sources: Mapping[str, Any],
) -> dict[str, Any]:
    """Merge nested mappings; of two values for one key the later source wins."""
    merged: dict[str, Any] = {}
    for source in sources:
        for key, value in source.items():
            if isinstance(value, Mapping):
                below = merged.get(key)
                merged[key] = layered(below if isinstance(below, Mapping) else {}, value)
            else:
                merged[key] = value
    return merged


def nested(key: str, value: Any) -> dict[str, Any]:
    """Turn `a.b`, v into {"a": {"b": v}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def parse_value(text: str) -> Any:
    """Read a TOML value; a bare word such as `cpf:0` is the string it looks like."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_sets(assignments: Sequence[str]) -> dict[str, Any]:
    """Read the `a.b=VALUE` of repeated `--set` options."""
    parts = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise UsageError(f"--set {assignment!r} is not KEY=VALUE", "e.g. --set train.epochs=50")
        parts.append(nested(key.strip(), parse_value(text.strip())))
    return layered(*parts)


def from_environment(
    known: set[str], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Read `G2T_A__B=VALUE` as a.b, for the keys that this stage knows at the top."""
    values = []
    for name, text in (os.environ if environment is None else environment).items():
        key = name.removeprefix("G2T_").lower().replace("__", ".")
        top = key.partition(".")[0]
        if name.startswith("G2T_") and top not in RESERVED and top in known:
            values.append(nested(key, parse_value(text)))
    return layered(*values)


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    folder = resources.files("g2t") / "recipes"
    return sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """Return a shipped recipe as TOML text; raises UsageError for an unknown name."""
    if name not in recipe_names():
        raise UsageError(f"no recipe is called {name!r}", did_you_mean(name, recipe_names()))
    return (resources.files("g2t") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def read_config(where: str) -> dict[str, Any]:
    """Read `recipe:NAME` or a TOML file; raises InputError with the line that does not parse."""
    if where.startswith("recipe:"):
        return tomllib.loads(recipe_text(where.removeprefix("recipe:")))
    try:
        return tomllib.loads(Path(where).read_text(encoding="utf-8"))
    except OSError as error:
        hint = f"did you mean recipe:{where}?" if where in recipe_names() else ""
        raise InputError(
            f"cannot read the settings file {where}: {error.strerror}", hint
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where} is not valid TOML: {error}") from error


def validate(model: type[S], values: Mapping[str, Any]) -> S:
    """Check values against a settings model; raises UsageError naming the first wrong key."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UsageError(f"unknown setting {key}", _nearest(model, first["loc"])) from None
        if first["type"] == "missing":
            raise UsageError(
                f"setting {key} is missing", f"give it with --set {key}=VALUE or its own option"
            ) from None
        reason = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"setting {key}: {reason[0].lower()}{reason[1:]} (given: {first['input']!r})"
        ) from None


def specialised(model: Any, *arguments: type[BaseModel]) -> Any:
    """Return a generic settings model with its parts filled in at run time."""
    return model.__class_getitem__(arguments)


def _nearest(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Suggest the key that was meant, given where an unknown one stands."""
    *parents, key = (str(part) for part in location)
    fields = model.model_fields
    for parent in parents:
        inner = fields[parent].annotation if parent in fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ""
        fields = inner.model_fields
    prefix = "".join(f"{parent}." for parent in parents)
    near = did_you_mean(key, [field.alias or name for name, field in fields.items()])
    return near.replace("did you mean ", f"did you mean {prefix}")


def look_up(table: Mapping[str, str], name: Any, what: str) -> Any:
    """Import the object that a table names as `module:attribute`.

    Names that the table lacks are sought among the entry points of the group `g2t.WHATs`, so
    outside packages can add teachers, students, losses and sources. Raises UsageError otherwise.
    """
    if not isinstance(name, str):
        raise UsageError(f"{name!r} is no name of a {what}", did_you_mean("", table))
    if name in table:
        module, _, attribute = table[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    group = f"g2t.{what}es" if what.endswith("s") else f"g2t.{what}s"
    for entry in entry_points(group=group, name=name):
        return entry.load()
    raise UsageError(f"no {what} is called {name!r}", did_you_mean(name, table))
