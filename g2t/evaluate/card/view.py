"""An embedding beside one draw of a graph: what measures read, each part made when first asked for.

Shape letters: `P` pairs, `B` chosen nodes, `K` nearest nodes.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from g2t.evaluate.card.draws import Draw, Scene
from g2t.evaluate.card.ridge import ridge
from g2t.evaluate.card.space import Space

#: Nearest nodes that are looked at.
NEAREST = 10


@dataclass(frozen=True)
class View:
    """A space, one draw, and the space of the teacher's last layer (`ideal`)."""

    space: Space
    probed: Tensor
    scene: Scene
    draw: Draw
    ideal: Space

    @cached_property
    def explained(self) -> Tensor:
        """R² of each trait on nodes that the probe did not learn from, float64 [4]."""
        fit_B, score_B = self.draw.fit_B, self.draw.score_B
        true = self.scene.traits[score_B]
        if len(fit_B) < 2:
            return torch.full(true.shape[1:], torch.nan)
        said = ridge(self.probed[fit_B], self.scene.traits[fit_B], self.probed[score_B])
        spread = (true - true.mean(0)).square().sum(0)
        share: Tensor = 1 - (true - said).square().sum(0) / spread
        return share.where(spread > 1e-12, torch.nan)

    @cached_property
    def linked(self) -> Tensor:
        """Cosines of linked nodes, [P]."""
        return self.space.cosines(self.draw.linked)

    @cached_property
    def nearest(self) -> Tensor:
        """The nearest other nodes of the group, [B, K]."""
        count = min(NEAREST, len(self.scene.edges) - 1)
        return self.space.nearest(self.draw.group_B, count, self.draw.order_N)
