"""Evaluations held against bounds, for pipelines that must stop at a bad or a slow model."""

from collections.abc import Mapping
from typing import Any

from g2t.errors import CheckFailed
from g2t.evaluate.latency import answer_p50


def check_scores(
    result: Mapping[str, Any],
    least_test: float | None,
    least_agreement: float | None,
    most_p50_ms: float | None = None,
) -> None:
    """Raise CheckFailed naming what of a `g2t.evaluation/1` is worse than what was asked for.

    The test score is that of the student, of teachers alone theirs. What is not defined fails. A
    bound of milliseconds is for the student's median answer for one node, with all its hops.
    """
    model = "teacher" if result["student"] is None else "student"
    asked = {
        f"the {model}'s test score": (result[model]["test"], least_test),
        "its agreement with the teacher": (result["agreement"], least_agreement),
    }
    short = []
    for name, (value, least) in asked.items():
        if least is not None and (value is None or not value >= least):
            found = "not defined" if value is None else f"{value:.6f}"
            short.append(f"{name} is {found}, not {least:g} or more")
    if most_p50_ms is not None and not (p50_ms := answer_p50(result["latency"])) <= most_p50_ms:
        short.append(
            f"the student's median answer for one node takes {p50_ms:.3f} ms, "
            f"not {most_p50_ms:g} or less"
        )
    if short:
        raise CheckFailed("; ".join(short), "try other settings, or another bound")
