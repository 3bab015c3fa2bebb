"""Evaluations held against bounds, for pipelines that must stop at a bad model."""

from collections.abc import Mapping
from typing import Any

from g2t.errors import CheckFailed


def check_scores(
    result: Mapping[str, Any], least_test: float | None, least_agreement: float | None
) -> None:
    """Raise CheckFailed naming what of a `g2t.evaluation/1` is below what was asked for.

    The test score is that of the student, of teachers alone theirs. What is not defined fails.
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
    if short:
        raise CheckFailed("; ".join(short), "try other settings, or lower the bound")
