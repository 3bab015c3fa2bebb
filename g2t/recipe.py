"""Recipes: one TOML file that holds the settings of every stage, so that a study has one name.

    source = "planetoid:Cora"        # g2t import
    split = "public"
    setting = "transductive"         # or "production": a fifth of the test nodes is held out
    [import]                         # settings of the source
    [teach]                          # settings of g2t teach
    [[beside]]                       # teachers of another kind, averaged with those of [teach]
    [export]                         # settings of g2t export-features
    [students.hop]                   # settings of g2t distill, one table per student

Every command takes a recipe as its `--config` and reads its own part.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from g2t.config import Settings, validate
from g2t.errors import UsageError, did_you_mean

Stage = Literal["import", "teach", "export", "distill"]

#: The comparison that a recipe makes if it names no students.
STUDENTS: Mapping[str, Mapping[str, Any]] = {
    "landmark": {},
    "hop": {},
    "mlp": {},
    "landmark-no-teacher": {"student": "landmark", "preset": "none"},
    "hop-no-teacher": {"student": "hop", "preset": "none"},
}


#: The row of the teacher in a table, so no name for a student.
TEACHER = "teacher"

#: A student's name becomes part of a folder's name.
StudentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


class Recipe(Settings):
    """A recipe; the tables are checked by the stages that they belong to."""

    source: str
    split: str = "public"
    setting: str = "transductive"
    import_: dict[str, Any] = Field(default_factory=dict, alias="import")
    teach: dict[str, Any] = Field(default_factory=dict)
    beside: tuple[dict[str, Any], ...] = ()
    export: dict[str, Any] = Field(default_factory=dict)
    students: dict[StudentName, dict[str, Any]]

    @property
    def protocol(self) -> dict[str, Any]:
        """The settings of g2t teach that stand at the top: what every figure is measured on."""
        return {"split": self.split, "setting": self.setting}

    @property
    def kinds(self) -> tuple[dict[str, Any], ...]:
        """The settings of every kind of teacher; the cache has the layers of the first."""
        return tuple({**self.protocol, **values} for values in (self.teach, *self.beside))

    def student(self, name: str) -> dict[str, Any]:
        """Return the settings of one student; its kind defaults to its name.

        Raises UsageError where the recipe has no such student.
        """
        if name not in self.students:
            raise UsageError(
                f"the recipe has no student {name!r}", did_you_mean(name, self.students)
            )
        return {"student": name, **self.students[name]}


def with_students(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's content; where it names no students, with those of the usual comparison."""
    return {"students": STUDENTS, **content}


def read_recipe(content: Mapping[str, Any]) -> Recipe:
    """Check a recipe's own keys; raises UsageError naming the first wrong one."""
    recipe = validate(Recipe, with_students(content))
    if TEACHER in recipe.students:
        raise UsageError(f"a student cannot be called {TEACHER!r}", "choose another name for it")
    teachers = [("teach", recipe.teach), *(("beside", values) for values in recipe.beside)]
    for name, part in (*teachers, *recipe.students.items()):
        own = {"seed"} if name in recipe.students else {"seed", "split", "setting"}
        if not part.keys().isdisjoint(own):
            raise UsageError(
                f"the recipe's table {name} sets a seed, split or setting of its own",
                "a recipe has one split and setting, at its top, and the seeds of --seeds",
            )
    _check_seconds(recipe)
    return recipe


def _check_seconds(recipe: Recipe) -> None:
    """Raise UsageError where a student learns from one that is not made before it."""
    made: list[str] = []
    for name, part in recipe.students.items():
        second = part.get("second")
        if second is not None and second not in made:
            raise UsageError(
                f"student {name} of the recipe learns from {second!r}, no student before it",
                "name a student that stands above it",
            )
        made.append(name)


def is_recipe(content: Mapping[str, Any]) -> bool:
    """Tell whether a file's content is a recipe and not the settings of one stage."""
    return not content.keys().isdisjoint({"source", "import", "teach", "export", "students"})


def is_study(content: Mapping[str, Any]) -> bool:
    """Tell whether a file's content is a study, of many recipes, and not one recipe."""
    return "study" in content


def part_of(content: Mapping[str, Any], stage: Stage, student: str = "landmark") -> dict[str, Any]:
    """Return one stage's settings from a recipe, or from a file of that stage's own settings."""
    if is_study(content):
        raise UsageError("this is a study, and no settings of one stage", "walk it with g2t run")
    if not is_recipe(content):
        return dict(content)
    recipe = read_recipe(content)
    if stage == "teach":
        return recipe.kinds[0]
    if stage == "distill":
        return recipe.student(student)
    return recipe.import_ if stage == "import" else recipe.export
