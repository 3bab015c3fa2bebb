"""The model card of a student: what it is and learned from, how good it is, what it lacks.

Written from the student's lineage, and from evaluations where some are given.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2t.artifact import open_artifact, read_json
from g2t.errors import IntegrityError
from g2t.serve.student import ServedStudent

#: A measure of which less than this share is inherited is told as a weakness.
LITTLE = 0.5

READS = {
    "landmark": "nothing: a node's own features, and landmarks that were learned with the weights",
    "mlp": "nothing: a node's own features",
    "hop": "features averaged over the neighbours within {hops} hops; any k ≤ {hops} hops serve, "
    "and a node without edges is answered from its own features (k = 0)",
}

CITATION = """```bibtex
@article{g2t2025,
  title   = {Enhancing Transformer with GNN Structural Knowledge via Distillation},
  journal = {arXiv preprint arXiv:2503.01888},
  year    = {2025}
}
```"""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: its `evaluation.json`, and the digest of the student that it is of."""

    content: Mapping[str, Any]
    student: str


def read_evaluations(paths: Sequence[Path], student: ServedStudent) -> list[Evaluation]:
    """Open evaluations; the others beside the student's own are of its kind with other seeds.

    Raises InputError where there is none, IntegrityError where none is this student's own or one is
    of another graph or kind.
    """
    found = []
    for path in paths:
        artifact = open_artifact(path, "evaluation")
        content = read_json(path / "evaluation.json")
        own = student.facts["graph"]["digest"], student.facts["task"]
        if (artifact.inputs.get("graph"), content.get("task")) != own or "student" not in content:
            raise IntegrityError(
                f"{path} is no evaluation of a student on graph {student.facts['graph']['name']}",
                "give evaluations of this student, and of others with other seeds",
            )
        if content["student"]["name"] != student.name:
            raise IntegrityError(
                f"{path} is of a {content['student']['name']} student, this one is {student.name}"
            )
        found.append(Evaluation(content, artifact.inputs["student"]))
    if found and all(one.student != student.digest for one in found):
        raise IntegrityError(
            f"none of these is an evaluation of {student.path}",
            "write one with g2t eval STUDENT --graph G --out DIR",
        )
    return found


