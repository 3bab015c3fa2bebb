"""The kinds of charts: lines, dots with error bars, a heat map, and clouds of points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from g2t.report.figures.canvas import GRID, HEAT, INK, MARKS, MUTED, PAPER, SERIES, colour, sheet

#: Height of a line of a dot chart and of a heat map, and what axes take beside them.
LINE, MARGIN = 22, 48
#: A share beyond these is drawn at the edge, with its figure.
LEAST, MOST = -0.5, 1.5
#: Width and height of a cloud.
CLOUD = 220
#: Cells in a row that have room for a figure, letters of a name beside a row, and cells that a row
#: has room for at least: one alone would be a bar.
MOST_FIGURES, MOST_LETTERS, LEAST_CELLS = 14, 24, 5
#: Marks on a long curve.
MARKS_EVERY = 6


@dataclass(frozen=True)
class Line:
    """One line: `series` is its colour and mark, None for the teacher's."""

    series: int | None
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def lines(
    name: str,
    alt: str,
    drawn: Sequence[Line],
    *,
    x_label: str,
    ticks: Mapping[float, str] | None = None,
    log: bool = False,
) -> str:
    """Draw lines with their ranges as bands; `ticks` are places on the x axis with their names."""
    from matplotlib.ticker import MaxNLocator

    with sheet(name, alt) as paper:
        axes = paper.axes
        axes.grid(axis="x", visible=False)
        for line in drawn:
            long, own = len(line.x) > 20, colour(line.series)
            every = max(len(line.x) // MARKS_EVERY, 1) if long else 1
            taught = line.series is None
            axes.plot(
                line.x,
                line.y,
                color=own,
                marker="" if taught else MARKS[(line.series or 0) % SERIES],
                markersize=5.5,
                markevery=((line.series or 0) * every // SERIES, every) if long else None,
                linestyle=(0, (4, 3)) if taught else "-",
                linewidth=1.6 if long or taught else 2.0,
            )
            if line.low and line.low != line.high:
                axes.fill_between(line.x, line.low, line.high, color=own, alpha=0.15, linewidth=0)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        if ticks is not None:
            axes.set_xticks(list(ticks), list(ticks.values()))
            axes.margins(x=0.08)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
        axes.set_xlabel(x_label)
    return paper.svg


def _fit(label: str) -> str:
    """Shorten a name so that it leaves room for the drawing."""
    return label if len(label) <= MOST_LETTERS else f"{label[: MOST_LETTERS - 1]}…"


@dataclass(frozen=True)
class Dot:
    """A share with its error; `hollow` marks a variant of a series."""

    series: int
    value: float
    error: float
    hollow: bool = False


def dots(name: str, alt: str, rows: Mapping[str, Sequence[Dot]]) -> str:
    """Draw shares by row from top to bottom, with the lines 0 and 100 %."""
    most = max(map(len, rows.values()), default=1)
    height = MARGIN + sum(max(LINE, 6 * most + 6) for _ in rows)
    with sheet(name, alt, height) as paper:
        axes = paper.axes
        axes.grid(axis="y", visible=False)
        axes.set_xlim(100 * LEAST - 8, 100 * MOST + 8)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        for end in (0, 100):
            axes.axvline(end, color=MUTED, linewidth=1.2)
        for index, found in enumerate(rows.values()):
            if index:
                axes.axhline(index - 0.5, color=GRID, linewidth=0.8)
            for place, dot in enumerate(found):
                y = index + (place - (len(found) - 1) / 2) * (0.8 / max(most, 1))
                inside = min(max(dot.value, LEAST), MOST)
                own = colour(dot.series)
                if inside == dot.value:
                    ends = [max(dot.value - dot.error, LEAST), min(dot.value + dot.error, MOST)]
                    axes.plot([100 * end for end in ends], [y, y], color=own, linewidth=1.6)
                else:
                    side = "left" if dot.value < 0 else "right"
                    axes.annotate(
                        f"{100 * dot.value:.0f}".replace("-", "−"),
                        (100 * inside, y),
                        xytext=(7 if side == "left" else -7, 0),
                        textcoords="offset points",
                        ha=side,
                        va="center",
                        fontsize=9,
                        color=INK,
                    )
                mark = MARKS[dot.series % SERIES] if inside == dot.value else "<>"[dot.value > 0]
                fill = PAPER if dot.hollow else own
                axes.plot(
                    [100 * inside], [y], mark, color=own, markersize=5.5, markerfacecolor=fill
                )
        axes.set_yticks(range(len(rows)), [_fit(label) for label in rows])
        axes.set_xticks([-50, 0, 50, 100, 150])
        axes.set_xlabel("inherited, %")
    return paper.svg


def heat(name: str, alt: str, rows: Mapping[str, Sequence[float | None]], x_label: str) -> str:
    """Draw shares of 0 … 1 as cells: one colour, the stronger the higher, each with its figure."""
    from matplotlib.patches import Rectangle

    width = max(map(len, rows.values()))
    with sheet(name, alt, MARGIN + LINE * len(rows)) as paper:
        axes = paper.axes
        axes.grid(visible=False)
        for index, values in enumerate(rows.values()):
            for column, value in enumerate(values):
                strength = min(max(value or 0.0, 0.0), 1.0)
                cell = Rectangle(
                    (column + 0.53, index - 0.46), 0.94, 0.92, facecolor=HEAT, alpha=strength
                )
                axes.add_patch(cell)
                text = "–" if value is None else f"{100 * value:.0f}"
                if width <= MOST_FIGURES:
                    axes.text(column + 1, index, text, ha="center", va="center", fontsize=9)
        axes.set_xlim(0.5, max(width, LEAST_CELLS) + 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks(range(1, width + 1, -(-width // MOST_FIGURES)))
        axes.set_yticks(range(len(rows)), [_fit(label) for label in rows])
        axes.spines[:].set_visible(False)
        axes.set_xlabel(x_label)
    return paper.svg


def cloud(
    name: str, alt: str, points: Sequence[Sequence[float]], series: Sequence[int | None]
) -> str:
    """Draw points without axes, each in the colour of its series.

    Points of one series are one path of lines without length, a fraction of the bytes of marks.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    with sheet(name, alt, CLOUD, CLOUD) as paper:
        axes = paper.axes
        axes.set_axis_off()
        for own in sorted(set(series), key=lambda known: -1 if known is None else known):
            mine = [point for point, of in zip(points, series, strict=True) if of == own]
            places = [tuple(point) for point in mine for _ in range(2)]
            path = Path(places, [Path.MOVETO, Path.LINETO] * len(mine))
            axes.add_patch(
                PathPatch(
                    path,
                    fill=False,
                    edgecolor=MUTED if own is None else colour(own),
                    linewidth=3.6,
                    capstyle="round",
                    alpha=0.7,
                )
            )
        for axis, edges in (("x", [p[0] for p in points]), ("y", [p[1] for p in points])):
            room = 0.05 * ((max(edges) - min(edges)) or 1)
            getattr(axes, f"set_{axis}lim")(min(edges) - room, max(edges) + room)
    return paper.svg


@dataclass(frozen=True)
class Point:
    """A model at one place; `hollow` marks a variant of a series."""

    series: int | None
    x: float
    y: float
    hollow: bool = False


def scatter(name: str, alt: str, points: Sequence[Point], x_label: str) -> str:
    """Draw models over a logarithmic x axis; the teacher is a star."""
    with sheet(name, alt) as paper:
        axes = paper.axes
        for point in points:
            own = colour(point.series)
            mark = "*" if point.series is None else MARKS[point.series % SERIES]
            size = 12 if point.series is None else 8
            fill = PAPER if point.hollow else own
            axes.plot([point.x], [point.y], mark, color=own, markersize=size, markerfacecolor=fill)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.margins(0.15)
        axes.set_xlabel(x_label)
    return paper.svg
