"""What one evaluation needs, opened and found to be of one lineage."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from g2t.cache.check import open_cache
from g2t.cache.format import LOGITS
from g2t.cache.reader import Cache
from g2t.errors import IntegrityError, UsageError
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.splits import Split, make_split
from g2t.student.store import TrainedStudent, read_student

if TYPE_CHECKING:
    from g2t.teacher.store import Teacher


@dataclass(frozen=True)
class Sources:
    """Where to find what an evaluation needs; without cache and teacher, the student stands alone.

    The teacher's answers come from `teacher` by a forward pass, else from the cache's logits. Where
    the cache was made from several teachers, `teacher` is all of them, in any order.
    """

    student: Path
    graph: Path
    cache: Path | None = None
    teacher: Path | Sequence[Path] | None = None


@dataclass(frozen=True)
class Case:
    """Everything of one evaluation, opened and found to be of one lineage.

    `teachers` are in the order of the cache, if there is one.
    """

    student: TrainedStudent
    graph: Graph
    split: Split
    cache: Cache | None
    teachers: "tuple[Teacher, ...]"

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of all that the scores depend on."""
        from g2t.teacher.several import digests_of

        known = {
            "student": self.student.artifact.digest,
            "graph": self.student.facts["graph"]["digest"],
        }
        if self.cache is not None:
            known["cache"] = self.cache.manifest.digest_of(LOGITS)
        return known | digests_of(self.teachers)

    @property
    def speakers(self) -> "list[Teacher]":
        """The teachers whose mean counts."""
        chosen = range(len(self.teachers)) if self.cache is None else self.cache.manifest.speakers
        return [self.teachers[position] for position in chosen] if self.teachers else []


def open_case(sources: Sources) -> Case:
    """Open the parts of an evaluation; raises IntegrityError unless they belong together."""
    student, graph = read_student(sources.student), read_graph(sources.graph)
    split = _split_of(student, graph)
    cache = None if sources.cache is None else open_cache(sources.cache)
    if cache is not None:
        _check_cache(student, cache)
    given = [sources.teacher] if isinstance(sources.teacher, Path) else sources.teacher
    teachers = _teachers_of(given, student, cache) if given else ()
    return Case(student, graph, split, cache, teachers)


def _split_of(student: TrainedStudent, graph: Graph) -> Split:
    """Return the student's split, made anew, if this is the graph that it learned from."""
    facts, where = student.facts, student.artifact.path
    fingerprint = graph.fingerprints()["graph"]
    known = facts["graph"]
    if known["digest"] != fingerprint:
        raise IntegrityError(
            f"student {where} learned from graph {known['name']} ({known['digest'][:19]}…), "
            f"this graph is {graph.name} ({fingerprint[:19]}…)",
            "give the graph that its teacher was taught on",
        )
    named = facts["split"]
    setting, seed = named.get("setting", "transductive"), named.get("seed", 0)
    split = make_split(graph, named["name"], setting, seed)
    if split.digest != named["digest"]:
        raise IntegrityError(f"student {where}: split {split.name} of this graph is not its split")
    return split


def _check_cache(student: TrainedStudent, cache: Cache) -> None:
    for role, digest in student.artifact.inputs.items():
        part, _, name = role.partition("/")
        if part == "cache" and cache.manifest.digest_of(name) != digest:
            raise IntegrityError(
                f"student {student.artifact.path} was not distilled from cache "
                f"{cache.artifact.path}: {name} differs",
                "give the cache that it was distilled from",
            )


def _teachers_of(
    paths: Sequence[Path], student: TrainedStudent, cache: Cache | None
) -> "tuple[Teacher, ...]":
    """Open the teachers; raises IntegrityError unless cache and student come from them.

    A student knows the first alone, so that of several only a cache can tell who they are.
    """
    from g2t.teacher.several import arrange
    from g2t.teacher.store import read_teacher

    if cache is None and len(paths) > 1:
        raise UsageError(
            f"only a cache knows which of {len(paths)} teachers said what", "add --cache CACHE"
        )
    teachers = [read_teacher(path) for path in paths]
    if cache is not None:
        digests = [member.digest for member in cache.manifest.members]
        teachers = arrange(teachers, digests, cache.artifact.path)
    first, taught_by = teachers[0], student.facts["teacher"]
    path = first.artifact.path
    if taught_by is not None and taught_by["digest"] != first.artifact.digest:
        raise IntegrityError(f"student {student.artifact.path} did not learn from teacher {path}")
    for teacher in teachers:
        if teacher.split.digest != student.facts["split"]["digest"]:
            named = student.facts["split"]
            raise IntegrityError(
                f"teacher {teacher.artifact.path} has split {teacher.split.name} "
                f"({teacher.split.setting}), student {student.artifact.path} has split "
                f"{named['name']} ({named.get('setting', 'transductive')}): it may have learned "
                "from test nodes",
                "give a teacher of the same split and setting",
            )
    return tuple(teachers)
