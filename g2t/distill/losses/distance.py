"""How far a batch of student rows [B, D] is from a batch of teacher rows [B, D'], as a scalar.

`gram`, `cka` and `contrast` are these on the last block; `cluster` on pooled rows; `align` takes
its choice of them at every scale.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

#: The temperature of contrast in G-CRD (Joshi et al. 2022).
TEMPERATURE = 0.075


def cosine_distance(ours_BD: Tensor, theirs_BD: Tensor) -> Tensor:
    """Return mean_i (1 - cos(h_i, t_i)); widths must agree."""
    return 1 - F.cosine_similarity(ours_BD, theirs_BD, dim=1).mean()


def gram_distance(ours_BD: Tensor, theirs_BD: Tensor) -> Tensor:
    """Return mean_ij (cos(h_i, h_j) - cos(t_i, t_j))²; widths may differ."""
    return F.mse_loss(_cosines(ours_BD), _cosines(theirs_BD))


def _cosines(states_BD: Tensor) -> Tensor:
    unit_BD = F.normalize(states_BD, dim=1)
    return unit_BD @ unit_BD.t()


def cka_distance(ours_BD: Tensor, theirs_BD: Tensor) -> Tensor:
    """Return 1 - linear CKA; widths may differ."""
    return 1 - linear_cka(ours_BD, theirs_BD)


def linear_cka(ours_BD: Tensor, theirs_BD: Tensor) -> Tensor:
    """Return the linear CKA of two sets of rows, a scalar in 0 … 1."""
    ours_BD, theirs_BD = ours_BD - ours_BD.mean(0), theirs_BD - theirs_BD.mean(0)
    cross = (ours_BD.t() @ theirs_BD).square().sum()
    own = (ours_BD.t() @ ours_BD).norm() * (theirs_BD.t() @ theirs_BD).norm()
    alignment: Tensor = cross / own.clamp(min=1e-12)
    return alignment


def contrast_distance(
    ours_BD: Tensor, theirs_BD: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Return -mean_i log softmax_j(cos(h_i, t_j) / τ)[i]: which teacher row is one's own?"""
    cosine_BB = F.normalize(ours_BD, dim=1) @ F.normalize(theirs_BD, dim=1).t()
    own_B = torch.arange(len(ours_BD), device=ours_BD.device)
    return F.cross_entropy(cosine_BB / temperature, own_B)


#: What `align` chooses from.
Distance = Literal["cosine", "mse", "cka", "contrast"]
DISTANCES: Mapping[Distance, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_distance,
    "mse": F.mse_loss,
    "cka": cka_distance,
    "contrast": contrast_distance,
}
