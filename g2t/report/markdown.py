"""`report.md`: the tables of a report in Markdown, for a terminal, a pull request or a mail."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from g2t.report import words


def markdown_of(content: Mapping[str, Any]) -> str:
    """Return `report.md` of a `g2t.report/1`; scores are in percent."""
    lines = ["# g2t report", ""]
    for cell in content["cells"]:
        lines += _cell(cell)
    lines += ["## Lineage", ""]
    lines += _table(
        ["artefact", "of", "seed", "digest", "split"],
        [
            [
                line["kind"],
                line["label"],
                "" if line["seed"] is None else str(line["seed"]),
                f"`{words.short(line['digest'])}`",
                "" if line["split"] is None else _split(line["split"]),
            ]
            for line in content["lineage"]
        ],
    )
    lines += ["```", *words.commands(content), "```", ""]
    return "\n".join(lines)


def _split(split: Mapping[str, Any]) -> str:
    return f"{split['name']} `{words.short(split['digest'])}`"


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"## {_plain(cell['graph'])}", "", f"{words.subtitle(cell)}.", "")
    yield from _headline(cell)
    for note in cell["notes"]:
        yield from (note, "")
    if cell["hops"] is not None:
        most = max(max(line["hops"]) for line in cell["hops"])
        yield from ("### Cold start: hops at hand", "")
        yield from _table(
            ["student", *map(str, range(most + 1))],
            [[line["label"], *map(words.spread_text, line["test"])] for line in cell["hops"]],
        )
    if cell["card"] is not None:
        rows = cell["card"]["rows"]
        yield from ("### Inherited structure, %", "")
        yield from _table(
            ["measure", *map(words.variant, rows)],
            [
                [measure, *(words.share_text(row["inheritance"][measure]) for row in rows)]
                for measure in cell["card"]["levels"]
            ],
        )
        yield from (f"0 is the raw features, 100 is {cell['card']['teacher']}.", "")
    for by in ("degree", "homophily"):
        if cell[by] is not None:
            yield from (f"### {words.TITLES[by]}", "")
            yield from _groups(cell[by])
    if cell["latency"] is not None:
        yield from ("### Latency of one node", "")
        yield from _table(
            ["model", "p50, ms", "nodes/s in batches", "parameters", "bytes", "score"],
            [_cost(point) for point in cell["latency"]],
        )
    for kind, lines in (cell["robust"] or {}).items():
        yield from (f"### Robustness: {_plain(kind)}, share in %", "")
        shares = [f"{100 * share:g}" for share in lines[0]["shares"]]
        yield from _table(
            ["model", *shares],
            [[line["label"], *map(words.spread_text, line["scores"])] for line in lines],
        )
    if cell["absent"]:
        yield from ("### Not shown", "")
        yield from (f"- {words.TITLES[k]}: `{command}`" for k, command in cell["absent"].items())
        yield ""


def _cost(point: Mapping[str, Any]) -> list[str]:
    figures = [f"{point['p50_ms']:.3g}", f"{point['nodes_per_second']:.0f}"]
    sizes = [f"{point[name]:.0f}" for name in ("parameters", "bytes")]
    return [words.variant(point), *figures, *sizes, words.percent(point["score"])]


def _headline(cell: Mapping[str, Any]) -> Iterator[str]:
    rows = cell["headline"]["rows"]
    parts = [part for part in ("tran", "ind") if any(part in r.get("settings", {}) for r in rows)]
    test = "prod" if parts else "test"
    columns = ["model", "reads", *parts, test, "− teacher [95 %]", "agreement", "validation"]
    yield from _table(
        columns,
        [
            [
                row["label"],
                row["reads"],
                *(words.spread_text(row["settings"][part]) for part in parts),
                words.spread_text(row["test"]),
                words.difference_text(row["minus_teacher"]),
                words.spread_text(row["agreement"]),
                words.spread_text(row["val"]),
            ]
            for row in rows
        ],
    )


def _groups(part: Mapping[str, Any]) -> Iterator[str]:
    heads = [f"{ends['low']:g} … {ends['high']:g}" for ends in part["bins"]]
    yield from _table(
        ["model", *heads],
        [[line["label"], *map(words.spread_text, line["scores"])] for line in part["lines"]],
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _line(columns)
    yield "|" + "---|" * len(columns)
    yield from map(_line, rows)
    yield ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Return a text that ends neither its cell nor its line, and starts no HTML."""
    known = {"|": "\\|", "<": "&lt;", "\n": " ", "\r": " "}
    return "".join(known.get(letter, letter) for letter in str(text))
