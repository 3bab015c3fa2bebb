"""The page: one HTML file with its style and figures inside, which asks nobody for anything."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from g2t.recipe import TEACHER
from g2t.report import words
from g2t.report.figures import figures_of
from g2t.report.figures.canvas import SERIES

#: Width and height of the strip of scores in the headline table.
STRIP = (110, 18)
#: The marks of matplotlib's series, as paths within ± 4.
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    "M-3.5 -3.5h7v7h-7z",
    "M0 -4.2L4 3.4H-4z",
    "M0 -4.6L4.6 0L0 4.6L-4.6 0z",
    "M0 4.2L4 -3.4H-4z",
    "M-1.5 -4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "M-4 -2L-2 -4L0 -2L2 -4L4 -2L2 0L4 2L2 4L0 2L-2 4L-4 2L-2 0z",
    "M0 -4.4L4.2 -1.3L2.6 3.6H-2.6L-4.2 -1.3z",
)
#: The teacher's, where it is no line.
STAR = "M0 -5.5L1.3 -1.8L5.2 -1.7L2.1 .7L3.2 4.5L0 2.2L-3.2 4.5L-2.1 .7L-5.2 -1.7L-1.3 -1.8z"


def page_of(content: Mapping[str, Any]) -> str:
    """Return `index.html` of a `g2t.report/1`."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(_file)
    plain = Environment(
        autoescape=True,
        loader=loader,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    plain.globals |= {
        "w": words,
        "shapes": SHAPES,
        "star": STAR,
        "strip": STRIP,
        "TEACHER": TEACHER,
    }
    cells = [
        {
            "facts": cell,
            "figures": list(figures_of(cell, f"c{index}")),
            "strips": _strips(cell["headline"]["rows"]),
            "chosen": words.by_label(cell, cell["headline"]["chosen"]),
            "parts": [part for part in ("tran", "ind") if _has(cell, part)],
            "left_out": max(_students(cell) - SERIES, 0),
        }
        for index, cell in enumerate(content["cells"])
    ]
    title = ", ".join(dict.fromkeys(str(cell["graph"]) for cell in content["cells"]))
    return plain.get_template("page.html").render(
        content=content, cells=cells, title=title, style=_file("page.css")
    )


def _file(name: str) -> str:
    return (resources.files("g2t.report") / name).read_text(encoding="utf-8")


def _has(cell: Mapping[str, Any], part: str) -> bool:
    return any(part in row.get("settings", {}) for row in cell["headline"]["rows"])


def _students(cell: Mapping[str, Any]) -> int:
    return sum(row["role"] == "student" for row in cell["headline"]["rows"])


def _strips(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return of each row where its seeds, its mean and the teacher's stand on one common strip."""
    known = [score for row in rows for score in row["test"]["values"] if score is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    teacher = next((row["test"]["mean"] for row in rows if row["label"] == TEACHER), None)

    def place(score: float | None) -> float | None:
        room = STRIP[0] - 12
        return None if score is None else round(6 + room * (score - low) / ((high - low) or 1), 1)

    return [
        {
            "seeds": [place(score) for score in row["test"]["values"] if score is not None],
            "mean": place(row["test"]["mean"]),
            "teacher": place(teacher),
            "alt": f"{row['label']} by seed: "
            + ", ".join(words.percent(score) for score in row["test"]["values"]),
        }
        for row in rows
    ]
