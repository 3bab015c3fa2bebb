"""Drawings as inline SVG: text stays text, and colours become variables of the page's style.

matplotlib knows only fixed colours, so every role has one that nothing else has, and in the SVG it
is replaced by `var(--ROLE)`. Sizes are CSS pixels.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: Of one panel: a phone is 375 wide, so letters stay as large as they were drawn.
WIDTH, HEIGHT = 340, 230
FONT_SIZE = 11

#: Series that have a colour and a mark of their own.
SERIES = 8
INK, MUTED, GRID, TEACHER = "#010101", "#020202", "#030303", "#040404"
PAPER, HEAT = "#050505", "#060606"
_ROLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    TEACHER: "teacher",
    PAPER: "paper",
    HEAT: "heat",
}
#: matplotlib's marks, by series; `page` draws the same ones in its legends.
MARKS = ("o", "s", "^", "D", "v", "P", "X", "p")

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "g2t",
    "font.size": FONT_SIZE,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": FONT_SIZE,
    "axes.edgecolor": GRID,
    "axes.linewidth": 1.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "lines.linewidth": 2.0,
    "text.parse_math": False,  # names may hold dollars
    "path.simplify": False,  # it would merge the points of a cloud
    "lines.solid_capstyle": "round",
}


def colour(series: int | None) -> str:
    """Return the colour of a series; that of the teacher for None."""
    return TEACHER if series is None else f"#0a0a{series % SERIES:02x}"


@dataclass
class Sheet:
    """A drawing with one pair of axes; `svg` once it is done."""

    drawing: "Drawing"
    axes: "Axes"
    name: str
    alt: str
    svg: str = ""


@contextmanager
def sheet(name: str, alt: str, height: float = HEIGHT, width: float = WIDTH) -> Iterator[Sheet]:
    """Lend axes to draw on, and keep what was drawn as SVG; `name` is unique on its page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE, "backend": "svg"}):
        drawing = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        FigureCanvasSVG(drawing)
        known = Sheet(drawing, drawing.add_subplot(), name, alt)
        yield known
        text = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(text, format="svg", transparent=True, metadata=nothing)
    known.svg = inline(text.getvalue(), name, alt)


def inline(svg: str, name: str, alt: str) -> str:
    """Return matplotlib's SVG as it can stand in a page among others.

    Its own header and style go, ids are made unique, numbers have two decimals, and colours are the
    variables of the page.
    """
    view = re.search(r'viewBox="([^"]*)"', svg)
    assert view is not None  # matplotlib writes one
    body = svg[svg.index("<defs>") : svg.rindex("</svg>")]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.S)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', body)
    body = re.sub(r'xlink:href="#', rf'href="#{name}-', body)
    body = re.sub(r"url\(#", rf"url(#{name}-", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", body)
    body = re.sub(r"<[^>]*>", _short_numbers, body)  # in tags alone: texts are ticks
    body = re.sub(r"#(0a0a0[0-7]|0[1-6]0[1-6]0[1-6])\b", _variable, body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    label = escape(alt, quote=True)
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{label}">\n{body}</svg>'


def _short_numbers(tag: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{3,}", _two_decimals, tag[0])


def _two_decimals(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _variable(match: re.Match[str]) -> str:
    role = _ROLES.get(match[0], f"s{match[0][-1]}")
    return f"var(--{role})"
