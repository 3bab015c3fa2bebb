"""What answers cost, for people."""

from collections.abc import Mapping
from typing import Any

from g2t_cli.tables import new_table, show


def show_latency(latency: Mapping[str, Any]) -> None:
    """Print a `g2t.latency/1`: a table for one node, and one for every batch."""
    models, threads = latency["models"], latency["threads"]
    several = any(model["member"] == 2 for model in models)
    where = f"{latency['device']}, {threads} thread{'s' if threads > 1 else ''}"
    for index, batch in enumerate(models[0]["batches"]):
        count = "one node" if batch["nodes"] == 1 else f"{batch['nodes']} nodes"
        heads = ("p50 ms", "p99", "cpu p50", "÷ student", "nodes/s", "reads", "peak MB")
        table = new_table(f"answers for {count} at a time, {where}", "model", *heads)
        for model in models:
            found = model["batches"][index]
            table.add_row(
                _who(model, several) + _fetch(model),
                f"{found['p50_ms']:.3f}",
                "–" if found["p99_ms"] is None else f"{found['p99_ms']:.3f}",
                "–" if found["cpu_p50_ms"] is None else f"{found['cpu_p50_ms']:.3f}",
                _ratio(found),
                f"{found['nodes_per_second']:.0f}",
                f"{found['reads']:.0f}",
                "–" if found["peak_bytes"] is None else f"{found['peak_bytes'] / 1e6:.1f}",
            )
        show(table)
    for model in {(known["role"], known["member"]): known for known in models}.values():
        size = f"{model['parameters']} parameters, {model['bytes']} bytes on disk"
        show(f"{_who(model, several)}: {size}")


def _who(model: Mapping[str, Any], several: bool) -> str:
    number = f" {model['member']}" if several and model["member"] else ""
    return f"{model['role']} {model['name']}{number}"


def _fetch(model: Mapping[str, Any]) -> str:
    if model["hops"] is None:
        return ""
    if model["fetch"] == "none":
        return ", no hop"
    how = "all" if model["fanouts"] is None else f"{model['fanouts'][0]} a hop"
    return f", {model['hops']} hops, {how}"


def _ratio(found: Mapping[str, Any]) -> str:
    """Return how many times the student's median it is: by the CPU's work if known."""
    cpu = found["cpu_over_student"]
    return f"{found['over_student'] if cpu is None else cpu:.3g}"
