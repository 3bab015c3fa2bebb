"""Ranks, ridge and alignment: by hand, by a second route, and what must not change them."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from g2t.evaluate.card.alignment import debiased_cka
from g2t.evaluate.card.estimate import inheritance, mean_of
from g2t.evaluate.card.ranks import auc, spearman
from g2t.evaluate.card.ridge import ridge


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def rotation(width: int) -> torch.Tensor:
    turn: torch.Tensor = torch.linalg.qr(normal(width, width, seed=9))[0]
    return turn


def test_auc_counts_pairs_and_ties_half() -> None:
    # Of six pairs, 3>2, 3>1, 2>1 are right, 2=2 is a tie, 1<2 is wrong and 1=1 is a tie.
    higher, lower = torch.tensor([3.0, 2, 1]), torch.tensor([2.0, 1])
    assert auc(higher, lower) == pytest.approx((3 + 2 * 0.5) / 6)
    assert math.isnan(auc(higher, lower[:0]))


def test_spearman_is_that_of_scipy_with_ties() -> None:
    one, other = torch.tensor([1.0, 2, 2, 3, 5, 5]), torch.tensor([2.0, 1, 4, 4, 4, 7])
    assert spearman(one, other) == pytest.approx(scipy.stats.spearmanr(one, other).statistic)
    assert math.isnan(spearman(one, torch.ones(6)))


def test_partial_spearman_is_that_of_the_inverse_correlations() -> None:
    values = normal(4, 60)
    values[0] += values[2] + values[3]
    values[1] -= 2 * values[2]
    inverse = np.linalg.inv(np.corrcoef([scipy.stats.rankdata(row) for row in values]))
    wanted = -inverse[0, 1] / (inverse[0, 0] * inverse[1, 1]) ** 0.5
    assert spearman(values[0], values[1], (values[2], values[3])) == pytest.approx(wanted)
    assert spearman(values[0], values[1]) < wanted - 0.2  # what the others explain is gone
    same = values[0], values[1], (torch.ones(60), values[2], values[2])
    assert spearman(*same) == pytest.approx(spearman(values[0], values[1], (values[2],)))
    assert math.isnan(spearman(values[0], values[1], (values[1],)))


def test_ridge_finds_a_line_and_ignores_noise() -> None:
    known, asked = normal(200, 5), normal(50, 5, seed=1)
    weight = normal(5, 2, seed=2)
    said = ridge(known, known @ weight + 3, asked)
    assert torch.allclose(said, asked @ weight + 3, atol=1e-4)
    chance = ridge(known, normal(200, 1, seed=3), asked)
    assert float(chance.abs().max()) < 0.5  # shrunk towards the mean of the known


def test_ridge_of_one_strength_is_the_normal_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g2t.evaluate.card.ridge.STRENGTHS", (0.1,))
    known, true, asked = normal(30, 4), normal(30, 1, seed=1), normal(6, 4, seed=2)
    centred = known - known.mean(0)
    strength = 0.1 * 30 * float(centred.square().mean())
    inner = centred.T @ centred + strength * torch.eye(4, dtype=torch.float64)
    weight = torch.linalg.solve(inner, centred.T @ (true - true.mean()))
    expected = (asked - known.mean(0)) @ weight + true.mean()
    assert torch.allclose(ridge(known, true, asked), expected)


def test_ridge_takes_the_strength_of_least_leave_one_out_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, asked = normal(25, 8), normal(3, 8, seed=2)
    true = known[:, :1] + normal(25, 1, seed=1)
    errors = {}
    for strength in (1e-7, 1e-2, 1e-1, 1.0, 100.0):
        monkeypatch.setattr("g2t.evaluate.card.ridge.STRENGTHS", (strength,))
        scale = float((known - known.mean(0)).square().mean())
        left_out = 0.0
        for row in range(25):
            rest = torch.arange(25) != row
            # The same penalty for the rows that are left: it is beside their number and scale.
            own = float((known[rest] - known[rest].mean(0)).square().mean())
            monkeypatch.setattr(
                "g2t.evaluate.card.ridge.STRENGTHS", (strength * 25 * scale / (24 * own),)
            )
            said = ridge(known[rest], true[rest], known[row : row + 1])
            left_out += float((said - true[row]).square())
        monkeypatch.setattr("g2t.evaluate.card.ridge.STRENGTHS", (strength,))
        errors[strength] = (left_out, ridge(known, true, asked))
    best = min(errors, key=lambda strength: errors[strength][0])
    assert best not in (1e-7, 100.0)
    monkeypatch.setattr("g2t.evaluate.card.ridge.STRENGTHS", tuple(errors))
    assert torch.allclose(ridge(known, true, asked), errors[best][1])


def test_ridge_is_blind_to_turning_and_scaling() -> None:
    known, true, asked = normal(40, 6), normal(40, 2, seed=1), normal(9, 6, seed=2)
    turn = 37 * rotation(6)
    assert torch.allclose(ridge(known @ turn, true, asked @ turn), ridge(known, true, asked))


def test_cka_is_one_for_a_turned_scaled_shifted_copy_and_zero_for_chance() -> None:
    rows = normal(300, 7)
    copy = 5 * rows @ rotation(7) + 2
    assert debiased_cka(rows @ rows.T, copy @ copy.T) == pytest.approx(1)
    # 400 columns over 300 rows: plain CKA would call these alike.
    one, other = normal(300, 400, seed=1), normal(300, 400, seed=2)
    assert abs(debiased_cka(one @ one.T, other @ other.T)) < 0.05
    centred = [rows - rows.mean(0) for rows in (one, other)]
    plain = (centred[0].T @ centred[1]).square().sum() / (
        (centred[0].T @ centred[0]).norm() * (centred[1].T @ centred[1]).norm()
    )
    assert float(plain) > 0.4


def test_hsic_is_the_mean_over_all_quadruples() -> None:
    from itertools import permutations

    from g2t.evaluate.card.alignment import _hsic

    one, other = (normal(6, 2, seed=seed) for seed in (0, 1))
    k, m = (rows @ rows.T * 6 / float((rows @ rows.T).trace()) for rows in (one, other))
    terms = [
        k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(6), 4)
    ]
    assert _hsic(one @ one.T, other @ other.T) == pytest.approx(float(np.mean(terms)))


def test_mean_and_its_error_by_hand() -> None:
    values = torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64)
    assert mean_of(values, 0).facts() == pytest.approx(
        {"value": 3, "standard_error": math.sqrt(2.5 / 5)}
    )
    assert mean_of(values, 1).standard_error == pytest.approx(math.sqrt(2.5 * (1 / 5 + 1)))
    undefined = mean_of(torch.tensor([1.0, math.nan]), 0)
    assert (undefined.value, undefined.standard_error) == (None, None)
    assert undefined.reason


def test_inheritance_by_hand() -> None:
    floor = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    ceiling, ours = floor + 0.5, floor + torch.tensor([0.2, 0.25, 0.3])
    share = inheritance(ours, floor, ceiling, 0)
    assert share.value == pytest.approx(0.5)
    # The span is 0.5 in every draw, so the error is that of the gain alone, over 0.5.
    assert share.standard_error == pytest.approx(0.05 / math.sqrt(3) / 0.5)
    assert inheritance(ceiling, floor, ceiling, 0).value == pytest.approx(1)
    assert inheritance(floor, floor, ceiling, 0).value == pytest.approx(0)


def test_error_of_a_ratio_agrees_with_the_bootstrap() -> None:
    draw = normal(3, 400)
    floor, ceiling = 0.3 + 0.05 * draw[0], 0.9 + 0.05 * draw[1]
    ours = 0.5 * floor + 0.5 * ceiling + 0.05 * draw[2]
    random, shares = np.random.default_rng(0), []
    for _ in range(2000):
        pick = torch.from_numpy(random.integers(0, 400, 400))
        span = (ceiling - floor)[pick].mean()
        shares.append(float((ours - floor)[pick].mean() / span))
    told = inheritance(ours, floor, ceiling, 0).standard_error
    assert told == pytest.approx(np.std(shares), rel=0.1)


def test_no_inheritance_where_ceiling_and_floor_do_not_differ() -> None:
    floor = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    ceiling = floor + torch.tensor([0.1, -0.1, 0.05])
    share = inheritance(floor + 1, floor, ceiling, 0)
    assert (share.value, share.standard_error) == (None, None)
    assert "standard errors" in share.reason
    assert inheritance(floor + 1, floor, floor, 0).value is None
