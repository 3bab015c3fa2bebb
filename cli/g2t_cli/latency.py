"""What answers cost, for people."""

from collections.abc import Mapping
from typing import Any

from g2t_cli.tables import new_table, show


def show_latency(latency: Mapping[str, Any]) -> None:
    """Print a `g2t.latency/1`: a table for one node, and one for every batch."""
    where = f"{latency['device']}, {latency['threads']} threads"
    for index, batch in enumerate(latency["models"][0]["batches"]):
        count = "one node" if batch["nodes"] == 1 else f"{batch['nodes']} nodes"
        title = f"answers for {count} at a time, {where}"
        heads = ("p50 ms", "p99 ms", "nodes / s", "nodes read", "peak MB", "× student")
        table = new_table(title, "model", *heads)
        for model in latency["models"]:
            found = model["batches"][index]
            table.add_row(
                _name(model),
                f"{found['p50_ms']:.3f}",
                "–" if found["p99_ms"] is None else f"{found['p99_ms']:.3f}",
                f"{found['nodes_per_second']:.0f}",
                f"{found['reads']:.0f}",
                "–" if found["peak_bytes"] is None else f"{found['peak_bytes'] / 1e6:.1f}",
                f"{found['over_student']:.1f}",
            )
        show(table)
    for model in {(m["role"], m["member"]): m for m in latency["models"]}.values():
        show(f"{_who(model)}: {model['parameters']} parameters, {model['bytes']} bytes on disk")


def _who(model: Mapping[str, Any]) -> str:
    number = "" if model["member"] is None else f" {model['member']}"
    return f"{model['role']} {model['name']}{number}"


def _name(model: Mapping[str, Any]) -> str:
    if model["hops"] is None:
        return _who(model)
    if model["fetch"] == "none":
        return f"{_who(model)}, no hop"
    drawn = model["fanouts"]
    how = "all" if drawn is None else str(drawn[0])
    return f"{_who(model)}, {how} neighbours of {model['hops']} hops"
