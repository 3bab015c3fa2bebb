"""What evaluations need, opened and found to be of one lineage."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from g2t.cache.check import open_cache
from g2t.cache.format import LOGITS
from g2t.cache.reader import Cache
from g2t.errors import IntegrityError, UsageError
from g2t.evaluate.answers import Answers, answers_of
from g2t.graph.bundle import read_graph
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


class Setup:
    """Graph, cache and teachers, opened once for all students that learned from them.

    What the teachers say is asked for once too. Raises InputError and IntegrityError where a part
    is missing or damaged.
    """

    def __init__(
        self,
        graph: Path,
        cache: Path | None = None,
        teacher: Path | Sequence[Path] | None = None,
    ) -> None:
        self.graph = read_graph(graph)
        self.cache = None if cache is None else open_cache(cache)
        self._paths = [teacher] if isinstance(teacher, Path) else list(teacher or ())
        self._splits: dict[tuple[str, str, int], Split] = {}
        self._tokens: dict[int, Tensor | None] = {}
        self._answers: dict[str, Answers] = {}

    @cached_property
    def fingerprint(self) -> str:
        """The graph's own."""
        return self.graph.fingerprints()["graph"]

    @cached_property
    def teachers(self) -> "tuple[Teacher, ...]":
        """The teachers, in the order of the cache, if there is one.

        Raises IntegrityError where they are not those of the cache, UsageError for several without
        a cache.
        """
        return _open_teachers(self._paths, self.cache) if self._paths else ()

    @property
    def speakers(self) -> "list[Teacher]":
        """The teachers whose mean counts."""
        chosen = range(len(self.teachers)) if self.cache is None else self.cache.manifest.speakers
        return [self.teachers[position] for position in chosen] if self.teachers else []

    @property
    def teacher_name(self) -> str:
        """What the teachers whose mean counts are called; empty if there is none."""
        if self.teachers:
            return " + ".join(teacher.name for teacher in self.speakers)
        return "" if self.cache is None else self.cache.manifest.speaker_names

    def split_of(self, student: TrainedStudent) -> Split:
        """Return the student's split, made anew, if this is the graph that it learned from."""
        facts, where, graph = student.facts, student.artifact.path, self.graph
        known = facts["graph"]
        if known["digest"] != self.fingerprint:
            raise IntegrityError(
                f"student {where} learned from graph {known['name']} ({known['digest'][:19]}…), "
                f"this graph is {graph.name} ({self.fingerprint[:19]}…)",
                "give the graph that its teacher was taught on",
            )
        named = facts["split"]
        key = named["name"], named.get("setting", "transductive"), named.get("seed", 0)
        if key not in self._splits:
            self._splits[key] = make_split(graph, *key)
        split = self._splits[key]
        if split.digest != named["digest"]:
            raise IntegrityError(
                f"student {where}: split {split.name} of this graph is not its split"
            )
        return split

    def tokens(self, hops: int) -> Tensor | None:
        """Return the hop tokens that the cache holds for a student of so many hops."""
        if self.cache is None:
            return None
        if hops not in self._tokens:
            self._tokens[hops] = self.cache.tokens(hops)
        return self._tokens[hops]

    def teacher_answers(self, split: Split) -> Answers | None:
        """Return what the teacher says by a pass over the graph, exact, else what the cache keeps.

        A cache rounds as it says, and knows nothing of held-out nodes.
        """
        if not self.teachers:
            return None if self.cache is None else Answers(self.cache.logits().float())
        if split.digest not in self._answers:
            self._answers[split.digest] = answers_of(self.speakers, self.graph, split)
        return self._answers[split.digest]


@dataclass(frozen=True)
class Case:
    """Everything of one evaluation, opened and found to be of one lineage."""

    student: TrainedStudent
    split: Split
    setup: Setup

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of all that the scores depend on."""
        from g2t.teacher.several import digests_of

        known = {
            "student": self.student.artifact.digest,
            "graph": self.student.facts["graph"]["digest"],
        }
        if self.setup.cache is not None:
            known["cache"] = self.setup.cache.manifest.digest_of(LOGITS)
        return known | digests_of(self.setup.teachers)


def open_case(student_path: Path, setup: Setup) -> Case:
    """Open a student beside its setup; raises IntegrityError unless they belong together."""
    student = read_student(student_path)
    split = setup.split_of(student)
    if setup.cache is not None:
        _check_cache(student, setup.cache)
    if setup.teachers:
        _check_teachers(student, setup.teachers)
    return Case(student, split, setup)


def _check_cache(student: TrainedStudent, cache: Cache) -> None:
    for role, digest in student.artifact.inputs.items():
        part, _, name = role.partition("/")
        if part == "cache" and cache.manifest.digest_of(name) != digest:
            raise IntegrityError(
                f"student {student.artifact.path} was not distilled from cache "
                f"{cache.artifact.path}: {name} differs",
                "give the cache that it was distilled from",
            )


def _open_teachers(paths: Sequence[Path], cache: Cache | None) -> "tuple[Teacher, ...]":
    """Open the teachers; raises IntegrityError unless they are those of the cache.

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
    return tuple(teachers)


def _check_teachers(student: TrainedStudent, teachers: "Sequence[Teacher]") -> None:
    """Raise IntegrityError unless the student learned from the first, on the split of all."""
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
