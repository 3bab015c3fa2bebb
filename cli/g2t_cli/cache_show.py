"""A cache as aligned text: facts, then its tensors."""

from collections.abc import Mapping, Sequence
from typing import Any


def show_cache(summary: Mapping[str, Any]) -> None:
    """Print a `g2t.cache-summary/1` as aligned text: facts, then a table of tensors."""
    teacher, sizes = summary["teacher"], summary["split_sizes"]
    several = len(summary["teachers"]) > 1
    parts = ", ".join(f"{part} {count}" for part, count in sizes.items())
    setting = f", {summary['split']['setting']}" if "setting" in summary["split"] else ""
    facts = {
        "cache": summary["path"],
        "digest": summary["digest"],
        "rows": f"{summary['rows']} in shards of {summary['shard_rows']}",
        "edges": summary["edges"],
        "bytes": summary["bytes"],
        "task": f"{summary['task']}, {summary['classes']} classes, {summary['metric']}",
        "graph": f"{summary['graph']['name']} {_short(summary['graph'])}",
        "split": f"{summary['split']['name']} {_short(summary['split'])}: {parts}{setting}",
        "teacher": f"{teacher['name']} {_short(teacher)}: {teacher['layers']} layers, "
        f"features {teacher['scaling']}",
        **(
            {f"teacher {i}": _member(m) for i, m in enumerate(summary["teachers"], 1)}
            if several
            else {}
        ),
        "temperature": _temperature(summary["temperature"]),
        "hops": summary["hops"],
        "projection": "none" if summary["projection"] is None else _short(summary["projection"]),
    }
    _print_aligned([(key, str(value)) for key, value in facts.items()])
    print()
    header = ("tensor", "kind", "dtype", "width", "topk", "shards", "bytes", "error", "digest")
    rows = [
        (
            tensor["name"],
            tensor["kind"],
            tensor["dtype"],
            str(tensor["width"]),
            "-" if tensor["topk"] is None else str(tensor["topk"]),
            str(tensor["shards"]),
            str(tensor["bytes"]),
            f"{tensor['relative_error']:.2g}",
            _short(tensor),
        )
        for tensor in summary["tensors"]
    ]
    _print_aligned([header, *rows])


def _member(member: Mapping[str, Any]) -> str:
    return f"{member['name']} {_short(member)}: {', '.join(member['roles'])}"


def _temperature(found: Mapping[str, Any] | None) -> str:
    """Return the calibration of the logits in one line; it is told, and applied to nothing."""
    if found is None:
        return "none"
    changes = (
        f"nll {_change(found['nll'])}, calibration error {_change(found['calibration_error'])}"
    )
    return f"{found['value']:.3g} would be best on {found['nodes']} validation nodes: {changes}"


def _change(figure: Mapping[str, float]) -> str:
    return f"{figure['before']:.3f} -> {figure['after']:.3f}"


def _short(named: Mapping[str, Any]) -> str:
    return str(named["digest"])[:19]


def _print_aligned(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
