"""All arrows of a recipe, over seeds: import, teach, export, distill, eval; finished parts stay.

OUT is an ordinary folder: `OUT/graph`, `OUT/seed-S/{teacher,cache,student-NAME,evaluation-NAME}`,
and `OUT/run.json` with the table. Several teachers stand in `teacher/0`, `teacher/1`, ….
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2t.artifact import RECORD, read_json, write_json
from g2t.config import layered, validate
from g2t.distill.choice import check_memory
from g2t.distill.settings import distill_settings, signals_of
from g2t.distill.train import distill
from g2t.errors import InputError
from g2t.evaluate import EVALUATION, Cards, Setup, evaluate_in, evaluate_teachers
from g2t.export import ExportSettings, export
from g2t.export.add import add
from g2t.graph.importing import import_graph, resolve_import
from g2t.graph.splits import check_name
from g2t.metrics import paired, spread
from g2t.recipe import TEACHER, Recipe
from g2t.runtime import Progress, choose_device
from g2t.teacher.members import teach_members
from g2t.teacher.settings import teach_settings

SCHEMA = "g2t.run/1"


def check_recipe(recipe: Recipe) -> dict[str, Any]:
    """Resolve every part of a recipe before any work; raises UsageError naming the first fault."""
    check_name(recipe.split)
    first, *others = map(teach_settings, recipe.kinds)
    own = {"split", "setting", "seed"}
    students = {name: distill_settings(recipe.student(name)) for name in recipe.students}
    for student in students.values():
        check_memory(student, recipe.setting)
    return {
        "source": recipe.source,
        **recipe.protocol,
        "import": resolve_import(recipe.source, recipe.import_).model_dump(mode="json"),
        "teach": first.model_dump(mode="json", exclude=own),
        "beside": [other.model_dump(mode="json", exclude=own) for other in others],
        "export": export_settings(recipe).model_dump(mode="json"),
        "students": {
            name: student.model_dump(mode="json", exclude={"seed"})
            for name, student in students.items()
        },
    }


def run(
    recipe: Recipe,
    seeds: Sequence[int],
    out: Path,
    *,
    root: Path | None,
    device: str,
    force: bool,
    progress: Progress,
    card: bool = False,
) -> dict[str, Any]:
    """Walk a recipe for every seed and return the table as `g2t.run/1`.

    With `card` every student has a report card, and the table its means over seeds.
    Parts that are finished with the same settings and inputs are not made again.
    """
    check_recipe(recipe)
    choose_device(device)
    make_out(out, SCHEMA)
    graph = import_graph(recipe.source, out / "graph", recipe.import_, root, progress, force).path
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (TEACHER, *recipe.students)}
    for seed in seeds:
        walk = Walk(recipe, graph, out / f"seed-{seed}", seed, device, force, progress)
        teachers = walk.teach()
        if not recipe.students:
            rows[TEACHER].append(walk.score(teachers))
            continue
        walk.export(teachers)
        setup = walk.setup(teachers)
        cards = Cards(setup) if card else None
        for name in recipe.students:
            rows[name].append(walk.student(name, setup, cards))
        rows[TEACHER].append(rows[name][-1])
    table = tabulate(rows, list(seeds), recipe.split)
    write_json(out / RECORD, table)
    return table


@dataclass(frozen=True)
class Walk:
    """One seed of a recipe, in a folder of its own."""

    recipe: Recipe
    graph: Path
    folder: Path
    seed: int
    device: str
    force: bool
    progress: Progress

    def teach(self) -> list[Path]:
        """Train the teachers."""
        self.progress.note(f"seed {self.seed}: teacher")
        kinds = [{**values, "seed": self.seed} for values in self.recipe.kinds]
        made = teach_members(
            self.graph,
            self.folder / "teacher",
            kinds,
            device=self.device,
            force=self.force,
            progress=self.progress,
        )
        return [teacher.path for teacher in made]

    def score(self, teachers: Sequence[Path]) -> dict[str, Any]:
        """Score the teachers alone."""
        out = self.folder / f"evaluation-{TEACHER}"
        return evaluate_teachers(teachers, self.graph, out, force=self.force)

    def export(self, teachers: Sequence[Path]) -> None:
        """Write the cache; one that stands gets what it lacks, and students of it stay valid."""
        settings, out = export_settings(self.recipe), self.folder / "cache"
        record = out / RECORD
        if record.is_file() and not self.force:
            have = read_json(record).get("config", {}).get("signals", [])
            if not set(settings.signals) <= set(have):
                add(
                    out,
                    settings.signals,
                    teacher=teachers,
                    graph=self.graph,
                    progress=self.progress,
                )
            every = sorted({*have, *settings.signals})
            settings = validate(ExportSettings, {**settings.model_dump(), "signals": every})
        export(teachers, self.graph, out, settings, force=self.force, progress=self.progress)

    def setup(self, teachers: Sequence[Path]) -> Setup:
        """Open what all students of this seed are scored beside."""
        return Setup(self.graph, self.folder / "cache", teachers)

    def student(self, name: str, setup: Setup, cards: Cards | None = None) -> dict[str, Any]:
        """Distil one student and score it beside the teachers."""
        self.progress.note(f"seed {self.seed}: {name}")
        cache, out = self.folder / "cache", self.folder / f"student-{name}"
        values = layered(self.recipe.student(name), {"seed": self.seed})
        second = values.get("second")
        distill(
            cache,
            out,
            values,
            second=None if second is None else self.folder / f"student-{second}",
            device=self.device,
            force=self.force,
            progress=self.progress,
        )
        kept = self.folder / f"evaluation-{name}"
        scored = (kept / EVALUATION).is_file()
        has_card = scored and "card" in read_json(kept / EVALUATION)
        if has_card:
            cards = cards or Cards(setup)
        anew = scored and cards is not None and not has_card  # one without a card gets it
        return evaluate_in(setup, out, kept, cards=cards, force=self.force or anew)


def export_settings(recipe: Recipe) -> ExportSettings:
    """Return the export's settings; where none are named, signals are what the students need."""
    students = [distill_settings(recipe.student(name)) for name in recipe.students]
    needed = frozenset({"layers", "logits"}).union(*map(signals_of, students))
    return validate(ExportSettings, {"signals": sorted(needed), **recipe.export})


