"""What is drawn of a cell of `g2t.report/1`: one figure per part that is there."""

from collections.abc import Iterator, Mapping
from typing import Any

from g2t.recipe import TEACHER
from g2t.report.figures.charts import Line, Point, lines, scatter
from g2t.report.figures.series import Figure, Names, Panel, means, over, said
from g2t.report.figures.structure import card, projection
from g2t.report.words import variant


def figures_of(cell: Mapping[str, Any], prefix: str) -> Iterator[Figure]:
    """Yield the figures of a cell; `prefix` makes their names unique on the page."""
    names = Names(cell)
    metric = cell["metric"].replace("_", " ")
    makers = {
        "card": card,
        "latency": _latency,
        "degree": _groups,
        "hops": _hops,
        "robust": _robust,
        "curves": _curves,
        "projection": projection,
    }
    for part, make in makers.items():
        if cell[part] is None:
            continue
        figure = make(cell, names, metric, f"{prefix}-{part}")
        if figure.panels:  # else all that has this part is beyond the students that are drawn
            yield figure


def _hops(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    part = cell["hops"]
    teacher = [row for row in cell["headline"]["rows"] if row["label"] == TEACHER]
    panels = []
    for which, title in (("test", "test nodes"), ("ind", "nodes never seen in training")):
        having = [item for item in part if which in item]
        drawn = [means(s, item["hops"], item[which]) for s, item in names.drawn(having)]
        if not drawn:
            continue
        hops = sorted({count for item in having for count in item["hops"]})
        if teacher:
            rival = teacher[0]["settings"]["ind"] if which == "ind" else teacher[0]["test"]
            if rival["mean"] is not None:
                drawn.insert(0, Line(None, hops, [100 * rival["mean"]] * len(hops)))
        ends = [[item[which][i]["mean"] for i in (0, -1)] for item in having]
        alt = f"{metric} of {title} in % with 0 hops and with all: " + "; ".join(
            f"{item['label']} {said(['', ''], end)}" for item, end in zip(having, ends, strict=True)
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
        drawn = [means(s, places, line["scores"]) for s, line in names.drawn(part["lines"])]
        alt = f"{metric} in % by {x_label}: " + " | ".join(
            f"{line['label']}: "
            + said(list(ticks.values()), [score["mean"] for score in line["scores"]])
            for line in part["lines"]
        )
        svg = lines(f"{name}-{which}", alt, drawn, x_label=x_label, ticks=ticks)
        panels.append(Panel(f"{metric}, %, by {which}", svg))
    seeds = over(line["seeds"] for line in every)
    also = " and by quarters of the local homophily" if cell["homophily"] is not None else ""
    nodes = ", ".join(f"{count:.0f}" for count in cell["degree"]["nodes"])
    caption = f"Test nodes by quartiles of the degree ({nodes} of them){also}. Band: ± std {seeds}."
    return Figure(name, "Where it is right", caption, tuple(panels), names.key(every))


def _bin(which: str, ends: Mapping[str, float]) -> str:
    scale = 100 if which == "homophily" else 1
    low, high = (f"{scale * ends[end]:.0f}" for end in ("low", "high"))
    return low if low == high else f"{low}–{high}"


def _latency(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    part = [point for point in cell["latency"] if point["score"] is not None]
    points = [
        Point(s, point["p50_ms"], 100 * point["score"], point["hops"] is not None)
        for s, point in names.drawn(part)
    ]
    alt = f"{metric} in % and median time of an answer: " + "; ".join(
        f"{variant(point)} {100 * point['score']:.1f} at {point['p50_ms']:.3g} ms" for point in part
    )
    svg = scatter(f"{name}-p50", alt, points, "median time of one answer, ms")
    caption = (
        f"{_best(cell)}Up and to the left is better; time is on a logarithmic scale. Teachers "
        "fetch all neighbours within their reach."
    )
    hollow = "no hop at hand" if any(point.hollow for point in points) else ""
    panels = (Panel(f"{metric}, %, against latency", svg),) if points else ()
    return Figure(name, "Latency and score", caption, panels, names.key(part), hollow, "marks")


def _best(cell: Mapping[str, Any]) -> str:
    """Say how much faster the chosen student is than its teacher, where both were timed."""
    times = {p["label"]: p["p50_ms"] for p in cell["latency"] if p["hops"] is None}
    chosen = cell["headline"]["chosen"]
    if chosen not in times or TEACHER not in times:
        return ""
    ratio = times[TEACHER] / times[chosen]
    return (
        f"One answer of {chosen} takes {times[chosen]:.3g} ms, of its teacher "
        f"{times[TEACHER]:.3g} ms, {ratio:.3g} times as long. "
    )


#: What stands on the x axis of a corruption.
CORRUPTIONS = {
    "noise": "noise in features, %",
    "missing": "features missing, %",
    "removed": "edges removed, %",
    "rewired": "edges rewired, %",
}


def _robust(cell: Mapping[str, Any], names: Names, metric: str, name: str) -> Figure:
    panels: list[Panel] = []
    every: list[Mapping[str, Any]] = []
    for kind, items in cell["robust"].items():
        every += items
        title = CORRUPTIONS.get(kind, kind)
        drawn = [
            means(s, [100 * share for share in item["shares"]], item["scores"])
            for s, item in names.drawn(items)
        ]
        alt = f"{metric} in %, with none and with the most {title}: " + "; ".join(
            f"{item['label']} {said(['', ''], [item['scores'][i]['mean'] for i in (0, -1)])}"
            for item in items
        )
        ticks = {100 * share: f"{100 * share:g}" for share in items[0]["shares"]}
        svg = lines(f"{name}-{len(panels)}", alt, drawn, x_label=title, ticks=ticks)
        panels.append(Panel(f"{metric}, %", svg))
    several = any(item["seeds"] > 1 for item in every)
    band = over(item["seeds"] for item in every) if several else "over the draws of one seed"
    caption = (
        "Features or edges are made worse at inference; nothing is trained again. "
        f"Band: ± std {band}."
    )
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
        if not drawn:
            continue
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
