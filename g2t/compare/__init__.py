"""Two models compared by pairs of evaluations: the same seed, the same split.

`results` reads what is compared, `pairs` says which belong together and how they differ. Pairs are
evaluations, not nodes: nodes of one graph are not independent of each other, and another training
is what a difference has to survive.
"""

from collections.abc import Mapping
from typing import Any

from g2t.compare.pairs import check_difference, compare
from g2t.compare.results import read_results


def compare_given(given: str, rival: str) -> dict[str, Any]:
    """Return the paired difference of what two texts name as `g2t.comparison/1`.

    Raises what `read_results` and `compare` raise.
    """
    names: Mapping[str, str] = {"a": given, "b": rival}
    found = compare(*(read_results(text) for text in names.values()))
    return {**found, **{side: {"given": text, **found[side]} for side, text in names.items()}}


__all__ = ["check_difference", "compare", "compare_given", "read_results"]
