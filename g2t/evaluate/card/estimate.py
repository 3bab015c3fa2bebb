"""From numbers per draw to a mean with its standard error, and to inheritance.

Shape letter: `R` draws.
"""

import math
from dataclasses import dataclass

from torch import Tensor

#: How many standard errors floor and ceiling must be apart for inheritance to mean something.
APART = 2.0


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error; both None where it is not defined, and then `reason`."""

    value: float | None
    standard_error: float | None
    reason: str = ""

    def facts(self) -> dict[str, float | str | None]:
        """Return it for JSON; `reason` only where there is one."""
        known = {"value": self.value, "standard_error": self.standard_error}
        return {**known, "reason": self.reason} if self.reason else {**known}


def mean_of(values_R: Tensor, overlap: float) -> Estimate:
    """Return the mean over draws; its variance is s² (1/R + overlap).

    `overlap` is 0 for parts without overlap, else test over training nodes (Nadeau & Bengio 2003):
    draws that learn from much the same nodes differ less than new nodes would make them.
    """
    if not len(values_R) or bool(values_R.isnan().any()):
        return Estimate(None, None, "not defined on this graph")
    return Estimate(float(values_R.mean()), _error(values_R, overlap))


def inheritance(ours_R: Tensor, floor_R: Tensor, ceiling_R: Tensor, overlap: float) -> Estimate:
    """Return I = (student - floor) / (ceiling - floor) of the means.

    Its standard error is that of a ratio of paired means (delta method): the spread of
    (student - floor) - I (ceiling - floor) over |ceiling - floor|. There is no I where ceiling and
    floor differ by no more than two standard errors of their difference.
    """
    gain_R, span_R = ours_R - floor_R, ceiling_R - floor_R
    gain, span = mean_of(gain_R, overlap), mean_of(span_R, overlap)
    if gain.value is None or span.value is None or span.standard_error is None:
        return Estimate(None, None, "not defined on this graph")
    if abs(span.value) <= max(APART * span.standard_error, 1e-9):
        said = f"ceiling - floor is {span.value:.3f} ± {span.standard_error:.3f}"
        return Estimate(None, None, f"{said}: not more than {APART:g} standard errors")
    ratio = gain.value / span.value
    return Estimate(ratio, _error(gain_R - ratio * span_R, overlap) / abs(span.value))


def _error(values_R: Tensor, overlap: float) -> float:
    draws = len(values_R)
    return float(values_R.std()) * math.sqrt(1 / draws + overlap) if draws > 1 else math.nan
