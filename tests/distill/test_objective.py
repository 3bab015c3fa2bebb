"""The sum of terms: gradient shares, fading, what each term sees and what is logged."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from g2t.distill.losses.align import AlignSettings
from g2t.distill.losses.base import Batch, LossSettings, Sizes
from g2t.distill.losses.labels import SoftSettings
from g2t.distill.objective import Objective
from g2t.distill.settings import distill_settings
from g2t.errors import UsageError
from g2t.student.base import Output

ROWS, OWN = 14, 10


class Toy(nn.Module):
    """A student of two linear maps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, features: Tensor) -> Output:
        state = self.body(features).tanh()
        return Output(self.head(state), (state,))


def scene() -> tuple[Toy, Output, Batch, list[nn.Parameter]]:
    toy, draw = Toy(), torch.Generator().manual_seed(1)
    features, logits, layer = (torch.randn(ROWS, width, generator=draw) for width in (4, 3, 6))
    source_P, target_P = torch.tensor([[10, 11, 3, 12], [0, 0, 1, 1]])
    labels_B = torch.arange(ROWS) % 3
    reliability_B, codes_BL = torch.rand(ROWS, generator=draw), torch.arange(ROWS)[:, None] % 5
    score_P = torch.tensor([0.5, -0.25, 1.0, 0.0])
    known = labels_B, logits, (layer,), reliability_B, codes_BL
    batch = Batch(*known, source_P, target_P, score_P)
    return toy, toy(features), batch, list(toy.parameters())


def objective_of(**losses: LossSettings) -> Objective:
    torch.manual_seed(2)
    return Objective(losses, Sizes((6,), (6,), (5,)))


def norm_of(value: Tensor, parameters: list[nn.Parameter]) -> float:
    grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return float(torch.cat([g.flatten() for g in grads if g is not None]).norm())


@pytest.mark.parametrize("share", [0.1, 0.5, 2.0])
def test_a_share_is_the_ratio_of_gradient_norms(share: float) -> None:
    _, output, batch, parameters = scene()
    shared = LossSettings(share=share)
    hard = LossSettings(weight=0.3)
    objective = objective_of(
        soft=SoftSettings(),
        hard=hard,
        lsp=shared,
        gram=LossSettings(share=share / 2),
        align=AlignSettings(share=share),
    )
    total, logged = objective(output, batch, OWN, 0.0, parameters)
    own = (output.head(OWN), batch.head(OWN))
    fixed = objective.terms["soft"](*own) + 0.3 * objective.terms["hard"](*own)
    reference = norm_of(fixed, parameters)
    terms = {"lsp": (output, batch), "gram": own, "align": own}
    for name, seen in terms.items():
        norm = norm_of(logged[f"factor.{name}"] * objective.terms[name](*seen), parameters)
        wanted = share / 2 if name == "gram" else share
        assert norm / reference == pytest.approx(wanted, rel=1e-3), name
    again = sum(logged[f"factor.{name}"] * logged[f"loss.{name}"] for name in objective.terms)
    assert total.item() == pytest.approx(again, rel=1e-5)


def test_a_share_takes_the_place_of_a_weight_that_is_not_one() -> None:
    """`adversarial` has half the weight of others as it comes, and not half of its share."""
    _, output, batch, parameters = scene()
    half = type("Half", (LossSettings,), {"__annotations__": {"weight": float}, "weight": 0.5})
    factors = [
        objective_of(soft=SoftSettings(), gram=kind(share=0.1))(
            output, batch, OWN, 0.0, parameters
        )[1]["factor.gram"]
        for kind in (LossSettings, half)
    ]
    assert factors[0] == factors[1]
    assert half(share=0.1).weight == 0.5


def test_a_weight_beside_a_share_is_refused() -> None:
    for weight in (0, 1):  # left out, and as it comes
        values = {"loss": {"gram": {"weight": weight, "share": 0.1}}}
        assert ("gram" in distill_settings(values).losses()) == (weight > 0)
    with pytest.raises(UsageError, match=r"share = 0.1 and weight = 2.0: .* set one of them"):
        distill_settings({"loss": {"gram": {"weight": 2, "share": 0.1}}})


def test_shares_stay_until_they_are_measured_anew_and_survive_a_state_dict() -> None:
    _, output, batch, parameters = scene()
    objective = objective_of(soft=SoftSettings(), gram=LossSettings(share=0.1))
    assert objective(output, batch, OWN, 0.0, None)[1]["factor.gram"] == 1
    first = objective(output, batch, OWN, 0.0, parameters)[1]["factor.gram"]
    assert first != 1
    assert objective(output, batch, OWN, 0.0, None)[1]["factor.gram"] == first
    other = objective_of(soft=SoftSettings(), gram=LossSettings(share=0.1))
    other.load_state_dict(objective.state_dict())
    assert other(output, batch, OWN, 0.0, None)[1]["factor.gram"] == first


