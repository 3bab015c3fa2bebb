"""The sum that a student minimises: terms, their balance, and what is logged of them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from g2t.config import look_up
from g2t.distill.losses import LOSSES
from g2t.distill.losses.base import Batch, Loss, LossSettings, Sizes, nothing
from g2t.distill.settings import needs_by_loss
from g2t.ranks import ALONE, Ranks
from g2t.student.base import Output

#: Steps between two measurements of gradient norms.
REBALANCE_STEPS = 20


class Objective(nn.Module):
    """Σ factor · term. The factor of a term is its weight or, with a share, what makes its gradient
    norm on the student that share of the norm of all terms without one; a term with `until` fades
    out linearly, and one that has not begun or has ended is not computed, though its neighbours
    are drawn and read. Several ranks all compute it, of the whole batch.
    """

    def __init__(
        self, losses: Mapping[str, LossSettings], sizes: Sizes, ranks: Ranks = ALONE
    ) -> None:
        super().__init__()
        self.ranks = ranks
        kinds = {name: look_up(LOSSES, name, "loss") for name in losses}
        needs = needs_by_loss(losses)
        #: The terms that look at neighbours, what they need, and what all terms need.
        self.with_edges = frozenset(name for name, asked in needs.items() if "edges" in asked)
        self.edge_needs = frozenset[str]().union(*(needs[name] for name in self.with_edges))
        self.needs = frozenset[str]().union(*needs.values())
        self.settings = dict(losses)
        self.terms = nn.ModuleDict(
            {name: kind(losses[name], sizes) for name, kind in kinds.items()}
        )
        shared = sum(settings.share is not None for settings in losses.values())
        # A buffer, so that a checkpoint holds it.
        self.register_buffer("balance", torch.ones(shared))
        self.balance: Tensor

    def begins(self, before: float, now: float) -> bool:
        """Tell whether a term begins between two parts of the training; then shares are stale."""
        return any(before < settings.since <= now for settings in self.settings.values())

    def forward(
        self,
        output: Output,
        batch: Batch,
        own: int,
        done: float,
        parameters: list[nn.Parameter] | None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the total and each term's value and factor.

        `own` rows are the batch proper, the rest their neighbours; `done` is the part of training
        that is over. With `parameters`, gradient shares are measured anew.
        """
        values: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            assert isinstance(term, Loss)
            if self.settings[name].fade(done) == 0:
                continue
            whole = name in self.with_edges
            seen = (output, batch) if whole else (output.head(own), batch.head(own))
            values[name] = term(*seen)
        if parameters is not None:
            self._measure(values, done, parameters)
        if not values:
            return nothing(output), {}
        factors = self._factors(done)
        total = torch.stack([factors[name] * value for name, value in values.items()]).sum()
        logged = {f"loss.{name}": value.item() for name, value in values.items()}
        return total, logged | {f"factor.{name}": float(factors[name]) for name in values}

    def _factors(self, done: float) -> dict[str, float]:
        balance = iter(self.balance.tolist())
        factors = {}
        for name, settings in self.settings.items():
            factor = settings.weight if settings.share is None else next(balance)
            factors[name] = factor * settings.fade(done)
        return factors

    def _measure(
        self, values: Mapping[str, Tensor], done: float, parameters: list[nn.Parameter]
    ) -> None:
        """Set the balance of the terms with a share; keep it where nothing else pulls."""
        shares = {name: s.share for name, s in self.settings.items() if s.share is not None}
        factors = self._factors(done)
        fixed = [factors[name] * value for name, value in values.items() if name not in shares]
        if values.keys().isdisjoint(shares) or not fixed:
            return
        reference = self._gradient_norm(torch.stack(fixed).sum(), parameters)
        if reference == 0:
            return
        for place, (name, share) in enumerate(shares.items()):
            if name in values:
                norm = self._gradient_norm(values[name], parameters)
                self.balance[place] = share * reference / norm if norm > 1e-12 else 0.0

    def _gradient_norm(self, value: Tensor, parameters: list[nn.Parameter]) -> float:
        grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        return self.ranks.gradient_norm(grads)
