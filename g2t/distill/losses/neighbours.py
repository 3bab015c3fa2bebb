"""What edge losses on labels share: the teacher at a node and at its neighbours as targets."""

import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.distill.losses.base import Batch, nothing
from g2t.student.base import Output
from g2t.task import Task, decisions, log_probabilities


def learn_from_neighbours(
    task: Task, output: Output, batch: Batch, weight_P: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return Σ w KL(softmax(t_v / T) ‖ softmax(z_u / T)) / Σ w over pairs v -> u and self-loops.

    A self-loop of every target has w = 1; several labels count as in `soft`. 0 without pairs.
    """
    if len(batch.source_P) == 0:
        return nothing(output)
    anchors = torch.unique(batch.target_P)
    teacher = torch.cat([anchors, batch.source_P])
    student = torch.cat([anchors, batch.target_P])
    weight = torch.cat([weight_P.new_ones(len(anchors)), weight_P])
    theirs = log_probabilities(task, batch.logits_BC[teacher] / temperature)
    ours = log_probabilities(task, output.logits_BC[student] / temperature)
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    mean = (weight * divergence).sum() / weight.sum()
    return mean / decisions(task, output.logits_BC)
