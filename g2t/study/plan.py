"""A study's file, and the cells that it asks for.

    [study]
    title = "Which losses pay"
    rivals = ["soft", "none"]            # what every variant is compared with
    [variants]                           # settings of g2t distill, by name
    none = { preset = "none" }
    soft = { preset = "soft" }
    "soft+lsp" = { loss.lsp = { share = 0.1, until = 0.7 } }
    [recipes.cora-deep]                  # tables here replace those of the base, a shipped recipe
    base = "cora-cpf"
    teach = { teacher = "gcn2", model = { layers = 6 } }
    [tiers.a]
    recipes = ["cora-cpf", "cora-deep"]
    settings = ["transductive", "production"]
    students = ["landmark", "hop"]
    seeds = [0, 1, 2, 3, 4]
    variants = ["none", "soft", "soft+lsp"]

A cell is one of TIER/RECIPE/SETTING/STUDENT/VARIANT, with its seeds. What a recipe says of a
student stands below every variant of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from g2t.config import Settings, layered, read_config, recipe_names, validate
from g2t.errors import UsageError, did_you_mean
from g2t.graph.splits import Setting
from g2t.recipe import Recipe, read_recipe

#: A name becomes part of a folder's name and of a cell's, in which patterns are sought.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Seed = Annotated[int, Field(ge=0)]

#: What the parts of a cell's name are.
PARTS = ("tier", "recipe", "setting", "student", "variant")


class Variant(Settings):
    """Settings of `g2t distill` under one name; `students` are those that it is for (None: all)."""

    preset: str = "soft"
    loss: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    students: tuple[Name, ...] | None = None

    @property
    def values(self) -> dict[str, Any]:
        """What it sets."""
        return self.model_dump(exclude={"students"})


class Tier(Settings):
    """A grid: every recipe in every setting, every student in every variant, every seed.

    `chosen` are variants that the results of an earlier tier chose.
    """

    recipes: tuple[Name, ...] = Field(min_length=1)
    settings: tuple[Setting, ...] = Field(("transductive",), min_length=1)
    students: tuple[Name, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)
    variants: tuple[Name, ...] = Field(min_length=1)
    chosen: tuple[Name, ...] = ()


class Heading(Settings):
    """What a study is called, and the variants that all others are compared with."""

    title: str
    rivals: tuple[Name, ...] = Field(min_length=1)


class Study(Settings):
    """A study; `recipes` are those of its own, by name."""

    study: Heading
    variants: dict[Name, Variant]
    recipes: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    tiers: dict[Name, Tier]


@dataclass(frozen=True)
class Cell:
    """One square of the grid, with its seeds."""

    tier: str
    recipe: str
    setting: Setting
    student: str
    variant: str
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """TIER/RECIPE/SETTING/STUDENT/VARIANT."""
        return "/".join(getattr(self, part) for part in PARTS)

    @property
    def place(self) -> tuple[str, Setting]:
        """Recipe and setting: cells of one place share graph, teachers and caches."""
        return self.recipe, self.setting

    @property
    def part(self) -> str:
        """What its student is called below its place and seed, whatever tier asks for it."""
        return f"{self.student}-{self.variant}"


def read_study(content: Mapping[str, Any]) -> Study:
    """Check a study's own keys and the names in it; raises UsageError naming the first wrong one.

    What the variants set is checked against students and losses by `check_study`.
    """
    study = validate(Study, content)
    known: dict[str, Iterable[str]] = {
        "variants": study.variants,
        "chosen": study.variants,
        "recipes": {*study.recipes, *recipe_names()},
    }
    _check_names("study.rivals", study.study.rivals, study.variants)
    for name, tier in study.tiers.items():
        for key, names in known.items():
            _check_names(f"tiers.{name}.{key}", getattr(tier, key), names)
        for key in ("settings", "students", "seeds"):
            _check_once(f"tiers.{name}.{key}", getattr(tier, key))
        _check_once(f"tiers.{name}", (*tier.variants, *tier.chosen))
    students = {student for tier in study.tiers.values() for student in tier.students}
    for name, variant in study.variants.items():
        _check_names(f"variants.{name}.students", variant.students or (), students)
    return study


def _check_names(key: str, names: Sequence[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"{key} names {name!r}, which there is not", did_you_mean(name, known))
    _check_once(key, names)


def _check_once(key: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UsageError(f"{key} names {value!r} twice", "name it once")


def cells_of(study: Study) -> list[Cell]:
    """Return all cells, tier by tier."""
    return [
        Cell(name, recipe, setting, student, variant, tier.seeds)
        for name, tier in study.tiers.items()
        for recipe in tier.recipes
        for setting in tier.settings
        for student in tier.students
        for variant in (*tier.variants, *tier.chosen)
        if student in (study.variants[variant].students or tier.students)
    ]


def recipes_of(study: Study) -> dict[tuple[str, Setting], Recipe]:
    """Return the recipe of every place, with a student for each of its cells in any tier.

    So a cache holds what all of them need, whichever are asked for first. Raises UsageError where a
    recipe is wrong, or where two cells would be one folder.
    """
    places: dict[tuple[str, Setting], dict[str, Cell]] = {}
    for cell in cells_of(study):
        parts = places.setdefault(cell.place, {})
        twin = parts.setdefault(cell.part, cell)
        if twin.student != cell.student:
            raise UsageError(
                f"cells {twin.name} and {cell.name} are both called {cell.part}",
                "give one of the variants another name",
            )
    return {place: _recipe(study, place, parts) for place, parts in places.items()}


def _recipe(study: Study, place: tuple[str, Setting], parts: Mapping[str, Cell]) -> Recipe:
    name, setting = place
    own = dict(study.recipes.get(name, {"base": name}))
    base = own.pop("base", None)
    content = {**(read_config(f"recipe:{base}") if base else {}), **own, "setting": setting}
    students = read_recipe(content).students
    content["students"] = {
        part: layered(
            {"student": cell.student},
            _alone(students.get(cell.student, {})),
            study.variants[cell.variant].values,
        )
        for part, cell in parts.items()
    }
    return read_recipe(content)


def _alone(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a student's settings without a second teacher: a variant compares losses alone."""
    return {key: value for key, value in values.items() if not key.startswith("second")}


