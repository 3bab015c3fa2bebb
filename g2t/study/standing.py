"""Which cells of a study are done, told by the records that lie there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from g2t.artifact import RECORD, read_json
from g2t.distill.settings import asked_of, distill_settings
from g2t.evaluate import EVALUATION
from g2t.graph.importing import was_asked
from g2t.graph.splits import Setting
from g2t.pipeline import export_settings
from g2t.recipe import Recipe
from g2t.study.plan import Cell
from g2t.teacher.members import Member, members_of
from g2t.teacher.settings import teach_settings
from g2t.teacher.train import UNASKED

State = Literal["done", "not run", "other settings"]


class Standing:
    """What lies in the folder of a study, looked at once per call.

    A cell counts as done with a seed if its student has the settings that are asked for now, its
    teachers, cache and graph too, and the scores are those of this student and these teachers.
    """

    def __init__(self, recipes: Mapping[tuple[str, Setting], Recipe], out: Path) -> None:
        self.recipes, self.out = recipes, out
        self._asked: dict[tuple[str, Setting, str], dict[str, Any]] = {}
        self._sources: dict[tuple[str, Setting, int], bool] = {}
        self._teachers: dict[tuple[str, Setting, int], set[str] | None] = {}

    def folder(self, place: tuple[str, Setting], seed: int) -> Path:
        """Return where a seed of a place stands."""
        recipe, setting = place
        return self.out / recipe / setting / f"seed-{seed}"

    def state(self, cell: Cell, seed: int) -> State:
        """Tell how a cell stands with one seed."""
        folder = self.folder(cell.place, seed)
        student = _record(folder / f"student-{cell.part}")
        scores = _record(folder / f"evaluation-{cell.part}")
        if student is None or scores is None:
            return "not run"
        teachers = self._teachers_of(cell.place, seed)
        inputs = scores["inputs"]
        known = {digest for role, digest in inputs.items() if role.startswith("teacher")}
        fits = (
            student["config"] == {**self._student(cell), "seed": seed}
            and inputs["student"] == student["digest"]
            and known == teachers
            and self._sources_fit(cell.place, seed)
        )
        return "done" if fits else "other settings"

    def result(self, cell: Cell, seed: int) -> dict[str, Any]:
        """Return the scores of a cell that is done, a `g2t.evaluation/1`."""
        return read_json(self.folder(cell.place, seed) / f"evaluation-{cell.part}" / EVALUATION)

    def _student(self, cell: Cell) -> dict[str, Any]:
        """Return the settings that `g2t distill` would record, but for the seed."""
        key = (*cell.place, cell.part)
        if key not in self._asked:
            settings = distill_settings(self.recipes[cell.place].student(cell.part))
            self._asked[key] = asked_of(settings, second=False)
        return self._asked[key]

    def _sources_fit(self, place: tuple[str, Setting], seed: int) -> bool:
        """Tell whether graph and cache have the settings asked for; a cache may hold more."""
        key = (*place, seed)
        if key not in self._sources:
            recipe = self.recipes[place]
            graph = _record(self.out / place[0] / "graph")
            cache = _record(self.folder(place, seed) / "cache")
            self._sources[key] = (
                graph is not None
                and cache is not None
                and was_asked(graph, recipe.source, recipe.import_)
                and _exported(cache["config"])
                == _exported(export_settings(recipe).model_dump(mode="json"))
            )
        return self._sources[key]

    def _teachers_of(self, place: tuple[str, Setting], seed: int) -> set[str] | None:
        """Return the digests of the teachers, None unless all have the settings asked for."""
        key = (*place, seed)
        if key not in self._teachers:
            recipe = self.recipes[place]
            kinds = [{**values, "seed": seed} for values in recipe.kinds]
            members = members_of(self.folder(place, seed) / "teacher", kinds)
            records = [_teacher_record(member) for member in members]
            digests = {record["digest"] for record in records if record is not None}
            self._teachers[key] = digests if None not in records else None
        return self._teachers[key]


def _teacher_record(member: Member) -> dict[str, Any] | None:
    """Return the record of a teacher, None unless it has the settings asked for."""
    record = _record(member.out)
    if record is None:
        return None
    asked = teach_settings(member.values).model_dump(mode="json", exclude=UNASKED)
    split = str(record["config"].get("split"))  # there with its number
    same_split = split == asked["split"] or split.startswith(f"{asked['split']}:")
    others = {**record["config"], "split": asked["split"]}
    return record if same_split and others == asked else None


def _exported(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a cache without its signals: what students read of these, they record."""
    return {key: value for key, value in config.items() if key != "signals"}


def _record(path: Path) -> dict[str, Any] | None:
    """Return the record of an artefact, None where there is none."""
    return read_json(path / RECORD) if (path / RECORD).is_file() else None
