"""Several teachers of one graph and one split, whose probabilities are averaged."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from g2t.errors import IntegrityError, UsageError
from g2t.teacher.store import Teacher, TeacherFile

T = TypeVar("T", Teacher, TeacherFile)

#: A member whose validation score is this far below the best one rather harms the mean.
LAGGARD = 0.02


def digests_of(teachers: Iterable[Teacher] | Iterable[TeacherFile]) -> dict[str, str]:
    """Return the identities of teachers by the roles of inputs: teacher, teacher-2, …"""
    digests = enumerate((teacher.artifact.digest for teacher in teachers), 1)
    return {"teacher" if i == 1 else f"teacher-{i}": digest for i, digest in digests}


def check_together(teachers: Sequence[Teacher] | Sequence[TeacherFile]) -> None:
    """Raise UsageError where a teacher is given twice, IntegrityError where splits differ."""
    first, seen = teachers[0], set[str]()
    for teacher in teachers:
        path, split = teacher.artifact.path, teacher.split
        if teacher.artifact.digest in seen:
            raise UsageError(f"teacher {path} is given twice", "name every teacher once")
        seen.add(teacher.artifact.digest)
        if split.digest != first.split.digest:
            raise IntegrityError(
                f"teacher {path} has split {split.name} ({split.digest[:19]}…), teacher "
                f"{first.artifact.path} has {first.split.name} ({first.split.digest[:19]}…): one "
                "may have learned from the test nodes of the other",
                "give teachers of one split: g2t teach --split NAME with its last number",
            )


def arrange(teachers: Sequence[T], digests: Sequence[str], cache: Path) -> list[T]:
    """Return the teachers of a cache in its order, in whatever order they are given.

    Raises IntegrityError naming the first one that is foreign or missing.
    """
    known = {teacher.artifact.digest: teacher for teacher in teachers}
    for digest, teacher in known.items():
        if digest not in digests:
            raise IntegrityError(
                f"cache {cache} was not made from this teacher: {teacher.artifact.path} is "
                f"{digest[:19]}…, that of the cache {_shown(digests)}",
                "give the teacher that it was exported from",
            )
    for number, digest in enumerate(digests, 1):
        if digest not in known:
            raise IntegrityError(
                f"cache {cache} was made from {len(digests)} teachers, and teacher {number} "
                f"({digest[:19]}…) is missing",
                "give every one of them, in any order",
            )
    return [known[digest] for digest in digests]


def laggards(teachers: Iterable[TeacherFile]) -> list[tuple[TeacherFile, float, float]]:
    """Return those far below the best, each with its own and with the best validation score."""
    recorded = [(teacher, teacher.artifact.record.get("summary", {})) for teacher in teachers]
    scored = [
        (teacher, float(summary["val"]))
        for teacher, summary in recorded
        if isinstance(summary, dict) and isinstance(summary.get("val"), int | float)
    ]
    best = max((val for _, val in scored), default=0.0)
    return [(teacher, val, best) for teacher, val in scored if val < best - LAGGARD]


def _shown(digests: Iterable[str]) -> str:
    return ", ".join(f"{digest[:19]}…" for digest in digests)