def make_out(out: Path, schema: str) -> None:
    """Make OUT; raises InputError unless it is free or the folder of a walk of the same schema."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is no folder", "choose another --out")
    record = out / RECORD
    if record.exists() and read_json(record).get("schema") != schema:
        raise InputError(f"{out} holds something else: its {RECORD} is not of {schema}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error


def tabulate(
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]], seeds: list[int], split: str
) -> dict[str, Any]:
    """Gather evaluations (of the teacher and per student, one per seed) into `g2t.run/1`.

    Test scores are fractions; `minus_teacher` is the mean difference to the teacher of the same
    seed with its standard error. In production `settings` has the parts of the test score too.
    """
    first = evaluations[TEACHER]
    teacher, splits = [result["teacher"] for result in first], [result["split"] for result in first]
    setting = {key: value for key, value in splits[0].items() if key == "setting"}
    rows = [_row(TEACHER, teacher, teacher)]
    for name, results in evaluations.items():
        if name == TEACHER:
            continue
        row = _row(name, [result["student"] for result in results], teacher)
        hops = {
            k: _row(name, [result["student"]["by_hops"][k] for result in results], teacher)
            for k in results[0]["student"]["by_hops"]
        }
        for entry in hops.values():
            del entry["name"]
        if "card" in results[0]:
            row["card"] = _card([result["card"]["students"][0] for result in results])
        rows.append({**row, "by_hops": hops} if hops else row)
    return {
        "schema": SCHEMA,
        "graph": first[0]["graph"],
        "split": {"name": split, "digests": [known["digest"] for known in splits], **setting},
        "metric": first[0]["metric"],
        "seeds": seeds,
        "rows": rows,
    }


def _row(
    name: str, scores: Sequence[Mapping[str, Any]], teacher: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a row of the table from a model's scores, one per seed, and those of its teacher."""
    row: dict[str, Any] = {"name": name, **spread([seed["test"] for seed in scores])}
    rivals = spread([seed["test"] for seed in teacher])
    row["minus_teacher"] = None
    if row["mean"] is not None and rivals["mean"] is not None:
        difference, error = paired(row["values"], rivals["values"])
        row["minus_teacher"] = {"mean": difference, "standard_error": error}
    if "settings" in scores[0]:
        row["settings"] = {
            key: spread([seed["settings"][key] for seed in scores]) for key in scores[0]["settings"]
        }
    return row


def _card(students: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return of every measure a student's value and inheritance, over seeds."""
    return {
        name: {
            part: spread([student[part][name]["value"] for student in students])
            for part in ("values", "inheritance")
        }
        for name in students[0]["values"]
    }
