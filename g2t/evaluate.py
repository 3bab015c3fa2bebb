"""Scores of a student beside its teacher: the only place that reads test labels.

Every score carries the split's name and digest, and the lineage of student, cache, teacher and
graph is checked before anything is computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2t.artifact import Artifact, write_json
from g2t.cache.reader import Cache, open_cache
from g2t.errors import IntegrityError
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import take_rows
from g2t.graph.splits import Split, make_split
from g2t.graph.structure import induced
from g2t.metrics import agreement, score
from g2t.stage import Stage
from g2t.student.base import predict
from g2t.student.store import TrainedStudent, read_student

SCHEMA = "g2t.evaluation/1"


@dataclass(frozen=True)
class Sources:
    """Where to find what an evaluation needs; without cache and teacher, the student stands alone.

    The teacher's answers come from `teacher` by a forward pass, else from the cache's logits.
    """

    student: Path
    graph: Path
    cache: Path | None = None
    teacher: Path | None = None


def evaluate(sources: Sources, out: Path | None = None, *, force: bool = False) -> dict[str, Any]:
    """Return the scores of a student as `g2t.evaluation/1`; with `out`, also write an artefact.

    Raises IntegrityError where student, graph, cache and teacher are not of one lineage.
    """
    student, graph = read_student(sources.student), read_graph(sources.graph)
    fingerprint = graph.fingerprints()["graph"]
    cache = None if sources.cache is None else open_cache(sources.cache)
    split = _check_lineage(student, graph, fingerprint, cache)
    inputs = {"student": student.artifact.digest, "graph": fingerprint}
    if cache is not None:
        inputs["cache"] = cache.manifest.digest_of("teacher-logits")
    if sources.teacher is not None:
        inputs["teacher"] = _teacher_digest(sources.teacher, cache, student)
    if out is None:
        return _score(student, graph, split, cache, sources.teacher)
    with Stage(out, "evaluation", {}, inputs, 0, force) as stage:
        if stage.finished is None:
            result = _score(student, graph, split, cache, sources.teacher)
            write_json(stage.path / "evaluation.json", result)
            stage.finished = stage.commit({"test": result["student"]["test"]})
    return read_evaluation(stage.finished)


def read_evaluation(artifact: Artifact) -> dict[str, Any]:
    """Return the scores that an evaluation artefact holds."""
    from g2t.artifact import read_json

    return read_json(artifact.path / "evaluation.json")


def _score(
    student: TrainedStudent, graph: Graph, split: Split, cache: Cache | None, teacher: Path | None
) -> dict[str, Any]:
    nodes, metric = split.nodes, graph.metric
    features = take_rows(graph.features, nodes)
    tokens = None if cache is None else cache.tokens(student.model.hops)
    inputs = student.model.prepare(features, induced(graph.edges, nodes), tokens)
    parts = {"val": split.parts.val, "test": split.parts.test}
    rows = {name: torch.searchsorted(nodes, ids) for name, ids in parts.items()}
    labels = graph.labels[nodes]

    def scores(logits_NC: Tensor) -> dict[str, float]:
        return {
            name: score(metric, logits_NC[index], labels[index]) for name, index in rows.items()
        }

    by_hops = {
        str(hops): scores(predict(student.model, inputs, hops))
        for hops in range(student.model.hops + 1 if student.model.hops else 0)
    }
    logits_NC = predict(student.model, inputs)
    name, teacher_NC = _teacher_logits(graph, cache, teacher)
    known = None if teacher_NC is None else {"name": name, **scores(teacher_NC)}
    test = rows["test"]
    agreed = None if teacher_NC is None else agreement(logits_NC[test], teacher_NC[test])
    return {
        "schema": SCHEMA,
        "graph": graph.name,
        "task": graph.task,
        "metric": metric,
        "split": {"name": split.name, "digest": split.digest},
        "student": {"name": student.name, **scores(logits_NC), "by_hops": by_hops},
        "teacher": known,
        "agreement": agreed,
    }


def _check_lineage(
    student: TrainedStudent, graph: Graph, fingerprint: str, cache: Cache | None
) -> Split:
    """Return the student's split, made anew from the graph, if all agree; else IntegrityError."""
    facts = student.facts
    where = student.artifact.path
    if facts["graph"]["digest"] != fingerprint:
        raise IntegrityError(
            f"student {where} learned from graph {facts['graph']['name']} "
            f"({facts['graph']['digest'][:19]}…), this graph is {graph.name} ({fingerprint[:19]}…)",
            "give the graph that its teacher was taught on",
        )
    split = make_split(graph, facts["split"]["name"])
    if split.digest != facts["split"]["digest"]:
        raise IntegrityError(f"student {where}: split {split.name} of this graph is not its split")
    if cache is not None:
        for name, digest in student.artifact.inputs.items():
            if cache.manifest.digest_of(name.removeprefix("cache/")) != digest:
                raise IntegrityError(
                    f"student {where} was not distilled from cache {cache.artifact.path}: "
                    f"{name.removeprefix('cache/')} differs",
                    "give the cache that it was distilled from",
                )
    return split


def _teacher_digest(path: Path, cache: Cache | None, student: TrainedStudent) -> str:
    """Return a teacher's digest if cache and student come from it; else IntegrityError."""
    from g2t.teacher.store import read_teacher

    digest = read_teacher(path).artifact.digest
    taught_by: Mapping[str, Any] = student.facts["teacher"] or {}
    if cache is not None and cache.manifest.teacher.digest != digest:
        raise IntegrityError(f"cache {cache.artifact.path} was not exported from teacher {path}")
    if taught_by and taught_by["digest"] != digest:
        raise IntegrityError(f"student {student.artifact.path} did not learn from teacher {path}")
    return digest


def _teacher_logits(
    graph: Graph, cache: Cache | None, teacher: Path | None
) -> tuple[str, Tensor | None]:
    if teacher is not None:
        from g2t.teacher.forward import trace
        from g2t.teacher.store import read_teacher

        known = read_teacher(teacher)
        return known.name, trace(known, graph).logits_NC
    if cache is not None:
        return cache.manifest.teacher.name, cache.logits().float()
    return "", None
