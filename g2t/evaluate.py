"""Scores of a student beside its teacher: the only place that reads test labels.

In the production setting test nodes that were seen are answered from the observed graph, nodes that
were held out from the whole one; `test` is GLNN's mix of both.

Every score carries the split's name and digest, and the lineage of student, cache, teacher and
graph is checked before anything is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from g2t.artifact import read_json, write_json
from g2t.cache.check import open_cache
from g2t.cache.format import LOGITS
from g2t.cache.reader import Cache
from g2t.errors import IntegrityError, UsageError
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import take_rows
from g2t.graph.splits import HELD_SHARE, Split, make_split
from g2t.graph.structure import induced
from g2t.metrics import agreement, defined, score
from g2t.runtime import Progress, Silent
from g2t.stage import Stage
from g2t.student.base import Inputs, predict
from g2t.student.store import TrainedStudent, read_student

if TYPE_CHECKING:
    from g2t.teacher.store import Teacher

SCHEMA = "g2t.evaluation/1"
FILE = "evaluation.json"


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
        known = {
            "student": self.student.artifact.digest,
            "graph": self.student.facts["graph"]["digest"],
        }
        if self.cache is not None:
            known["cache"] = self.cache.manifest.digest_of(LOGITS)
        for number, teacher in enumerate(self.teachers, 1):
            role = "teacher" if number == 1 else f"teacher-{number}"
            known[role] = teacher.artifact.digest
        return known


def evaluate(
    sources: Sources,
    out: Path | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the scores of a student as `g2t.evaluation/1`; with `out`, also write an artefact.

    Raises IntegrityError where student, graph, cache and teacher are not of one lineage.
    """
    case = open_case(sources)
    if case.split.setting == "production" and case.cache is not None and not case.teachers:
        (progress or Silent()).note(
            "the cache knows nothing of held-out nodes: without --teacher the teacher has no ind, "
            "so no prod and no test score"
        )
    if out is None:
        return scores_of(case)
    with Stage(out, "evaluation", {}, case.inputs, 0, force) as stage:
        if stage.finished is None:
            result = scores_of(case)
            write_json(stage.path / FILE, result)
            stage.commit({"val": result["student"]["val"], "test": result["student"]["test"]})
    return read_json(out / FILE)


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


@dataclass(frozen=True)
class Answers:
    """What a model says of the nodes in use, [N, C], and of the held-out ones, [U, C].

    `held_UC` is None where there are none, or where nobody could ask the model.
    """

    seen_NC: Tensor
    held_UC: Tensor | None = None


def scores_of(case: Case) -> dict[str, Any]:
    """Return `g2t.evaluation/1`: fractions on the validation and test nodes."""
    student, graph, split = case.student.model, case.graph, case.split
    tokens = None if case.cache is None else case.cache.tokens(student.hops)
    seen = _inputs(case, split, tokens)
    # Tokens of a cache stop at the observed graph; a held-out node's come from the whole one.
    unseen = _inputs(case, split.whole, None) if len(split.held) else None

    def answers(hops: int | None = None) -> Answers:
        held_UC = None if unseen is None else predict(student, unseen, hops)[_held_rows(split)]
        return Answers(predict(student, seen, hops), held_UC)

    own = answers()
    by_hops = {
        str(hops): _scores(case, answers(hops))
        for hops in range(student.hops + 1 if student.hops else 0)
    }
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "graph": graph.name,
        "task": graph.task,
        "metric": graph.metric,
        "split": split.facts,
        "student": {"name": case.student.name, **_scores(case, own), "by_hops": by_hops},
        "teacher": None,
        "agreement": None,
    }
    teacher = _teacher_answers(case)
    if teacher is not None:
        result["teacher"] = {"name": _teacher_name(case), **_scores(case, teacher)}
        result["agreement"] = defined(_agreement(case, own, teacher))
    return result


def _inputs(case: Case, split: Split, tokens: Tensor | None) -> Inputs:
    """Return what the student may know of the nodes in use of a split."""
    student, graph = case.student.model, case.graph
    features = student.read(take_rows(graph.features, split.nodes))
    return student.prepare(features, induced(graph.edges, split.nodes), tokens)


def _held_rows(split: Split) -> Tensor:
    """Return where the held-out nodes stand among all nodes of the split."""
    return torch.searchsorted(split.whole.nodes, split.held)


def _scores(case: Case, answers: Answers) -> dict[str, Any]:
    """Score validation and test nodes; in production `settings` says what `test` is made of."""
    graph, split, parts = case.graph, case.split, case.split.parts

    def scored(logits_BC: Tensor, nodes_B: Tensor) -> float | None:
        return defined(score(graph.metric, logits_BC, graph.labels[nodes_B]))

    def seen(nodes_B: Tensor) -> float | None:
        return scored(answers.seen_NC[torch.searchsorted(split.nodes, nodes_B)], nodes_B)

    scores: dict[str, Any] = {"val": seen(parts.val), "test": seen(parts.test)}
    if split.setting == "transductive":
        return scores
    tran = scores["test"]
    ind = None if answers.held_UC is None else scored(answers.held_UC, split.held)
    prod = None
    if tran is not None and ind is not None:
        prod = (1 - HELD_SHARE) * tran + HELD_SHARE * ind
    return {**scores, "test": prod, "settings": {"tran": tran, "ind": ind, "prod": prod}}


def _agreement(case: Case, own: Answers, teacher: Answers) -> float:
    """Return how often both name the same class: on test nodes, held-out ones if both know them."""
    test = torch.searchsorted(case.split.nodes, case.split.parts.test)
    mine, theirs = [own.seen_NC[test]], [teacher.seen_NC[test]]
    if own.held_UC is not None and teacher.held_UC is not None:
        mine.append(own.held_UC)
        theirs.append(teacher.held_UC)
    return agreement(case.graph.task, torch.cat(mine), torch.cat(theirs))


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
        name = role.removeprefix("cache/")
        if cache.manifest.digest_of(name) != digest:
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


def _teacher_answers(case: Case) -> Answers | None:
    """Return what the teacher says: the mean of those that gave the logits, or the cache's.

    A pass through the teachers is exact; the cache's logits are rounded as it says. Held-out nodes
    are answered from the whole graph, which a cache does not know.
    """
    if not case.teachers:
        return None if case.cache is None else Answers(case.cache.logits().float())
    seen_NC = _mean_trace(case, case.split)
    if not len(case.split.held):
        return Answers(seen_NC)
    return Answers(seen_NC, _mean_trace(case, case.split.whole)[_held_rows(case.split)])


def _mean_trace(case: Case, split: Split) -> Tensor:
    """Return the teachers' logits of a split's nodes in use, [N, C]."""
    from g2t.teacher.forward import trace
    from g2t.teacher.several import mean_logits

    asked = [replace(teacher, split=split) for teacher in _speakers(case)]
    return mean_logits(case.graph.task, [trace(t, case.graph).logits_NC for t in asked])


def _teacher_name(case: Case) -> str:
    if case.teachers:
        return " + ".join(teacher.name for teacher in _speakers(case))
    return "" if case.cache is None else case.cache.manifest.speaker_names


def _speakers(case: Case) -> "list[Teacher]":
    """Return the teachers whose mean counts."""
    chosen = range(1) if case.cache is None else case.cache.manifest.speakers
    return [case.teachers[position] for position in chosen]
