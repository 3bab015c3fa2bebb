"""The series of a cell: which colour and mark a student has, and what its figures say in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from g2t.recipe import TEACHER
from g2t.report.figures.canvas import SERIES
from g2t.report.figures.charts import Line

#: A name and the number of its series; None is the teacher.
Key = tuple[str, int | None]


@dataclass(frozen=True)
class Panel:
    """One drawing and what stands above it."""

    title: str
    svg: str


@dataclass(frozen=True)
class Figure:
    """Drawings that belong together: a title, a caption, and a key of their series.

    `hollow` is what hollow marks mean.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    key: tuple[Key, ...] = ()
    hollow: str = ""
    key_style: Literal["lines", "marks", "points"] = "lines"


class Names:
    """The series of a cell: every student has one colour and mark on the whole page.

    Only the first `SERIES` students are drawn, so that no two look alike; the one that validation
    chose is among them.
    """

    def __init__(self, cell: Mapping[str, Any]) -> None:
        students = [row for row in cell["headline"]["rows"] if row["role"] == "student"]
        labels = [row["label"] for row in students]
        chosen = cell["headline"]["chosen"]
        if chosen in labels[SERIES:]:
            labels[SERIES - 1] = chosen
        self._series: dict[str, int | None] = {
            label: index for index, label in enumerate(labels[:SERIES])
        }
        self._series[TEACHER] = None

    def drawn(self, items: Sequence[Mapping[str, Any]]) -> list[tuple[int | None, Any]]:
        """Return those items (each has a `label`) that have a series, with it."""
        known = self._series
        return [(known[item["label"]], item) for item in items if item["label"] in known]

    def key(self, *groups: Sequence[Mapping[str, Any]]) -> tuple[Key, ...]:
        """Return the names of what is drawn, in the order of the table, the teacher first."""
        labels = {item["label"] for group in groups for item in group}
        named = [(label, series) for label, series in self._series.items() if label in labels]
        return tuple(sorted(named, key=lambda key: -1 if key[1] is None else key[1]))


def percent(values: Sequence[float | None]) -> list[float]:
    """Return fractions in percent; a figure that there is not becomes a gap."""
    return [float("nan") if value is None else 100 * value for value in values]


def means(series: int | None, x: Sequence[float], scores: Sequence[Mapping[str, Any]]) -> Line:
    """Return the line of scores over seeds with its standard deviation as band."""
    means = percent([score["mean"] for score in scores])
    if all(len(score["values"]) < 2 for score in scores):
        return Line(series, x, means)
    stds = percent([score["std"] for score in scores])
    low = [mean - std for mean, std in zip(means, stds, strict=True)]
    high = [mean + std for mean, std in zip(means, stds, strict=True)]
    return Line(series, x, means, low, high)


def said(labels: Sequence[str], values: Sequence[float | None]) -> str:
    """Return names with their figures in percent, for those who cannot see the drawing."""
    known = zip(labels, values, strict=True)
    return "; ".join(f"{n} {100 * v:.1f}" for n, v in known if v is not None)


def over(counts: Iterable[int]) -> str:
    """Say over how many seeds figures are."""
    known = sorted(set(counts))
    ends = str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"
    return f"over {ends} seed{'' if known[-1] == 1 else 's'}"
