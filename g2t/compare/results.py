"""What `g2t compare` is given: a row of a run, or evaluations, as artefacts or JSON files.

runs/cora:hop                                  a row of `g2t run`, all its seeds
runs/cora:teacher                              its teachers
e0,e1,e2                                       evaluations; `g2t eval --out` or `--json`
'runs/study/cora-cpf/*/seed-*/evaluation-hop'  a pattern of them, quoted
e0:teacher                                     the teacher's score in an evaluation
"""

from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from g2t.artifact import RECORD, kind_of, open_artifact, read_json
from g2t.errors import InputError, IntegrityError, UsageError, did_you_mean
from g2t.evaluate import EVALUATION
from g2t.evaluate.run import SCHEMA
from g2t.files import shown
from g2t.pipeline import SCHEMA as RUN
from g2t.recipe import TEACHER

STUDENT = "student"

M = TypeVar("M", bound=BaseModel)


class Facts(BaseModel):
    """Base of what is read here: keys that a comparison does not need are passed by."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


Fraction = Annotated[float, Field(ge=0, le=1)]


class Scores(Facts):
    """A model's scores; `settings` are the parts of its test score in production."""

    name: str
    val: Fraction | None
    test: Fraction | None
    settings: dict[str, Fraction | None] = Field(default_factory=dict)


class SplitFacts(Facts):
    """A split as results carry it."""

    name: str
    digest: str
    setting: str = "transductive"


class Evaluation(Facts):
    """A `g2t.evaluation/1`; those of an older g2t tell neither seed nor digest of the graph."""

    graph: str
    graph_digest: str | None = None
    task: str
    metric: str
    split: SplitFacts
    seed: int | None = None
    student: Scores | None
    teacher: Scores | None


class Row(Facts):
    """A row of a run, with its test scores by seed."""

    name: str
    values: tuple[float | None, ...] = Field(strict=False)


class RunSplit(Facts):
    """The splits of a run by seed."""

    digests: tuple[str, ...] = Field(strict=False)


class Run(Facts):
    """A `g2t.run/1`."""

    split: RunSplit
    seeds: tuple[int, ...] = Field(strict=False)
    rows: tuple[Row, ...] = Field(strict=False)


@dataclass(frozen=True)
class Result:
    """One model's scores in one evaluation, and what they are of."""

    where: Path
    seed: int | None
    graph_digest: str
    facts: Evaluation
    scores: Scores

    def score(self, part: str) -> float | None:
        """Return `val`, `test`, or in production `tran` or `ind`; None where there is none."""
        if part in ("tran", "ind"):
            return self.scores.settings.get(part)
        return self.scores.val if part == "val" else self.scores.test


def read_results(given: str) -> list[Result]:
    """Read what an argument of `g2t compare` names.

    Raises UsageError for a row that there is not, InputError where nothing lies there or something
    else does, IntegrityError where a file is damaged or a run's table does not fit its evaluations.
    """
    parts = [given] if _exists(given) else given.split(",")
    return [result for part in parts for result in _results(part)]


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # a long list is no file's name
        return False


def _results(text: str) -> list[Result]:
    place, row = text, None
    if not _exists(text) and ":" in text:
        place, _, row = text.rpartition(":")
    paths = [Path(place)] if _exists(place) else []
    if not paths and has_magic(place):
        # Path.glob takes no absolute pattern.
        paths = [Path(name) for name in sorted(glob(place))]  # noqa: PTH207
    if not paths or not place:
        raise InputError(
            f"there is nothing at {shown(text)}",
            "give a row of a run as OUT:ROW, or evaluations, joined by commas or by a pattern",
        )
    return [result for path in paths for result in _results_at(path, row)]


def _results_at(path: Path, row: str | None) -> list[Result]:
    if kind_of(path) == "evaluation":
        return [_of_artifact(path, row)]
    if path.is_file():
        content = read_json(path)
        if content.get("schema") != SCHEMA:
            raise _foreign(path, content.get("schema"))
        facts = _checked(Evaluation, content, path)
        if facts.graph_digest is None:
            raise InputError(
                f"{path} does not tell the digest of its graph: it was made by an older g2t",
                "make it again with g2t eval --json",
            )
        return [_chosen(path, facts, facts.graph_digest, row)]
    record = read_json(path / RECORD) if (path / RECORD).is_file() else {}
    if record.get("schema") != RUN:
        raise _foreign(path, record.get("kind") or record.get("schema"))
    return _of_run(path, _checked(Run, record, path / RECORD), row)


def _foreign(path: Path, found: object) -> InputError:
    what = "" if found is None else f" ({shown(found)})"
    return InputError(
        f"{path} is neither an evaluation nor the folder of a g2t run{what}",
        "give what g2t eval or g2t run wrote",
    )


def _checked(model: type[M], content: dict[str, Any], path: Path) -> M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise IntegrityError(f"{path} is damaged: {key}: {first['msg'].lower()}") from None


def _of_artifact(path: Path, row: str | None) -> Result:
    artifact = open_artifact(path, "evaluation")
    content = read_json(path / EVALUATION)
    if content.get("schema") != SCHEMA:
        found = shown(content.get("schema"))
        raise IntegrityError(f"{path} has schema {found}, this g2t reads {SCHEMA!r}", "upgrade g2t")
    facts = _checked(Evaluation, content, path / EVALUATION)
    return _chosen(path, facts, artifact.inputs.get("graph", ""), row)


def _chosen(path: Path, facts: Evaluation, digest: str, row: str | None) -> Result:
    """Return the student's scores, or the teacher's if asked for, or if it stands alone."""
    found = {STUDENT: facts.student, TEACHER: facts.teacher}
    known = {name: scores for name, scores in found.items() if scores is not None}
    name = row or next(iter(known), STUDENT)
    if name not in known:
        raise UsageError(f"{path} has no scores of {shown(name)}", did_you_mean(name, known))
    return Result(path, facts.seed, digest, facts, known[name])


def _of_run(out: Path, run: Run, name: str | None) -> list[Result]:
    """Return the evaluations of one row, seed by seed, as they stand in the table too."""
    rows = {row.name: row for row in run.rows}
    if name is None or name not in rows:
        said = "say which row" if name is None else f"it has no row {shown(name)}"
        hint = did_you_mean(name or "", rows)
        raise UsageError(f"{out} is the folder of a run: {said}, as {out}:ROW", hint)
    if not len(run.seeds) == len(run.split.digests) == len(rows[name].values):
        raise IntegrityError(f"{out / RECORD} is damaged: its columns have several lengths")
    students = [row for row in rows if row != TEACHER]
    holder = name if name != TEACHER or not students else students[-1]
    results = []
    for seed, digest, value in zip(run.seeds, run.split.digests, rows[name].values, strict=True):
        path = out / f"seed-{seed}" / f"evaluation-{holder}"
        found = _of_artifact(path, TEACHER if name == TEACHER else STUDENT)
        if (found.facts.split.digest, found.scores.test) != (digest, value):
            raise IntegrityError(
                f"{path} is not the evaluation that {out / RECORD} was made from",
                "run the same g2t run again: it makes the table anew",
            )
        results.append(replace(found, seed=seed))
    return results
