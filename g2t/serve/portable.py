"""A student as one function of plain tensors, for runtimes that know neither g2t nor Python.

Inputs, with B nodes, T = K + 1 hops (those of the node itself first) and P entries per row:

    dense features      features [B, F]; with hops [B, T, F] and hops [B, T]
    sparse features     indices, values [B, P]; with hops [B, T, P] and hops [B, T]

`hops` is true for the hops that are at hand: the node itself, then 1, 2, … without a gap. A row of
less than P entries is filled with value 0. Outputs: logits and probabilities [B, C], embedding
[B, D].
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from g2t.errors import InputError
from g2t.graph.csr import Csr
from g2t.graph.linear import InputLinear
from g2t.graph.structure import project_dense, propagation
from g2t.serve.features import EdgesLike, FeaturesLike, as_edges, as_features, no_edges
from g2t.serve.student import ServedStudent
from g2t.student.hop import Hop
from g2t.student.landmark import Landmark
from g2t.student.settled import Settled
from g2t.task import probabilities

OUTPUTS = ("logits", "probabilities", "embedding")


class Portable(nn.Module):
    """A student that reads plain tensors; features are normalised and projected inside.

    Raises InputError for a student that reads single neighbours, which no input holds, and for one
    that remembers nodes.
    """

    def __init__(self, student: ServedStudent) -> None:
        super().__init__()
        if getattr(student.model, "neighbours", 0):
            raise InputError(
                f"student {student.path} reads tokens of single neighbours, for which an exported "
                "model has no input",
                "serve it with g2t predict, or distil one with model.neighbours=0",
            )
        if student.model.memory is not None:
            raise InputError(
                f"student {student.path} asks the nodes that it remembers, which an exported model "
                "does not hold",
                "serve it with g2t predict, or distil one with model.memory=0",
            )
        self.student = copy.deepcopy(student.model).eval()
        self.task, self.width, self.hops = student.task, student.width, student.hops
        self.sparse = student.kind == "csr"
        self.settled = Settled(self.student) if isinstance(self.student, Landmark) else None
        if self.settled is not None:
            self.student.blocks = nn.ModuleList()  # their weights are in it

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, probabilities and the last block's embedding."""
        rows, known_BT = (inputs[:-1], inputs[-1]) if self.hops else (inputs, None)
        hops_B = None if known_BT is None else known_BT.sum(1) - 1
        if self.sparse and not self.hops:
            tokens_BTD = self._gathered(*rows)
        else:
            tokens_BTD = self._tokens(self._dense(*rows) if self.sparse else rows[0])
        if self.settled is not None:
            logits_BC, state_BD = self.settled.read(tokens_BTD[:, 0])
        else:
            output = self.student.answer(tokens_BTD, hops_B)
            logits_BC, state_BD = output.logits_BC, output.blocks[-1]
        return logits_BC, probabilities(self.task, logits_BC), state_BD

    def _gathered(self, indices: Tensor, values: Tensor) -> Tensor:
        """Return the one token of each node from the weights of its few entries, [B, 1, D]."""
        project = self.student.project
        assert isinstance(project, InputLinear)
        values_BP = self.student.normalize(values)  # what is not stored is zero and has no norm
        assert isinstance(values_BP, Tensor)
        weights_BPD = project.weight.t()[indices]
        return values_BP[:, None] @ weights_BPD + project.bias

    def _dense(self, indices: Tensor, values: Tensor) -> Tensor:
        """Spread sparse rows out, [B, T, F]: rows of far hops have most of the columns anyway."""
        empty = values.new_zeros(*values.shape[:-1], self.width)
        return empty.scatter_add(-1, indices, values)

    def _tokens(self, features: Tensor) -> Tensor:
        rows = self.student.read(features)
        assert isinstance(rows, Tensor)
        if not isinstance(self.student, Hop):
            inputs = self.student.prepare(rows, _nobody(), None)
            return self.student.embed(inputs, torch.arange(rows.shape[0]))
        if self.sparse:
            return self.student.placed(self.student.project[0](rows))
        tokens_BTF = self.student.prepare(rows[:, 0], _nobody(), rows[:, 1:]).tokens
        assert tokens_BTF is not None
        pairs = zip(self.student.project, tokens_BTF.unbind(1), strict=True)
        return self.student.placed(torch.stack([project(row_BF) for project, row_BF in pairs], 1))


def _nobody() -> Csr:
    """Return edges of no node: where tokens are given, nobody looks at them."""
    return Csr(torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.int32), None, 0)


def input_shapes(student: ServedStudent) -> dict[str, tuple[str, list[str | int]]]:
    """Return type and shape of every input, in order; a text is a size that may change."""
    hops: list[str | int] = [student.hops + 1] if student.hops else []
    if student.kind == "csr":
        shape = ["batch", *hops, "entries"]
        inputs = {"indices": ("int64", shape), "values": ("float32", shape)}
    else:
        inputs = {"features": ("float32", ["batch", *hops, student.width])}
    return inputs | ({"hops": ("bool", ["batch", *hops])} if hops else {})


def feeds(
    student: ServedStudent,
    features: FeaturesLike,
    edges: EdgesLike | None = None,
    *,
    hops: int | Tensor | None = None,
    undirected: bool = True,
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the inputs of an exported model for N nodes, by name; arguments as of `predict`."""
    rows = as_features(features, student.width, student.kind == "csr")
    known = no_edges(len(rows)) if edges is None else as_edges(edges, len(rows), undirected)
    hops_N = student.hops_at(known, hops)
    fed: dict[str, np.ndarray[Any, Any]]
    if isinstance(rows, Csr):
        levels = [rows.scipy()]
        operator = _scipy(known) if student.hops else None
        for _ in range(student.hops):
            levels.append(operator @ levels[-1])
        indices, values = _padded(levels)
        fed = {"indices": indices, "values": values}
        if not student.hops:
            fed = {name: array[:, 0] for name, array in fed.items()}
    elif student.hops:
        tokens_NKF = project_dense(rows, propagation(known), student.hops)
        fed = {"features": torch.cat([rows[:, None], tokens_NKF], 1).numpy()}
    else:
        fed = {"features": rows.numpy()}
    if hops_N is not None:
        fed["hops"] = (torch.arange(student.hops + 1) <= hops_N[:, None]).numpy()
    return fed


def _scipy(edges: Csr) -> Any:
    matrix = propagation(edges).matrix
    parts = (matrix.crow_indices(), matrix.col_indices().int(), matrix.values())
    return Csr(*parts, len(edges)).scipy()


def _padded(levels: list[Any]) -> tuple[Any, Any]:
    """Return sparse matrices [N, F] as indices and values [N, T, P], filled with value 0."""
    rows, most = levels[0].shape[0], max(1, *(int(np.diff(m.indptr).max()) for m in levels))
    indices = np.zeros((rows, len(levels), most), np.int64)
    values = np.zeros((rows, len(levels), most), np.float32)
    for level, matrix in enumerate(levels):
        matrix = matrix.tocsr()
        row_E = np.repeat(np.arange(rows), np.diff(matrix.indptr))
        place_E = np.arange(len(row_E)) - matrix.indptr[row_E]
        indices[row_E, level, place_E] = matrix.indices
        values[row_E, level, place_E] = matrix.data
    return indices, values
