"""Several ranks at one batch: each reads its rows, and all get the answer for the whole.

Losses then see what a single process would show them, whatever they look at: rows, pairs, or how
the whole batch is arranged.
"""

from typing import Any

import torch
from torch import Tensor

from g2t.chance import Part, drawing_for
from g2t.config import look_up
from g2t.distill.losses import LOSSES
from g2t.distill.needs import FROM_LAYERS
from g2t.distill.objective import Objective
from g2t.distill.settings import DistillSettings
from g2t.errors import UsageError
from g2t.graph.csr import Csr
from g2t.ranks import Ranks
from g2t.student.base import Inputs, Output, Student, answers, study


def check_shared(settings: DistillSettings[Any, Any, Any], ranks: Ranks) -> None:
    """Raise UsageError where several ranks would not get what one gets."""
    if ranks.alone:
        return
    reasons = {
        f"loss.{name}": "has the student read the batch again, within the loss"
        for name in settings.losses()
        if look_up(LOSSES, name, "loss").reads_again
    }
    if getattr(settings.model, "neighbours", 0):
        reasons["model.neighbours"] = "reads rows that ranks cannot share out"
    if any(loss.needs_hops for loss in settings.losses().values()):
        reasons["loss.align.map=hop"] = "compares the tokens of every hop, which ranks keep"
    if settings.train.compile:
        reasons["train.compile"] = "would compile for the rows of every rank"
    for name, reason in reasons.items():
        raise UsageError(
            f"{name} {reason}: {ranks.count} ranks would not learn what one learns",
            "leave it out, or train with one rank: without torchrun or srun",
        )


def study_together(
    ranks: Ranks, student: Student, inputs: Inputs, rows_B: Tensor, objective: Objective
) -> Output:
    """Return a training student's answer for a batch, of which every rank reads its part.

    With several ranks it holds what the objective looks at: logits, and blocks for losses that know
    the teacher's layers.
    """
    if ranks.alone:
        return study(student, inputs, rows_B).in_full()
    count, mine = len(rows_B), ranks.part(len(rows_B))
    entries = _entries(inputs, rows_B, mine)
    with drawing_for(Part(count, mine, *entries)):
        output = study(student, inputs, rows_B[mine]).in_full()
    seen = [] if objective.needs.isdisjoint(FROM_LAYERS) else list(output.blocks)
    widths = [rows.shape[1] for rows in (output.logits_BC, *seen)]
    whole = ranks.whole(torch.cat([output.logits_BC, *seen], 1), count)
    logits_BC, *blocks = torch.split(whole, widths, 1)
    return Output(logits_BC, tuple(blocks))


def _entries(inputs: Inputs, rows_B: Tensor, mine: slice) -> tuple[int, slice]:
    """Return how many entries some sparse rows have, and which of them are in a part."""
    if not isinstance(inputs.features, Csr):
        return 0, slice(0, 0)
    counts_B = inputs.features.counts_N[rows_B]
    start, own = int(counts_B[: mine.start].sum()), int(counts_B[mine].sum())
    return int(counts_B.sum()), slice(start, start + own)


@torch.no_grad()
def answers_together(
    ranks: Ranks, student: Student, inputs: Inputs, rows_B: Tensor
) -> list[Tensor]:
    """Return logits for some nodes with 0, 1, … K hops at hand, each rank asking for its part."""
    every = range(student.hops + 1)
    found = answers(student, inputs, rows_B[ranks.part(len(rows_B))], every)
    return [ranks.whole(logits_BC.clone(), len(rows_B)) for logits_BC in found]
