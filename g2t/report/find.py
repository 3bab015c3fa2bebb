"""What a report is asked for: evaluations and students, found by folder and paired by digest.

OUT of g2t run or of a study     the evaluations and students of its table
an evaluation, a student         itself, and what lies beside it and belongs to it
any other folder                 every evaluation and student below it, such as those of a sweep
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from g2t.artifact import RECORD, Artifact, kind_of, open_artifact, read_json
from g2t.errors import InputError, IntegrityError
from g2t.evaluate import EVALUATION
from g2t.evaluate.run import SCHEMA as EVALUATED
from g2t.files import shown
from g2t.pipeline import SCHEMA as RUN
from g2t.recipe import TEACHER
from g2t.study.table import SCHEMA as STUDY

#: Folders below a given one that are looked into.
DEPTH = 6

#: What a row of the report is about.
SUBJECTS = ("evaluation", "student")


@dataclass
class Found:
    """All that a report reads: evaluations, students, and the other artefacts beside them.

    `evaluations` and `students` are in the order of what was given; `others` are graphs, teachers
    and caches by digest.
    """

    evaluations: list[Artifact] = field(default_factory=list)
    students: dict[str, Artifact] = field(default_factory=dict)
    others: dict[str, Path] = field(default_factory=dict)

    def add(self, path: Path) -> bool:
        """Take an artefact, if it is of a kind that a report shows; tell whether it is."""
        kind = kind_of(path)
        if kind == "evaluation":
            artifact = open_artifact(path, kind)
            known = [evaluation.path.resolve() for evaluation in self.evaluations]
            if path.resolve() not in known:
                self.evaluations.append(artifact)
        elif kind == "student":
            artifact = open_artifact(path, kind)
            self.students.setdefault(artifact.digest, artifact)
        elif kind is not None:
            self.others.setdefault(str(read_json(path / RECORD).get("digest")), path)
        return kind in SUBJECTS

    def graphs(self) -> list[Path]:
        """The folders of the graphs."""
        return [path for path in self.others.values() if kind_of(path) == "graph"]


def find(runs: Sequence[Path]) -> Found:
    """Find what a report of some folders is about.

    Raises InputError where nothing lies there or nothing that can be reported, IntegrityError where
    an artefact was changed.
    """
    found = Found()
    for run in runs:
        before = len(found.evaluations) + len(found.students)
        _find_in(run, found)
        if len(found.evaluations) + len(found.students) == before and not _is_known(run, found):
            raise InputError(
                f"no evaluation and no student lies in {run}",
                "give what g2t run, g2t eval --out or g2t distill wrote",
            )
    return found


def _is_known(run: Path, found: Found) -> bool:
    """Tell whether something in a folder was found by way of another one."""
    known = [artifact.path for artifact in (*found.evaluations, *found.students.values())]
    return any(path.resolve().is_relative_to(run.resolve()) for path in known)


def _find_in(run: Path, found: Found) -> None:
    if not run.is_dir():
        raise InputError(f"there is no folder {run}", "give what g2t run or g2t eval --out wrote")
    kind = kind_of(run)
    if kind in SUBJECTS:
        _find_beside(run, found)
        return
    if kind is not None:
        raise InputError(
            f"{run} is a {kind}: a report is of evaluations and students",
            "give what g2t run, g2t eval --out or g2t distill wrote",
        )
    record = read_json(run / RECORD) if (run / RECORD).is_file() else {}
    named = {RUN: _of_run, STUDY: _of_study}.get(str(record.get("schema")))
    if named is None:
        for path in _below(run, DEPTH):
            found.add(path)
        return
    try:
        parts = list(named(record))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(
            f"{run / RECORD} is damaged: {error}", "run the same g2t run again"
        ) from None
    for folder, name in parts:
        for path in _beside(run / folder):
            found.add(path)
        _add_named(run / folder, name, found)
    for top in sorted({run, *(run / Path(folder).parts[0] for folder, _ in parts)}):
        found.add(top / "graph")  # a study has one per recipe


def _add_named(folder: Path, name: str, found: Found) -> None:
    """Take the evaluation and the student of one row and seed of a table."""
    if not found.add(folder / f"evaluation-{name}"):
        raise InputError(
            f"there is no evaluation at {folder / f'evaluation-{name}'}, though its table has it",
            "run the same g2t run again",
        )
    found.add(folder / f"student-{name}")


def _of_run(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield folder and name of every evaluation that a `g2t.run/1` was made from."""
    names = [row["name"] for row in record["rows"] if row["name"] != TEACHER] or [TEACHER]
    for name in names:
        for seed in record["seeds"]:
            yield f"seed-{int(seed)}", str(name)


def _of_study(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield folder and name of every evaluation that a `g2t.study/1` was made from."""
    known = set()
    for table in record["tables"]:
        for row in table["rows"]:
            for seed in row["seeds"]:
                folder = f"{table['recipe']}/{table['setting']}/seed-{int(seed)}"
                part = folder, f"{table['student']}-{row['variant']}"
                if part not in known:  # tiers share their cells
                    known.add(part)
                    yield part


def _find_beside(run: Path, found: Found) -> None:
    """Take an artefact, and of those beside it the ones of the same student."""
    found.add(run)
    given = open_artifact(run, str(kind_of(run)))
    student = given.digest if given.kind == "student" else given.inputs.get("student")
    for path in sorted(run.resolve().parent.iterdir()):
        kind = kind_of(path) if path.is_dir() and path != run.resolve() else None
        record = read_json(path / RECORD) if kind is not None else {}
        of = record.get("inputs", {}).get("student") if kind == "evaluation" else None
        own = record.get("digest") if kind == "student" else None
        if (kind is not None and kind not in SUBJECTS) or student in (of, own):
            found.add(path)


def _beside(folder: Path) -> Iterator[Path]:
    """Yield teachers and caches in the folder of one seed."""
    yield from (folder / "cache", folder / "teacher")
    if (folder / "teacher").is_dir():
        yield from sorted(path for path in (folder / "teacher").iterdir() if path.is_dir())


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the finished artefacts below a folder, none inside another; no link is followed."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    for path in paths:
        if path.suffix in (".partial", ".replaced"):
            continue
        if kind_of(path) is not None:
            yield path
        elif depth > 1:
            yield from _below(path, depth - 1)


def read_evaluation(artifact: Artifact) -> dict[str, Any]:
    """Read the scores of an evaluation; raises IntegrityError where they are of another schema."""
    content = read_json(artifact.path / EVALUATION)
    if content.get("schema") != EVALUATED:
        raise IntegrityError(
            f"{artifact.path} has schema {shown(content.get('schema'))}, this g2t reads "
            f"{EVALUATED!r}",
            "upgrade g2t",
        )
    # Times are in the record, which no digest covers.
    timed = artifact.record.get("summary", {}).get("latency")
    return content if timed is None else {**content, "latency": timed}