def test_a_shared_term_without_gradient_gets_the_factor_zero() -> None:
    _, output, batch, parameters = scene()
    objective = objective_of(soft=SoftSettings(), lsp=LossSettings(share=0.1))
    total, logged = objective(output, batch.head(ROWS), OWN, 0.0, parameters)
    assert logged["factor.lsp"] == 0
    assert total.item() == pytest.approx(logged["loss.soft"])


@pytest.mark.parametrize(
    ("done", "factor"), [(0.0, 2.0), (0.1, 1.5), (0.2, 1.0), (0.4, 0.0), (0.9, 0.0)]
)
def test_until_fades_linearly_to_zero(done: float, factor: float) -> None:
    _, output, batch, _ = scene()
    objective = objective_of(soft=SoftSettings(), gram=LossSettings(weight=2, until=0.4))
    total, logged = objective(output, batch, OWN, done, None)
    assert logged.get("factor.gram", 0.0) == pytest.approx(factor)
    assert ("loss.gram" in logged) == (factor > 0)
    assert logged["factor.soft"] == 1
    expected = logged["loss.soft"] + factor * logged.get("loss.gram", 0.0)
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_a_share_fades_too() -> None:
    _, output, batch, parameters = scene()
    objective = objective_of(soft=SoftSettings(), gram=LossSettings(share=0.1, until=0.5))
    full = objective(output, batch, OWN, 0.0, parameters)[1]["factor.gram"]
    half = objective(output, batch, OWN, 0.25, None)[1]["factor.gram"]
    assert half == pytest.approx(full / 2)


def test_every_term_is_logged_with_its_factor() -> None:
    _, output, batch, parameters = scene()
    losses = distill_settings({"preset": "paper"}).losses()
    _, logged = objective_of(**losses)(output, batch, OWN, 0.0, parameters)
    assert set(logged) == {f"{kind}.{name}" for kind in ("loss", "factor") for name in losses}
    assert all(isinstance(value, float) for value in logged.values())


def test_rows_of_neighbours_count_for_edge_losses_only() -> None:
    toy, output, batch, _ = scene()
    objective = objective_of(
        **{name: LossSettings() for name in ("hard", "pseudo", "gram", "cka", "codebook", "lsp")},
        align=AlignSettings(),
        soft=SoftSettings(),
    )
    before = objective(output, batch, OWN, 0.0, None)[1]
    blocks = tuple(torch.cat([b[:OWN], torch.randn(ROWS - OWN, 6)]) for b in output.blocks)
    logits = torch.cat([output.logits_BC[:OWN], torch.randn(ROWS - OWN, 3)])
    after = objective(Output(logits, blocks), batch, OWN, 0.0, None)[1]
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"loss.lsp"}
    assert toy.head.weight.grad is None  # a forward leaves no gradient behind


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss": {"soft": {"weight": 0}}}, "every loss has weight 0"),
        ({"loss": {"sotf": {"weight": 1}}}, "no loss is called 'sotf'"),
        ({"loss": {"gram": {"wieght": 1}}}, "unknown setting loss.gram.wieght"),
        ({"loss": {"gram": {"until": 1.5}}}, "setting loss.gram.until"),
        ({"loss": {"gram": {"share": 0}}}, "setting loss.gram.share"),
        ({"loss": 3}, "setting loss"),
        ({"preset": "papper"}, "no preset is called 'papper'"),
        ({"student": "lankmark"}, "no student is called 'lankmark'"),
        ({"student": "mlp", "model": {"blocks": 2}}, "unknown setting model.blocks"),
        ({"model": {"hidden": 30, "heads": 4}}, "30 is no multiple of model.heads 4"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        distill_settings(values)


@pytest.mark.parametrize(
    ("done", "factor"), [(0.0, 0.0), (0.19, 0.0), (0.2, 2.0), (0.3, 1.0), (0.4, 0.0), (0.9, 0.0)]
)
def test_a_term_begins_at_since_and_fades_from_there(done: float, factor: float) -> None:
    _, output, batch, parameters = scene()
    late = LossSettings(weight=2, since=0.2, until=0.4)
    objective = objective_of(soft=SoftSettings(), gram=late)
    total, logged = objective(output, batch, OWN, done, parameters)
    assert logged.get("factor.gram", 0.0) == pytest.approx(factor)
    assert ("loss.gram" in logged) == (factor > 0)
    assert total.isfinite()


def test_before_anything_begins_nothing_moves() -> None:
    _, output, batch, parameters = scene()
    objective = objective_of(soft=SoftSettings(since=0.5), gram=LossSettings(share=0.1, since=0.5))
    total, logged = objective(output, batch, OWN, 0.1, parameters)
    assert total.item() == 0
    assert not logged
    total.backward()
    assert all(bool((p.grad == 0).all()) for p in parameters if p.grad is not None)
    with pytest.raises(UsageError, match="before since"):
        distill_settings({"loss": {"gram": {"since": 0.5, "until": 0.5}}})
