"""Scores of a student beside its teacher: the only place that reads test labels.

Every score carries the split's name and digest, and the lineage of student, cache, teacher and
graph is checked before anything is computed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from g2t.artifact import read_json, write_json
from g2t.cache.check import open_cache
from g2t.cache.format import LOGITS
from g2t.cache.reader import Cache
from g2t.errors import IntegrityError
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import take_rows
from g2t.graph.splits import Split, make_split
from g2t.graph.structure import induced
from g2t.metrics import agreement, defined, score
from g2t.stage import Stage
from g2t.student.base import predict
from g2t.student.store import TrainedStudent, read_student

if TYPE_CHECKING:
    from g2t.teacher.store import Teacher

SCHEMA = "g2t.evaluation/1"
FILE = "evaluation.json"


@dataclass(frozen=True)
class Sources:
    """Where to find what an evaluation needs; without cache and teacher, the student stands alone.

    The teacher's answers come from `teacher` by a forward pass, else from the cache's logits.
    """

    student: Path
    graph: Path
    cache: Path | None = None
    teacher: Path | None = None


@dataclass(frozen=True)
class Case:
    """Everything of one evaluation, opened and found to be of one lineage."""

    student: TrainedStudent
    graph: Graph
    split: Split
    cache: Cache | None
    teacher: "Teacher | None"

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of all that the scores depend on."""
        known = {
            "student": self.student.artifact.digest,
            "graph": self.student.facts["graph"]["digest"],
        }
        if self.cache is not None:
            known["cache"] = self.cache.manifest.digest_of(LOGITS)
        if self.teacher is not None:
            known["teacher"] = self.teacher.artifact.digest
        return known


def evaluate(sources: Sources, out: Path | None = None, *, force: bool = False) -> dict[str, Any]:
    """Return the scores of a student as `g2t.evaluation/1`; with `out`, also write an artefact.

    Raises IntegrityError where student, graph, cache and teacher are not of one lineage.
    """
    case = open_case(sources)
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
    teacher = None if sources.teacher is None else _teacher_of(sources.teacher, student, cache)
    return Case(student, graph, split, cache, teacher)


def scores_of(case: Case) -> dict[str, Any]:
    """Return `g2t.evaluation/1`: fractions on the validation and test nodes."""
    student, graph, split = case.student.model, case.graph, case.split
    tokens = None if case.cache is None else case.cache.tokens(student.hops)
    features = student.read(take_rows(graph.features, split.nodes))
    inputs = student.prepare(features, induced(graph.edges, split.nodes), tokens)
    rows = {
        "val": torch.searchsorted(split.nodes, split.parts.val),
        "test": torch.searchsorted(split.nodes, split.parts.test),
    }
    labels = graph.labels[split.nodes]

    def scores(logits_NC: Tensor) -> dict[str, float | None]:
        return {
            part: defined(score(graph.metric, logits_NC[index], labels[index]))
            for part, index in rows.items()
        }

    own_NC = predict(student, inputs)
    by_hops = {
        str(hops): scores(predict(student, inputs, hops))
        for hops in range(student.hops + 1 if student.hops else 0)
    }
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "graph": graph.name,
        "task": graph.task,
        "metric": graph.metric,
        "split": {"name": split.name, "digest": split.digest},
        "student": {"name": case.student.name, **scores(own_NC), "by_hops": by_hops},
        "teacher": None,
        "agreement": None,
    }
    teacher_NC, test = _teacher_logits(case), rows["test"]
    if teacher_NC is not None:
        result["teacher"] = {"name": _teacher_name(case), **scores(teacher_NC)}
        result["agreement"] = defined(agreement(graph.task, own_NC[test], teacher_NC[test]))
    return result


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
    split = make_split(graph, facts["split"]["name"])
    if split.digest != facts["split"]["digest"]:
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


def _teacher_of(path: Path, student: TrainedStudent, cache: Cache | None) -> "Teacher":
    """Open the teacher; raises IntegrityError unless cache and student come from it."""
    from g2t.teacher.store import read_teacher

    teacher = read_teacher(path)
    taught_by = student.facts["teacher"]
    if cache is not None and cache.manifest.teacher.digest != teacher.artifact.digest:
        raise IntegrityError(f"cache {cache.artifact.path} was not exported from teacher {path}")
    if taught_by is not None and taught_by["digest"] != teacher.artifact.digest:
        raise IntegrityError(f"student {student.artifact.path} did not learn from teacher {path}")
    if teacher.split.digest != student.facts["split"]["digest"]:
        raise IntegrityError(
            f"teacher {path} has split {teacher.split.name}, student {student.artifact.path} has "
            f"split {student.facts['split']['name']}: it may have learned from test nodes",
            "give a teacher of the same split",
        )
    return teacher


def _teacher_logits(case: Case) -> Tensor | None:
    if case.teacher is not None:
        from g2t.teacher.forward import trace

        return trace(case.teacher, case.graph).logits_NC
    return None if case.cache is None else case.cache.logits().float()


def _teacher_name(case: Case) -> str:
    if case.teacher is not None:
        return case.teacher.name
    return "" if case.cache is None else case.cache.manifest.teacher.name
