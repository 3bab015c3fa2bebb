"""What is drawn of a cell of `g2t.report/1`: one figure per part that is there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from g2t.recipe import TEACHER
from g2t.report.figures.canvas import SERIES
from g2t.report.figures.charts import Dot, Line, cloud, dots, heat, lines, scatter
from g2t.report.projection import class_counts
from g2t.report.words import variant

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

    `hollow` is what hollow marks mean; `points` says that series are points without marks.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    key: tuple[Key, ...] = ()
    hollow: str = ""
    points: bool = False


class Names:
    """The series of a cell: every student has one colour and mark on the whole page.

    Only the first `SERIES` students are drawn, so that no two look alike.
    """

    def __init__(self, cell: Mapping[str, Any]) -> None:
        students = [row for row in cell["headline"]["rows"] if row["role"] == "student"]
        labels = [row["label"] for row in students]
        self.left_out = max(len(labels) - SERIES, 0)
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


def figures_of(cell: Mapping[str, Any], prefix: str) -> Iterator[Figure]:
    """Yield the figures of a cell; `prefix` makes their names unique on the page."""
    names = Names(cell)
    metric = cell["metric"].replace("_", " ")
    makers = {
        "card": _card,
        "latency": _latency,
        "degree": _groups,
        "hops": _hops,
        "robust": _robust,
        "curves": _curves,
        "projection": _projection,
    }
    for part, make in makers.items():
        if cell[part] is not None:
            yield make(cell, names, metric, f"{prefix}-{part}")


def _percent(values: Sequence[float | None]) -> list[float]:
    """Return fractions in percent; a figure that there is not becomes a gap."""
    return [float("nan") if value is None else 100 * value for value in values]


def _means(series: int | None, x: Sequence[float], scores: Sequence[Mapping[str, Any]]) -> Line:
    """Return the line of scores over seeds with its standard deviation as band."""
    means = _percent([score["mean"] for score in scores])
    wide = [len(score["values"]) > 1 and score["std"] is not None for score in scores]
    if not all(wide):
        return Line(series, x, means)
    stds = [100 * score["std"] for score in scores]
    low = [mean - std for mean, std in zip(means, stds, strict=True)]
    high = [mean + std for mean, std in zip(means, stds, strict=True)]
    return Line(series, x, means, low, high)


def _said(labels: Sequence[str], values: Sequence[float | None]) -> str:
    """Return names with their figures in percent, for those who cannot see the drawing."""
    known = zip(labels, values, strict=True)
    return "; ".join(f"{n} {100 * v:.1f}" for n, v in known if v is not None)


def _over(counts: Iterable[int]) -> str:
    """Say over how many seeds figures are."""
    known = sorted(set(counts))
    ends = str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"
    return f"over {ends} seed{'' if known[-1] == 1 else 's'}"


def _hops(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    part = cell["hops"]
    teacher = [row for row in cell["headline"]["rows"] if row["label"] == TEACHER]
    panels = []
    for which, title in (("test", "test nodes"), ("ind", "nodes never seen in training")):
        having = [item for item in part if which in item]
        if not having:
            continue
        drawn = [_means(s, item["hops"], item[which]) for s, item in names.drawn(having)]
        hops = sorted({count for item in having for count in item["hops"]})
        if teacher:
            rival = teacher[0]["settings"]["ind"] if which == "ind" else teacher[0]["test"]
            if rival["mean"] is not None:
                drawn.insert(0, Line(None, hops, [100 * rival["mean"]] * len(hops)))
        ends = [[item[which][i]["mean"] for i in (0, -1)] for item in having]
        alt = f"{metric} of {title} in % with 0 hops and with all: " + "; ".join(
            f"{item['label']} {_said(['', ''], end)}"
            for item, end in zip(having, ends, strict=True)
        )
        svg = lines(
            f"{name}-{which}", alt, drawn, x_label="hops at hand", ticks={h: str(h) for h in hops}
        )
        panels.append(Panel(f"{metric}, %, {title}", svg))
    caption = (
        "One set of weights, asked with 0, 1, … K hops of neighbours at hand. A node that is new "
        "starts at 0. Band: ± std over seeds."
    )
    return Figure(name, "Cold start", caption, tuple(panels), names.key(part, teacher))


def _card(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    part = cell["card"]
    drawn = names.drawn(part["rows"])
    rows: dict[str, list[Dot]] = {}
    for measure in part["levels"]:
        found = [(s, row["hops"] is not None, row["inheritance"][measure]) for s, row in drawn]
        rows[measure] = [
            Dot(s or 0, share["mean"], share["error"] or 0.0, hollow)
            for s, hollow, share in found
            if share["mean"] is not None
        ]
    shown = {measure: found for measure, found in rows.items() if found}
    said = "; ".join(
        f"{variant(row)} "
        + _said(list(shown), [row["inheritance"][measure]["mean"] for measure in shown])
        for _, row in drawn
    )
    panels = []
    if shown:
        svg = dots(f"{name}-shares", f"Inherited structure in %: {said}", shown)
        panels.append(Panel("inherited, % of the way from raw features to the teacher", svg))
    blocks = {
        f"{variant(row)}{_block(row, index)}": values
        for _, row in drawn
        for index, values in enumerate(row["cka"])
    }
    alt = "CKA in % of student blocks with teacher layers: " + "; ".join(
        f"{label}: {', '.join('none' if v is None else f'{100 * v:.0f}' for v in values)}"
        for label, values in blocks.items()
    )
    svg = heat(f"{name}-cka", alt, blocks, "layer of the teacher")
    panels.append(Panel("debiased CKA of each block, %", svg))
    seeds = _over(row["seeds"] for row in part["rows"])
    several = any(row["seeds"] > 1 for row in part["rows"])
    error = f"± std {seeds}" if several else "standard error over the draws of one seed"
    caption = (
        f"0: raw features; 100: {part['teacher']}. Line: {error}. Measures in which teacher and "
        "features do not differ are left out."
    )
    hollow = "no hop at hand" if any(row["hops"] is not None for _, row in drawn) else ""
    return Figure(
        name, "Inherited structure", caption, tuple(panels), names.key(part["rows"]), hollow
    )


def _block(row: Mapping[str, Any], index: int) -> str:
    return f" · {index + 1}" if len(row["cka"]) > 1 else ""


def _groups(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    panels: list[Panel] = []
    every: list[Mapping[str, Any]] = []
    titles = {"degree": "degree", "homophily": "share of neighbours of the node's class, %"}
    for which, x_label in titles.items():
        part = cell[which]
        if part is None:
            continue
        every += part["lines"]
        places = list(range(len(part["bins"])))
        ticks: dict[float, str] = {
            i: _bin(which, ends) for i, ends in zip(places, part["bins"], strict=True)
        }
        drawn = [_means(s, places, line["scores"]) for s, line in names.drawn(part["lines"])]
        alt = f"{metric} in % by {x_label}: " + " | ".join(
            f"{line['label']}: "
            + _said(list(ticks.values()), [score["mean"] for score in line["scores"]])
            for line in part["lines"]
        )
        svg = lines(f"{name}-{which}", alt, drawn, x_label=x_label, ticks=ticks)
        panels.append(Panel(f"{metric}, %, by {which}", svg))
    seeds = _over(line["seeds"] for line in every)
    nodes = ", ".join(f"{count:.0f}" for count in cell["degree"]["nodes"])
    caption = (
        f"Test nodes in groups, cut at the quartiles of the degree ({nodes} nodes) and at quarters "
        f"of the local homophily. Band: ± std {seeds}."
    )
    return Figure(name, "Where it is right", caption, tuple(panels), names.key(every))


def _bin(which: str, ends: Mapping[str, float]) -> str:
    scale = 100 if which == "homophily" else 1
    low, high = (f"{scale * ends[end]:.0f}" for end in ("low", "high"))
    return low if low == high else f"{low}–{high}"


def _latency(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    part = cell["latency"]
    points = [(s, item["p50_ms"], 100 * item["score"]) for s, item in names.drawn(part)]
    alt = f"{metric} in % and median latency: " + "; ".join(
        f"{item['label']} {100 * item['score']:.1f} at {item['p50_ms']:.3g} ms" for item in part
    )
    svg = scatter(f"{name}-p50", alt, points, "median latency of one node, ms")
    caption = "Up and to the left is better. The axis of time is logarithmic."
    panel = Panel(f"{metric}, %, against latency", svg)
    return Figure(name, "Latency and score", caption, (panel,), names.key(part))


def _robust(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    panels: list[Panel] = []
    every: list[Mapping[str, Any]] = []
    for damage, items in cell["robust"].items():
        every += items
        title = damage.replace("_", " ")
        drawn = [_means(s, item["levels"], item["scores"]) for s, item in names.drawn(items)]
        alt = f"{metric} in % from none to most of {title}: " + "; ".join(
            f"{item['label']} {_said(['', ''], [item['scores'][i]['mean'] for i in (0, -1)])}"
            for item in items
        )
        svg = lines(f"{name}-{len(panels)}", alt, drawn, x_label=title)
        panels.append(Panel(f"{metric}, %, under {title}", svg))
    caption = "The graph is damaged at inference; nothing is trained again. Band: ± std over seeds."
    return Figure(name, "Robustness", caption, tuple(panels), names.key(every))


def _curves(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    panels: list[Panel] = []
    every: list[Mapping[str, Any]] = []
    for index, (term, items) in enumerate(cell["curves"].items()):
        every += items
        score = term == "val"
        scale = 100 if score else 1
        drawn = [
            Line(
                series,
                item["epochs"],
                *([scale * value for value in item[part]] for part in ("mean", "low", "high")),
            )
            for series, item in names.drawn(items)
        ]
        title = f"validation {metric}, %" if score else f"loss: {term}"
        alt = f"{title}, first and last epoch: " + "; ".join(
            f"{item['label']} {scale * item['mean'][0]:.3g}, {scale * item['mean'][-1]:.3g}"
            for item in items
        )
        low = min(value for line in drawn for value in line.low)
        log = not score and low > 0 and max(v for line in drawn for v in line.high) > 30 * low
        panels.append(Panel(title, lines(f"{name}-{index}", alt, drawn, x_label="epoch", log=log)))
    caption = "Loss terms as logged, before their weights. Mean over seeds; band: least to largest."
    return Figure(name, "Learning curves", caption, tuple(panels), names.key(every))


def _projection(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    part = cell["projection"]
    total: dict[int, int] = {}
    for panel in part["panels"]:
        for label, count in class_counts(panel).items():
            total[label] = total.get(label, 0) + count
    largest = sorted((label for label in total if label >= 0), key=lambda label: -total[label])
    series: dict[int, int | None] = {label: i for i, label in enumerate(sorted(largest[:SERIES]))}
    panels = []
    ordered = sorted(part["panels"], key=lambda panel: panel["method"])  # a row for each
    for index, found in enumerate(ordered):
        method = found["method"].upper() if found["method"] == "pca" else "t-SNE"
        colours = [series.get(label) for label in found["classes"]]
        alt = f"{method} of {len(colours)} nodes as {found['label']} embeds them, by class"
        svg = cloud(f"{name}-{index}", alt, found["points"], colours)
        panels.append(Panel(f"{found['label']}, {method}", svg))
    key = [(f"class {part['names'][label]}", number) for label, number in series.items()]
    if any(label not in series for label in total):
        key.append(("other" if series else "no single class", -1))
    seed = part["panels"][0]["seed"]
    caption = (
        f"Embeddings of the last block, seed {seed}, all hops at hand; the same nodes everywhere, "
        "drawn at random. Axes have no unit."
    )
    return Figure(name, "Embeddings", caption, tuple(panels), tuple(key), points=True)
