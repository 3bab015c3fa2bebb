"""Rows of a report: one student over its seeds, beside its teacher, on one graph and kind of split.

Evaluations of the same student are one entry: what one lacks (a card, say) is taken from another.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from g2t.artifact import METRICS, Artifact, content_digest, file_digest, read_json
from g2t.network import FACTS
from g2t.recipe import TEACHER
from g2t.report.find import Found, read_evaluation

_SEED = re.compile(r"seed-(\d+)")
_STAGE = re.compile(r"^(evaluation|student)-?")

#: Parts of an evaluation that another evaluation of the same student may add.
BLOCKS = ("agreement", "card", "breakdown", "latency", "robust")


@dataclass(frozen=True)
class Entry:
    """One training of one student, or the teachers alone: scores, and the artefacts behind them."""

    evaluations: tuple[Artifact, ...]
    student: Artifact | None

    @property
    def place(self) -> Path:
        """The folder that it is called after."""
        first = self.evaluations[0] if self.evaluations else self.student
        assert first is not None  # there is no entry of nothing
        return first.path.resolve()

    @cached_property
    def result(self) -> dict[str, Any]:
        """The first `g2t.evaluation/1`, with what others have more; {} if there is none."""
        merged: dict[str, Any] = {}
        for artifact in self.evaluations:
            content = read_evaluation(artifact)
            missing = {k: content[k] for k in BLOCKS if merged.get(k) is None and k in content}
            if merged and merged["teacher"] is None:
                missing["teacher"] = content["teacher"]
            merged = {**content, **merged, **missing}
        return merged

    @property
    def differs(self) -> bool:
        """Whether its evaluations have other scores of it, as those of two versions may."""
        said = [read_evaluation(artifact)["student"] for artifact in self.evaluations]
        return any(scores != said[0] for scores in said)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The student's `model.json`; {} where it is not at hand."""
        return {} if self.student is None else read_json(self.student.path / FACTS)

    @property
    def seed(self) -> int:
        """That of the student; evaluations of an older g2t do not tell it, but their folders do."""
        if "seed" in self.result:
            return int(self.result["seed"])
        if self.student is not None:
            return int(self.student.record["seed"])
        named = [match for part in self.place.parts if (match := _SEED.fullmatch(part))]
        return int(named[-1][1]) if named else 0

    @property
    def split(self) -> dict[str, Any]:
        """The split's facts."""
        return dict(self.result.get("split") or self.facts["split"])

    @property
    def cell(self) -> tuple[str, str, str, str, str]:
        """What figures must share to stand in one table: graph, its digest, metric, split, setting.

        A split is named without its last number, which takes the seed.
        """
        facts = self.result or self.facts
        known = self.facts.get("graph") or {}
        name = facts["graph"] if self.result else known["name"]
        digest = known.get("digest") or self.evaluations[0].inputs.get("graph", "")
        kind, _, number = self.split["name"].rpartition(":")
        family = kind if kind and number.isdigit() else self.split["name"]
        setting = self.split.get("setting", "transductive")
        return str(name), digest, str(facts["metric"]), family, setting

    @property
    def kind(self) -> str:
        """Which student it is, such as `hop`; empty for teachers alone."""
        named = self.result.get("student") or {}
        return str(named.get("name") or self.facts.get("student") or "")

    @property
    def teachers(self) -> tuple[str, ...]:
        """Digests of who taught it, as the evaluation knows them."""
        known: dict[str, str] = {}
        for artifact in self.evaluations:
            known |= artifact.inputs
        named = [digest for role, digest in sorted(known.items()) if role.startswith("teacher")]
        return tuple(named or filter(None, [known.get("cache")]))

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Digests of all that the report shows of it."""
        named = {f"evaluation-{i}": artifact.digest for i, artifact in enumerate(self.evaluations)}
        if self.result.get("latency") is not None:
            named["latency"] = content_digest(self.result["latency"])  # in no digest of its own
        if self.student is not None:
            named["student"] = self.student.digest
            if (self.student.path / METRICS).is_file():
                named["metrics"] = file_digest(self.student.path / METRICS)
        return named


@dataclass(frozen=True)
class Row:
    """One student by seed."""

    label: str
    entries: Mapping[int, Entry]

    @property
    def first(self) -> Entry:
        """That of the lowest seed."""
        return self.entries[min(self.entries)]


@dataclass(frozen=True)
class Cell:
    """Rows that can be compared: of one graph, metric, kind of split and setting."""

    graph: str
    graph_digest: str
    metric: str
    split: str
    setting: str
    rows: tuple[Row, ...]


def gather(found: Found) -> list[Cell]:
    """Arrange what was found into cells and rows, in the order in which it was given."""
    entries = _entries(found)
    cells: dict[tuple[str, str, str, str, str], dict[str, dict[int, Entry]]] = {}
    for entry, label in zip(entries, _labels(entries), strict=True):
        cells.setdefault(entry.cell, {}).setdefault(label, {})[entry.seed] = entry
    return [
        Cell(*key, tuple(Row(label, by_seed) for label, by_seed in rows.items()))
        for key, rows in cells.items()
    ]


def _entries(found: Found) -> list[Entry]:
    groups: dict[str, list[Artifact]] = {}
    for artifact in found.evaluations:
        # Of teachers alone there is no student: such an evaluation stands by itself.
        key = artifact.inputs.get("student") or str(artifact.path.resolve())
        groups.setdefault(key, []).append(artifact)
    for digest in found.students:
        groups.setdefault(digest, [])
    return [Entry(tuple(group), found.students.get(key)) for key, group in groups.items()]


def _labels(entries: Sequence[Entry]) -> list[str]:
    """Name entries by as few of their last folders as tell them apart; seeds do not count."""
    parts = [_parts(entry) for entry in entries]
    for length in range(1, max(map(len, parts), default=1) + 1):
        labels = ["/".join(part[-length:]) for part in parts]
        known = [(e.cell, label, e.seed) for e, label in zip(entries, labels, strict=True)]
        if len(set(known)) == len(known):
            return labels
    return [str(entry.place) for entry in entries]


def _parts(entry: Entry) -> list[str]:
    """Return a folder's parts without `seed-S`, the last without the name of its stage."""
    parts = [part for part in entry.place.parts[1:] if not _SEED.fullmatch(part)]
    *above, last = parts or [""]
    return [*above, _STAGE.sub("", last) or entry.kind or TEACHER]


def inputs_of(cells: Iterable[Cell]) -> dict[str, str]:
    """Return the digests of all that a report of some cells is made from, by role."""
    return {
        f"{index}/{row.label}/seed-{seed}/{role}": digest
        for index, cell in enumerate(cells)
        for row in cell.rows
        for seed, entry in row.entries.items()
        for role, digest in entry.inputs.items()
    }