def select(
    study: Study, only: Sequence[str] = (), seeds: Sequence[int] | None = None
) -> list[Cell]:
    """Return the cells that match any of some patterns, with those of their seeds that are asked.

    Raises UsageError for a pattern without a cell and for a seed of no tier.
    """
    cells = cells_of(study)
    for pattern in only:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise UsageError(f"--only {pattern!r} matches no cell", _nearest(pattern, cells))
    for seed in seeds or ():
        if not any(seed in cell.seeds for cell in cells):
            raise UsageError(f"no tier of the study has seed {seed}", "add it to tiers.NAME.seeds")
    chosen = [c for c in cells if not only or any(fnmatchcase(c.name, p) for p in only)]
    if seeds is not None:
        chosen = [replace(c, seeds=tuple(s for s in c.seeds if s in seeds)) for c in chosen]
    return [cell for cell in chosen if cell.seeds]


def _nearest(pattern: str, cells: Sequence[Cell]) -> str:
    """Say what is wrong with a pattern: the first part that no cell has, and the nearest to it."""
    given = pattern.split("/")
    if len(given) == len(PARTS):
        for part, glob in zip(PARTS, given, strict=True):
            known = {getattr(cell, part) for cell in cells}
            if not any(fnmatchcase(name, glob) for name in known):
                return f"no {part} is called {glob!r}; {did_you_mean(glob, known)}"
    shape = "/".join(part.upper() for part in PARTS)
    return f"cells are called {shape}, e.g. {cells[0].name}; --dry-run lists them"