def model_card(student: ServedStudent, evaluations: Sequence[Evaluation] = ()) -> str:
    """Return the card as Markdown."""
    facts = student.facts
    parts = [
        _front(student),
        f"# {student.name} on {facts['graph']['name']}",
        f"A `{student.name}` student of g2t: it answers {_question(student)}.",
        "## What it reads",
        _reads(student),
        "## What it learned from",
        _lineage(student),
        "## Figures",
        _figures(student, evaluations),
        "## Known weaknesses",
        "\n".join(f"- {line}" for line in _weaknesses(student, evaluations)),
        "## Use",
        _use(student),
        "## Citation",
        "The method follows arXiv 2503.01888:\n\n" + CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def _front(student: ServedStudent) -> str:
    tags = ["graph-machine-learning", "knowledge-distillation", "node-classification"]
    listed = "\n".join(f"- {tag}" for tag in tags)
    return f"---\nlibrary_name: g2t\ntags:\n{listed}\n---"


def _question(student: ServedStudent) -> str:
    names = ", ".join(f"`{name}`" for name in student.classes[:20])
    more = f" … {len(student.classes)} in all" if len(student.classes) > 20 else ""
    if student.task == "multilabel":
        return f"yes or no to each of {len(student.classes)} labels of a node: {names}{more}"
    return f"which of {len(student.classes)} classes a node has: {names}{more}"


def _reads(student: ServedStudent) -> str:
    kind = "sparse" if student.kind == "csr" else "dense"
    names = student.feature_names
    named = "" if names is None else f" ({', '.join(names[:20])}{' …' if len(names) > 20 else ''})"
    of_graph = READS.get(student.name, "up to {hops} hops").format(hops=student.hops)
    lines = [
        f"Features: {student.width} {kind} columns{named}, raw; it scales them itself.",
        f"Of the graph: {of_graph}.",
    ]
    if (memory := student.facts.get("memory")) is not None:
        lines.append(
            f"Of its memory: {memory['rows']} nodes of its graph, and what the teacher says of the "
            f"{memory['nearest']} most alike, {memory['share']:.0%} of an answer without edges. "
            "Their features stand in its weights, to be read by whoever has them."
        )
    return "\n".join(f"- {line}" for line in lines)


def _lineage(student: ServedStudent) -> str:
    facts = student.facts
    split, teacher, second = facts["split"], facts["teacher"], facts.get("second")
    setting = split.get("setting", "transductive")
    lines = [
        f"Data: {facts['graph']['name']} (`{facts['graph']['digest']}`)",
        f"Split: {split['name']}, {setting} (`{split['digest']}`)",
        "Teacher: none, true labels only"
        if teacher is None
        else f"Teacher: {teacher['name']}, {teacher['layers']} hidden layers "
        f"(`{teacher['digest']}`)",
        *([] if second is None else [f"Second teacher: {second['name']} (`{second['digest']}`)"]),
        "Losses: "
        + ", ".join(f"{name} ({_of_loss(loss)})" for name, loss in facts["losses"].items()),
        *([] if student.seed is None else [f"Seed: {student.seed}"]),
        f"Student: `{student.digest}`",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _of_loss(loss: Mapping[str, Any]) -> str:
    share = loss.get("share")
    return f"weight {loss.get('weight')}" if share is None else f"share {share} of the gradient"


def _figures(student: ServedStudent, evaluations: Sequence[Evaluation]) -> str:
    if not evaluations:
        return "None given: `g2t model card STUDENT --evaluation DIR` adds those of an evaluation."
    metric = evaluations[0].content["metric"]
    splits = ", ".join(dict.fromkeys(one.content["split"]["name"] for one in evaluations))
    count = "" if len(evaluations) == 1 else f", {len(evaluations)} trainings, mean ± std"
    rows = [f"| {metric} in %, {splits}{count} | validation | test |", "|---|---|---|"]
    for name, told in _rows(evaluations):
        rows.append(f"| {name} | {_spread(told, 'val')} | {_spread(told, 'test')} |")
    agreements = [{"value": one.content.get("agreement")} for one in evaluations]
    text = "\n".join(rows)
    if (spread := _spread(agreements, "value")) != "–":
        text += f"\n\nIt decides as its teacher does on {spread} % of the test nodes."
    return text


def _rows(evaluations: Sequence[Evaluation]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    yield "this student", [one.content["student"] for one in evaluations]
    for hops in evaluations[0].content["student"].get("by_hops") or {}:
        yield (
            f"… {hops} hops at hand",
            [one.content["student"]["by_hops"][hops] for one in evaluations],
        )
    if all(one.content.get("teacher") for one in evaluations):
        yield "its teacher", [one.content["teacher"] for one in evaluations]


def _spread(told: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return mean ± standard deviation in %, a dash where one is missing."""
    values = [row.get(key) for row in told]
    known = [100 * value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    mean = f"{statistics.mean(known):.2f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.2f}"


def _weaknesses(student: ServedStudent, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    setting = student.facts["split"].get("setting", "transductive")
    if setting == "transductive":
        yield (
            "All nodes of its graph were seen in training, without the labels of test nodes: "
            "expect less on nodes never seen."
        )
    if not student.hops:
        yield "It knows nothing of a node's neighbours, however many edges a node has."
    else:
        yield "Without edges (k = 0) it is only as good as the features: see the figures by hops."
    cards = [one.content["card"] for one in evaluations if one.content.get("card")]
    if not cards:
        yield "No report card was given: how much of the graph's structure it holds is not told."
    for card in cards[:1]:
        yield from _of_card(card)


def _of_card(card: Mapping[str, Any]) -> Iterator[str]:
    """Name the measures of structure that the student hardly inherits from its teacher."""
    row = next(row for row in card["students"] if row["role"] != "baseline")
    little = {}
    for measure, share in row["inheritance"].items():
        value = share["value"]
        if value is not None and value < LITTLE:
            little[measure] = value
    if not little:
        yield f"Report card: no measure of structure below {LITTLE:.0%} of what the teacher holds."
        return
    told = ", ".join(f"{name} {value:.0%}" for name, value in little.items())
    yield f"Report card: of what its teacher holds above raw features it inherits little of {told}."


def _use(student: ServedStudent) -> str:
    edges = ", edges" if student.hops else ""
    return (
        "```python\n"
        "from g2t import load_student\n\n"
        "student = load_student(FOLDER)\n"
        f"answer = student.predict(features{edges})\n"
        "answer.labels, answer.probabilities_NC\n"
        "```"
    )
