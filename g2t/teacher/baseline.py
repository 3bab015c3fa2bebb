"""What a teacher must beat to be worth learning from: an MLP on the features, the commonest class.

Both are fitted to the training nodes and scored on the validation nodes, as the teacher is.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from g2t.graph.bundle import Graph
from g2t.graph.csr import Features, take_rows
from g2t.graph.linear import InputLinear, drop_entries
from g2t.graph.scaling import scale_features
from g2t.graph.splits import Split
from g2t.metrics import score
from g2t.task import task_loss

#: The recipe of the MLP: seconds on any graph, whatever the teacher's settings are.
WIDTH, DROPOUT, RATE, DECAY = 64, 0.5, 0.01, 5e-4
STEPS, EVERY = 200, 10

#: Rows at most of a step, and of a block of the validation.
ROWS, BLOCK = 1024, 65536


class Perceptron(nn.Module):
    """One hidden layer over a node's own features."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.first = InputLinear(features, WIDTH)
        self.second = nn.Linear(WIDTH, classes)

    def forward(self, features: Features) -> Tensor:
        """Return logits, [B, C]."""
        hidden_BD = F.relu(self.first(drop_entries(features, DROPOUT, self.training)))
        logits_BC: Tensor = self.second(F.dropout(hidden_BD, DROPOUT, self.training))
        return logits_BC


def compare(
    graph: Graph, split: Split, scaling: str, val: float, seed: int, device: torch.device
) -> dict[str, Any]:
    """Return a teacher's validation score beside the floors, for its summary.

    `baseline` has the scores `mlp` (its best) and `majority`; `val_standard_error` is that of an
    accuracy, None for other metrics. Memory does not grow with the graph.
    """
    is_accuracy = graph.metric == "accuracy"
    error = math.sqrt(val * (1 - val) / len(split.parts.val)) if is_accuracy else None
    floors = {
        "mlp": _mlp(graph, split, scaling, seed, device),
        "majority": _majority(graph, split),
    }
    beats = val > max(floors.values())
    return {"val_standard_error": error, "baseline": floors, "beats_baseline": beats}


def warning(summary: Mapping[str, Any]) -> str:
    """Return what to say of a teacher that does not beat a floor."""
    val, error, floors = (summary[key] for key in ("val", "val_standard_error", "baseline"))
    names = {"mlp": "an MLP without edges", "majority": "the commonest class"}
    rivals = [f"{names[key]} ({value:.3f})" for key, value in floors.items() if val <= value]
    spread = "" if error is None else f" ± {error:.3f}"
    return (
        f"WARNING: on the validation nodes this teacher ({val:.3f}{spread}) does not beat "
        f"{' and '.join(rivals)}; there is nothing of the graph to learn from it: try other "
        "settings or another teacher"
    )


def _majority(graph: Graph, split: Split) -> float:
    """Score the commonest class of the training nodes as the answer to every validation node."""
    labels, labels_B = graph.labels[split.parts.train], graph.labels[split.parts.val]
    if graph.task == "multilabel":
        votes_C = ((labels == 1).sum(0) - (labels == 0).sum(0)).float()
    else:
        votes_C = torch.bincount(labels, minlength=len(graph.classes)).float()
    return score(graph.metric, votes_C.expand(len(labels_B), -1), labels_B)


def _mlp(graph: Graph, split: Split, scaling: str, seed: int, device: torch.device) -> float:
    """Return the best score of the MLP over its training."""
    train, val = split.parts.train, split.parts.val
    generator = torch.Generator().manual_seed(seed)
    best = -math.inf
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Perceptron(graph.features.shape[1], len(graph.classes)).to(device)
        optimizer = torch.optim.Adam(model.parameters(), RATE, weight_decay=DECAY)
        for step in range(STEPS):
            ids = train
            if len(train) > ROWS:
                ids = train[torch.randint(len(train), (ROWS,), generator=generator)]
            model.train()
            logits_BC = model(_rows(graph, ids, scaling, device))
            loss = task_loss(graph.task, logits_BC, graph.labels[ids].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % EVERY == EVERY - 1:
                best = max(best, _validate(model, graph, val, scaling, device))
    return best


@torch.no_grad()
def _validate(
    model: nn.Module, graph: Graph, val: Tensor, scaling: str, device: torch.device
) -> float:
    model.eval()
    blocks = torch.split(val, BLOCK)
    logits_BC = torch.cat([model(_rows(graph, ids, scaling, device)).cpu() for ids in blocks])
    return score(graph.metric, logits_BC, graph.labels[val])


def _rows(graph: Graph, ids: Tensor, scaling: str, device: torch.device) -> Features:
    return scale_features(take_rows(graph.features, ids), scaling).to(device)
