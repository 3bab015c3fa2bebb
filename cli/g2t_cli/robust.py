"""Scores with worse features and edges, for people."""

from collections.abc import Mapping
from typing import Any

from g2t_cli.tables import new_table, percent, show

NAMES = {
    "missing": "entries of features missing",
    "removed": "edges removed",
    "rewired": "edges rewired",
}
NOISE = {
    "gaussian": "noise in features, share of the deviation",
    "moved": "entries of features moved",
}


def show_robust(result: Mapping[str, Any]) -> None:
    """Print the robustness of a `g2t.evaluation/1`, and how a student of hops starts cold."""
    robust = result["robust"]
    draws = "one draw" if robust["draws"] == 1 else f"mean of {robust['draws']} draws"
    title = f"test {result['metric']} in %, {draws}"
    shares = [f"{100 * share:.0f} %" for share in robust["shares"]]
    table = new_table(title, "corrupted", "model", *shares)
    for kind, curves in robust["curves"].items():
        name = NOISE[robust["noise"]] if kind == "noise" else NAMES[kind]
        table.add_section()
        if curves is None:
            table.add_row(f"{name}: not of a directed graph", "", *("–" for _ in shares))
            continue
        for model, points in curves.items():
            table.add_row(name, model, *(percent(point["mean"]) for point in points))
            name = ""
    show(table)
    hops = result["student"]["by_hops"]
    if hops:
        scores = ", ".join(f"{k}: {percent(scores['test'])}" for k, scores in hops.items())
        show(f"cold start, test score by hops at hand: {scores}")
