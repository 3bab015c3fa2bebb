"""`STUDY.md`: the tables of a study for people, in percent."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from g2t.artifact import sync

PAGE = "STUDY.md"


def write_page(out: Path, study: Mapping[str, Any]) -> None:
    """Write `OUT/STUDY.md` from a `g2t.study/1`, so that a reader sees the old or the new one."""
    temporary = out / f"{PAGE}.tmp"
    temporary.write_text(page_of(study), encoding="utf-8")
    sync(temporary)
    temporary.replace(out / PAGE)


def page_of(study: Mapping[str, Any]) -> str:
    """Return the page of a `g2t.study/1`."""
    count, clear = study["comparisons"], study["clear"]
    level = round(100 * study["confidence"])
    lines = [
        f"# {study['title']}",
        "",
        f"`{study['command']}`",
        "",
        "In %, mean ± std over seeds. `− X` is the mean difference of the test score to variant X,",
        f"paired by seed, with its {level} % confidence interval (Student's t), standard error and",
        "number of common seeds; * where the interval excludes 0.",
        "",
        f"**Intervals of differences: {count}; that exclude 0: {clear}.** If no variant differed "
        f"from any other, {count * (1 - study['confidence']):.1f} of them would exclude it by "
        "chance, and the best of many looks better here than it is.",
        "",
    ]
    for table in study["tables"]:
        lines += _table(table, study["rivals"])
    lines += _ranking(study["by_validation"], study["rivals"][0])
    lines += _not_run(study["not_run"], study["tables"], study["command"])
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Mapping[str, Any], rivals: Sequence[str]) -> list[str]:
    """Return the lines of one table; of one without a finished cell, none."""
    if not table["rows"]:
        return []
    rows, teacher = table["rows"], table["teacher"]
    known = [rival for rival in rivals if any(rival in row["minus"] for row in rows)]
    parts = [part for part in ("tran", "ind") if "settings" in teacher]
    hops = ["k = 0"] if "no_hop" in rows[0] else []
    test = "prod" if parts else "test"
    columns = ["variant", "seeds", "val", *parts, test, *hops, "agreement"]
    columns += [f"− {rival}" for rival in known]
    where = (table["tier"], table["recipe"], table["setting"], table["student"])
    lines = [
        f"## ({where[0]}) {where[1]}, {where[2]}, `{where[3]}`",
        "",
        f"{table['metric']}; intervals: {table['comparisons']}, that exclude 0: {table['clear']}.",
        "",
        _line(columns),
        "|" + "---|" * len(columns),
    ]
    blank = [""] * (len(hops) + 1 + len(known))
    lines.append(_line(["teacher", *_scores(teacher, parts), *blank]))
    for row in rows:
        cells = [f"`{row['variant']}`", *_scores(row, parts)]
        cells += [_spread(row["no_hop"])] if hops else []
        cells += [_spread(row["agreement"])]
        cells += [_difference(row["minus"].get(rival)) for rival in known]
        lines.append(_line(cells))
    return [*lines, ""]


def _scores(row: Mapping[str, Any], parts: Sequence[str]) -> list[str]:
    figures = [row["val"], *(row["settings"][part] for part in parts), row["test"]]
    return [str(len(row["seeds"])), *map(_spread, figures)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(figures: Mapping[str, Any]) -> str:
    if figures["mean"] is None:
        return "–"
    mean = f"{100 * figures['mean']:.2f}"
    return mean if len(figures["values"]) == 1 else f"{mean} ± {100 * figures['std']:.2f}"


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    mean = _signed(found["mean"])
    if found["low"] is None:
        return f"{mean} (n = {found['n']})"
    interval = f"[{_signed(found['low'])}, {_signed(found['high'])}]"
    error = f"s.e. {100 * found['standard_error']:.2f}, n = {found['n']}"
    return f"{mean} {interval}{' *' if found['clear'] else ''} ({error})"


def _signed(value: float) -> str:
    """Return a fraction in percent with its sign; what rounds to nothing is +0.00."""
    return f"{round(100 * value, 2) + 0.0:+.2f}"


def _ranking(tiers: Mapping[str, Sequence[Mapping[str, Any]]], rival: str) -> list[str]:
    """Return the variants of each tier by validation, for the choice of a later tier."""
    lines: list[str] = []
    for tier, entries in tiers.items():
        if entries:
            lines += [
                f"## ({tier}) by validation",
                "",
                f"Mean difference of the validation score to `{rival}`; every table counts the same.",
                "",
                _line(["variant", f"− {rival}", "tables"]),
                "|---|---|---|",
            ]
            for entry in entries:
                gain = _signed(entry["gain"])
                lines.append(_line([f"`{entry['variant']}`", gain, str(entry["tables"])]))
            lines.append("")
    return lines


def _not_run(
    missing: Sequence[Mapping[str, Any]], tables: Sequence[Mapping[str, Any]], command: str
) -> list[str]:
    """Return what is not run, with commands; tables of which no cell is run take one line each."""
    if not missing:
        return ["Every cell was run.", ""]
    empty = {_prefix(table) for table in tables if not table["rows"]}
    count = sum(len(entry["seeds"]) for entry in missing)
    lines = ["## Not run", "", f"{count} cells and seeds:", ""]
    for prefix, group in groupby(missing, lambda entry: entry["cell"].rpartition("/")[0]):
        entries = list(group)
        if prefix in empty and all(entry["state"] == "not run" for entry in entries):
            variants = ", ".join(entry["cell"].rpartition("/")[2] for entry in entries)
            lines.append(f"- {prefix}, all of it ({variants}): `{command} --only '{prefix}/*'`")
            continue
        for entry in entries:
            seeds = ", ".join(map(str, entry["seeds"]))
            state = "" if entry["state"] == "not run" else f", made with {entry['state']}"
            lines.append(f"- {entry['cell']}, seeds {seeds}{state}: `{entry['command']}`")
    return [*lines, ""]


def _prefix(table: Mapping[str, Any]) -> str:
    return "/".join(table[part] for part in ("tier", "recipe", "setting", "student"))
