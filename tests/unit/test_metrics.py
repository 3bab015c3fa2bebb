"""Scores against values worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from g2t.metrics import agreement, bootstrap, mean_std, paired, score, spread


def margins(*values: float) -> torch.Tensor:
    """Logits of two classes whose difference is the given score of class 1."""
    return torch.stack([torch.zeros(len(values)), torch.tensor(values)], 1)


def test_accuracy_counts_rows_with_a_known_label() -> None:
    logits = torch.tensor([[3.0, 1, 0], [0, 1, 2], [5, 6, 0], [9, 0, 0]])
    assert score("accuracy", logits, torch.tensor([0, 1, 1, 0])) == 0.75
    assert score("accuracy", logits, torch.tensor([0, 1, -1, -1])) == 0.5
    assert score("accuracy", logits.half(), torch.tensor([0, 2, 1, 0])) == 1.0


@pytest.mark.parametrize(
    ("scores", "labels", "wanted"),
    [
        ((0.1, 0.4, 0.35, 0.8), (0, 0, 1, 1), 3 / 4),  # one of four pairs is the wrong way round
        ((1.0, 1.0, 1.0, 1.0), (0, 1, 0, 1), 1 / 2),  # all tied
        ((1.0, 2.0, 2.0, 3.0), (0, 0, 1, 1), 7 / 8),  # one pair of four tied
        ((3.0, 2.0, 1.0), (0, 1, 1), 0.0),
        ((-50.0, 60.0, 90.0), (0, 0, 1), 1.0),  # a sigmoid would tie the last two
        ((0.3, 9.0, 0.1, 0.7), (0, -1, 1, 1), 1 / 2),  # the unknown row does not count
    ],
)
def test_roc_auc_is_the_share_of_ordered_pairs(
    scores: tuple[float, ...], labels: tuple[int, ...], wanted: float
) -> None:
    found = score("roc_auc", margins(*scores), torch.tensor(labels))
    assert found == pytest.approx(wanted, abs=1e-6)


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=30))
def test_roc_auc_equals_counting_pairs(rows: list[tuple[int, bool]]) -> None:
    ones = [value for value, label in rows if label]
    zeros = [value for value, label in rows if not label]
    found = score(
        "roc_auc", margins(*(v for v, _ in rows)), torch.tensor([int(b) for _, b in rows])
    )
    if not ones or not zeros:
        assert math.isnan(found)
        return
    wins = sum((a > b) + (a == b) / 2 for a in ones for b in zeros)
    assert found == pytest.approx(wins / (len(ones) * len(zeros)), abs=1e-5)


def test_what_has_no_score_is_nan() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert math.isnan(score("accuracy", torch.empty(0, 3), none))
    assert math.isnan(score("accuracy", torch.zeros(2, 3), torch.tensor([-1, -1])))
    assert math.isnan(score("roc_auc", margins(1, 2), torch.tensor([1, 1])))
    assert math.isnan(score("roc_auc", torch.empty(0, 2), none))
    assert math.isnan(agreement("multiclass", torch.empty(0, 3), torch.empty(0, 3)))


def test_agreement_compares_the_named_classes() -> None:
    mine = torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0]])
    theirs = torch.tensor([[9.0, 8], [9, 8], [0, 1], [1, 0]])
    assert agreement("binary", mine, theirs) == 0.75


#: Three labels of four nodes: 3/4 of the pairs in order, all of two, and one value only.
SEVERAL = torch.tensor([[0, 1, 1], [0, -1, 1], [1, 0, -1], [1, 0, 1]], dtype=torch.int8)
SAID = torch.tensor([[0.1, 2.0, -1.0], [0.4, -9.0, 1.0], [0.35, -1.0, 9.0], [0.8, 1.0, 1.0]])


def test_roc_auc_of_several_labels_is_the_mean_over_those_that_have_one() -> None:
    assert score("roc_auc", SAID, SEVERAL) == pytest.approx((3 / 4 + 1) / 2)
    alone = [
        score("roc_auc", margins(*logits.tolist()), labels.long())
        for logits, labels in zip(SAID.T, SEVERAL.T, strict=True)
    ]
    assert math.isnan(alone[2])
    assert score("roc_auc", SAID, SEVERAL) == pytest.approx(sum(alone[:2]) / 2)


def test_f1_counts_all_known_entries_together() -> None:
    # True and said: 2 + 1 + 2; said only: 2 + 1 + 0; true only: 0 + 0 + 1.
    assert score("f1", SAID, SEVERAL) == pytest.approx(2 * 5 / (2 * 5 + 3 + 1))
    assert score("f1", SAID.half(), SEVERAL.clamp(max=0)) == 0.0


@given(st.lists(st.tuples(st.floats(-3, 3), st.integers(-1, 1)), min_size=1, max_size=24))
def test_scores_of_several_labels_ignore_what_is_unknown(entries: list[tuple[float, int]]) -> None:
    logits = torch.tensor([[value, 1.0] for value, _ in entries])
    labels = torch.tensor([[label, -1] for _, label in entries], dtype=torch.int8)
    other = torch.where(labels < 0, -7.0, logits)
    for metric in ("roc_auc", "f1"):
        found, again = score(metric, logits, labels), score(metric, other, labels)
        assert found == again or (math.isnan(found) and math.isnan(again))


def test_several_labels_without_a_score_are_nan() -> None:
    unknown = torch.full((2, 3), -1, dtype=torch.int8)
    for metric in ("roc_auc", "f1"):
        assert math.isnan(score(metric, torch.zeros(2, 3), unknown))
        assert math.isnan(score(metric, torch.empty(0, 3), unknown[:0]))
    assert math.isnan(score("roc_auc", torch.zeros(2, 3), unknown + 2))
    assert math.isnan(score("f1", torch.zeros(2, 3), unknown + 1))


def test_agreement_on_several_labels_counts_every_decision() -> None:
    mine = torch.tensor([[1.0, -1, 2], [-3, 0.5, -1]])
    theirs = torch.tensor([[9.0, 1, 2], [-1, -0.5, -2]])
    assert agreement("multilabel", mine, theirs) == pytest.approx(4 / 6)


def test_mean_and_sample_deviation() -> None:
    mean, std = mean_std([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3)
    assert std == pytest.approx(math.sqrt((16 + 1 + 25) / 9 / 2))
    assert mean_std([0.5]) == (0.5, 0.0)


def test_paired_differences_and_their_standard_error() -> None:
    # Differences 1, 2, 3: mean 2, sample deviation 1, standard error 1 / sqrt(3).
    mean, error = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert mean == pytest.approx(2.0)
    assert error == pytest.approx(1 / math.sqrt(3))
    single, none = paired([0.8], [0.7])
    assert (single, none) == pytest.approx((0.1, 0.0))
    with pytest.raises(ValueError, match="zip"):
        paired([1.0, 2.0], [1.0])


def test_a_spread_needs_every_value() -> None:
    assert spread([0.5, 0.7]) == {
        "mean": pytest.approx(0.6), "std": pytest.approx(0.02**0.5), "values": [0.5, 0.7],
    }  # fmt: skip
    for values in ([0.5, None], []):
        assert spread(values) == {"mean": None, "std": None, "values": values}


def test_the_bootstrap_of_two_reaches_both() -> None:
    # The mean is 0, 1/2 or 1 in 1/4, 1/2 and 1/4 of the resamples: either tail is beyond 2.5 %.
    assert bootstrap([0.0, 1.0]) == (0.0, 1.0)
    # 0 of 0, 0, 0, 1 in (3/4)^4 = 32 %, 1 in 0.4 %, 3/4 or more in 5.1 %: the upper end is 3/4.
    assert bootstrap([0.0, 0.0, 0.0, 1.0]) == (0.0, 0.75)


def test_the_bootstrap_of_many_is_the_normal_interval() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    low, high = bootstrap(values.tolist())
    half = 1.96 * values.std(correction=0).item() / 20
    assert (low + high) / 2 == pytest.approx(values.mean().item(), abs=0.05 * half)
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)
    assert bootstrap(values.tolist()) == (low, high)
    assert bootstrap((2 * values).tolist()) == pytest.approx((2 * low, 2 * high))
