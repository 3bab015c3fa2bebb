"""Evaluations made up for tests, as artefacts like any other."""

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from g2t.artifact import write_json
from g2t.evaluate import EVALUATION
from g2t.stage import Stage
from g2t_cli.app import app

GRAPH = "sha256:" + "a" * 64


def g2t(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def scores(name: str, test: float | None, hops: list[float] | None = None) -> dict[str, Any]:
    by_hops = {str(k): {"val": 0.5, "test": value} for k, value in enumerate(hops or [])}
    return {"name": name, "val": 0.5, "test": test, "by_hops": by_hops}


def evaluation(
    seed: int, student: dict[str, Any] | None, teacher: float | None, **blocks: Any
) -> dict[str, Any]:
    taught = None if teacher is None else {"name": "gcn + gcn", "val": 0.5, "test": teacher}
    return {
        "schema": "g2t.evaluation/1",
        "graph": "Made",
        "graph_digest": GRAPH,
        "task": "multiclass",
        "metric": "accuracy",
        "split": {"name": f"cpf:{seed}", "digest": f"sha256:{seed:064d}"},
        "seed": seed,
        "student": student,
        "teacher": taught,
        "agreement": 0.9,
        **blocks,
    }


def keep(
    out: Path,
    content: dict[str, Any],
    student: str | None,
    latency: dict[str, Any] | None = None,
    teacher: str = "b",
) -> Path:
    """Write an evaluation of a student of some digest; times go where g2t eval puts them."""
    inputs = {"graph": GRAPH, "teacher": teacher} | (
        {} if student is None else {"student": student}
    )
    with Stage(out, "evaluation", {}, inputs, 0) as stage:
        write_json(stage.path / EVALUATION, content)
        stage.commit({} if latency is None else {"latency": latency})
    return out


def timed(student_ms: float, teachers_ms: list[float], hops: int | None = None) -> dict[str, Any]:
    """Return a `g2t.latency/1` of one node and a batch, a hundred times the nodes per second."""

    def model(role: str, ms: float, fetch: str, hops: int | None) -> dict[str, Any]:
        batches = [
            {"nodes": nodes, "p50_ms": ms, "nodes_per_second": nodes * 1000 / ms}
            for nodes in (1, 100)
        ]
        facts = {"role": role, "fetch": fetch, "hops": hops, "parameters": 10, "bytes": 40}
        return {**facts, "batches": batches}

    models = [model("student", student_ms, "none" if hops is None else "full", hops)]
    if hops is not None:
        models.append(model("student", student_ms / 2, "none", 0))
    for ms in teachers_ms:
        models += [model("teacher", ms, "full", 2), model("teacher", ms / 3, "drawn", 2)]
    return {"schema": "g2t.latency/1", "models": models}


def worsened(student: list[float], teacher: list[float]) -> dict[str, Any]:
    """Return a `g2t.robust/1` of one corruption, in equal steps from none to all."""

    def curve(values: list[float]) -> list[dict[str, Any]]:
        steps = len(values) - 1
        return [
            {"share": i / steps, "mean": value, "std": 0.01, "values": [value - 0.01, value + 0.01]}
            for i, value in enumerate(values)
        ]

    curves = {"removed": {"student": curve(student), "teacher": curve(teacher)}, "rewired": None}
    return {"schema": "g2t.robust/1", "curves": curves}
