"""Evaluations in pairs, and the mean difference with two intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from g2t.compare.results import Result
from g2t.errors import CheckFailed, InputError, IntegrityError
from g2t.metrics import ALIKE, CONFIDENCE, RESAMPLES, bootstrap, difference, spread

SCHEMA = "g2t.comparison/1"

#: What of an evaluation is compared, where all have it.
PARTS = ("val", "tran", "ind", "test")

#: Seed and digest of the split; where an older evaluation tells no seed, the digest alone.
Key = tuple[int | None, str]


def compare(ours: Sequence[Result], theirs: Sequence[Result]) -> dict[str, Any]:
    """Return the mean difference of two models over pairs as `g2t.comparison/1`.

    A pair has the same seed and the same split. Raises InputError where one has no partner, or no
    test score; IntegrityError where graph, task, setting or split differ, or models are mixed.
    """
    _check_alike([*ours, *theirs])
    seeded = all(result.seed is not None for result in (*ours, *theirs))
    mine, rival = _by_key(ours, seeded), _by_key(theirs, seeded)
    _check_partners(mine, rival)
    keys = sorted(mine, key=lambda key: (key[0] or 0, key[1]))
    pairs = [(mine[key], rival[key]) for key in keys]
    for result in (result for pair in pairs for result in pair):
        if result.score("test") is None:
            raise InputError(
                f"{result.where} has no test score of {result.scores.name}",
                "in production a teacher is scored by g2t eval --teacher DIR",
            )
    first = ours[0].facts
    splits = [result.facts.split for result, _ in pairs]
    parts = {part: _scored(pairs, part) for part in PARTS}
    return {
        "schema": SCHEMA,
        "graph": first.graph,
        "graph_digest": ours[0].graph_digest,
        "metric": first.metric,
        "setting": first.split.setting,
        "seeds": [key[0] for key in keys],
        "splits": [{"name": split.name, "digest": split.digest} for split in splits],
        "a": {"model": ours[0].scores.name},
        "b": {"model": theirs[0].scores.name},
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "parts": {part: found for part, found in parts.items() if found is not None},
    }


def _check_alike(results: Sequence[Result]) -> None:
    """Raise IntegrityError where something is of another graph, task, metric or setting."""
    first = results[0]
    for other in results[1:]:
        for what, mine, theirs in (
            ("graph", _graph(first), _graph(other)),
            ("task", first.facts.task, other.facts.task),
            ("metric", first.facts.metric, other.facts.metric),
            ("setting", first.facts.split.setting, other.facts.split.setting),
        ):
            if mine != theirs:
                raise IntegrityError(
                    f"{first.where} and {other.where} differ in their {what}: {mine}, {theirs}",
                    "only scores of the same nodes of one graph can be paired",
                )


def _graph(result: Result) -> str:
    return f"{result.facts.graph} ({result.graph_digest[:19]}…)"


def _by_key(results: Sequence[Result], seeded: bool) -> dict[Key, Result]:
    """Arrange one side; raises unless it is one model, once per seed and split."""
    kept: dict[Key, Result] = {}
    for result in results:
        if result.scores.name != results[0].scores.name:
            raise IntegrityError(
                f"{results[0].where} is of a {results[0].scores.name}, {result.where} of a "
                f"{result.scores.name}",
                "compare one model with one other, over seeds",
            )
        key = (result.seed if seeded else None), result.facts.split.digest
        if key in kept:
            raise InputError(
                f"{kept[key].where} and {result.where} have the same {_named(result, seeded)}",
                "give each once"
                if seeded
                else "an older g2t wrote no seeds: make them again with g2t eval --force",
            )
        kept[key] = result
    return kept


def _named(result: Result, seeded: bool) -> str:
    split = result.facts.split
    seed = f"seed {result.seed}, " if seeded else ""
    return f"{seed}split {split.name} ({split.digest[7:19]})"


def _check_partners(mine: Mapping[Key, Result], rival: Mapping[Key, Result]) -> None:
    """Raise where one has no partner, IntegrityError where its partner has another split."""
    for side, ours, theirs in (("B", mine, rival), ("A", rival, mine)):
        for key, result in ours.items():
            if key in theirs:
                continue
            named = _named(result, key[0] is not None)
            for twin in theirs.values():
                if key[0] is not None and twin.seed == key[0]:
                    raise IntegrityError(
                        f"{result.where} has {named}, {twin.where} has {_named(twin, True)}",
                        "a pair needs the same split",
                    )
            raise InputError(
                f"{side} has no partner of {result.where}, {named}",
                "give both sides the same seeds and splits",
            )


def _scored(pairs: Sequence[tuple[Result, Result]], part: str) -> dict[str, Any] | None:
    """Return both sides' scores and their difference, None unless all have this part."""
    ours = [score for mine, _ in pairs if (score := mine.score(part)) is not None]
    theirs = [score for _, other in pairs if (score := other.score(part)) is not None]
    if not len(ours) == len(theirs) == len(pairs):
        return None
    return {"a": spread(ours), "b": spread(theirs), "difference": _difference(ours, theirs)}


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard error, both intervals and signs of differences.

    Where Student's interval does not exist, neither does that of the bootstrap.
    """
    found = difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert found is not None  # pairs are never none
    gaps = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    low, high = (None, None) if found["low"] is None else bootstrap(gaps)
    equal = sum(abs(gap) < ALIKE for gap in gaps)
    above = sum(gap >= ALIKE for gap in gaps)
    return {
        **found,
        "bootstrap": {"low": low, "high": high},
        "signs": {"above": above, "equal": equal, "below": len(gaps) - above - equal},
    }


def check_difference(comparison: Mapping[str, Any], least: float) -> None:
    """Raise CheckFailed unless A's mean test score is above B's by `least` or more."""
    found = comparison["parts"]["test"]["difference"]
    if not found["mean"] >= least:
        raise CheckFailed(
            f"A minus B is {found['mean']:+.6f} on test nodes, the mean of {found['n']}, not "
            f"{least:g} or more",
            "try other settings, or lower --min-difference",
        )
