"""Figures as they stand in both pages: percent, mean ± std, differences with their interval."""

from collections.abc import Mapping
from typing import Any

NONE = "–"
#: What a student without edges reads.
OWN = "own features"

#: What the parts of a cell are called.
TITLES: Mapping[str, str] = {
    "curves": "Learning curves",
    "card": "Inherited structure, and CKA",
    "degree": "Score by degree",
    "homophily": "Score by local homophily",
    "latency": "Latency against score",
    "robust": "Robustness",
    "hops": "Cold start",
    "projection": "Embeddings in two dimensions",
}


def percent(value: float | None) -> str:
    """Return a fraction in percent, or a dash where there is none."""
    return NONE if value is None else f"{100 * value:.2f}"


def signed(value: float) -> str:
    """Return a fraction in percent with its sign; what rounds to nothing is +0.00."""
    return f"{round(100 * value, 2) + 0.0:+.2f}".replace("-", "−")


def deviation(figures: Mapping[str, Any] | None) -> str:
    """Return ± std in percent; empty for a single value."""
    if figures is None or figures["std"] is None or len(figures["values"]) < 2:
        return ""
    return f"± {100 * figures['std']:.2f}"


def spread_text(figures: Mapping[str, Any] | None) -> str:
    """Return mean ± std in percent."""
    if figures is None:
        return ""
    return f"{percent(figures['mean'])} {deviation(figures)}".strip()


def interval(found: Mapping[str, Any] | None) -> str:
    """Return the ends of the interval of a difference; empty where one seed has none."""
    if found is None or found["low"] is None:
        return ""
    return f"{signed(found['low'])} … {signed(found['high'])}"


def difference_text(found: Mapping[str, Any] | None) -> str:
    """Return a mean difference and its interval."""
    if found is None:
        return ""
    ends = interval(found)
    return signed(found["mean"]) + (f" [{ends}]" if ends else "")


def share_text(found: Mapping[str, Any]) -> str:
    """Return an inherited share in percent with its error, or a dash."""
    if found["mean"] is None:
        return NONE
    error = "" if found["error"] is None else f" ± {100 * found['error']:.0f}"
    return f"{100 * found['mean']:.0f}{error}"


def short(digest: str) -> str:
    """Return the beginning of a digest, as long as the commands print it."""
    return digest.removeprefix("sha256:")[:12]


def variant(row: Mapping[str, Any]) -> str:
    """Return the name of a row of a card: a student, and how many hops it had if not all."""
    return str(row["label"]) + ("" if row["hops"] is None else f", k = {row['hops']}")


def subtitle(cell: Mapping[str, Any]) -> str:
    """Say what the figures of a cell are of."""
    count = len(cell["seeds"])
    seeds = f"seed {cell['seeds'][0]}" if count == 1 else f"{count} seeds"
    setting = "" if cell["setting"] == "transductive" else f", {cell['setting']}"
    return f"test {cell['metric'].replace('_', ' ')} in %, split {cell['split']}{setting}, {seeds}"


def commands(content: Mapping[str, Any]) -> list[str]:
    """Return the command lines of a report's lineage, each once, in the order of their kinds."""
    kinds = ("graph", "teacher", "cache", "student", "evaluation")
    lines = [line for line in content["lineage"] if line["command"]]
    ordered = sorted(lines, key=lambda line: kinds.index(line["kind"]))
    return list(dict.fromkeys(line["command"] for line in ordered))


def needs(row: Mapping[str, Any]) -> str:
    """Say what a student needs of the graph to answer."""
    if row["reads"] == OWN:
        return "It needs no edge to answer."
    return f"It reads {row['reads']} to answer."


def by_label(cell: Mapping[str, Any], label: str | None) -> Mapping[str, Any] | None:
    """Return a row of the headline by its label."""
    return next((row for row in cell["headline"]["rows"] if row["label"] == label), None)
