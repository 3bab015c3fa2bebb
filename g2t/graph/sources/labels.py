"""Labels as sources give them: one class per node, or several labels of 0 or 1 each."""

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from g2t.errors import InputError
from g2t.graph.sources.tabular import Chunk, Table, texts

#: Label texts (in lower case) that say there is no label, and those that are whole numbers.
MISSING = {"", "nan", "na", "n/a", "null", "none", "<na>"}
WHOLE = re.compile(r"-?[0-9]+(\.0*)?")
#: Texts of one label among several.
VALUES = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1, "-1": -1, "-1.0": -1}
_HINT = "each label of a node is 0 or 1; -1 or a missing value says that it is unknown"


def label_matrix(array: Any, what: str) -> Tensor:
    """Return [N, C] numbers 0, 1 and, where unknown, -1 or NaN as int8 labels.

    Raises InputError for other numbers, for less than two columns, and where nothing is known.
    """
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "biuf":
        raise InputError(
            f"{what} is {array.dtype} {list(array.shape)}, not numbers [nodes, labels]", _HINT
        )
    unknown_NC = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)
    wrong = np.argwhere(~unknown_NC & (array != 0) & (array != 1) & (array != -1))
    if len(wrong):
        node, label = wrong[0].tolist()
        raise InputError(f"{what} has {array[node, label]} for label {label} of node {node}", _HINT)
    labels_NC = torch.from_numpy(np.where(unknown_NC, -1, array).astype(np.int8))
    return _some(labels_NC, what)


class ClassColumn:
    """Gathers the one label column of a table; its texts become classes."""

    def __init__(self, table: Table, column: str) -> None:
        self.table, self.columns = table, (column,)
        self._texts: list[str] = []

    def take(self, chunk: Chunk) -> None:
        """Take in the next rows."""
        self._texts += texts(chunk.columns[self.columns[0]])

    def labels(self, nodes: int) -> tuple[Tensor, tuple[str, ...]]:
        """Return [nodes] labels and the names of the classes: numbers in order, texts by name.

        A missing label is -1, and so is -1 itself where all labels are whole numbers.
        """
        found = {text for text in self._texts if text.lower() not in MISSING}
        whole = all(WHOLE.fullmatch(text) for text in found)
        name_of = {text: str(int(text.partition(".")[0])) if whole else text for text in found}
        names = set(name_of.values()) - ({"-1"} if whole else set())
        if not names:
            raise InputError(
                f"no node of {self.table.path} has a label", "name the column with --label-column"
            )
        ordered = sorted(names, key=int) if whole else sorted(names)
        number = {name: i for i, name in enumerate(ordered)}
        code = {text: number.get(name, -1) for text, name in name_of.items()}
        label_N = torch.full((nodes,), -1, dtype=torch.int64)
        label_N[: len(self._texts)] = torch.tensor([code.get(text, -1) for text in self._texts])
        return label_N, tuple(ordered)


class LabelColumns:
    """Gathers several label columns of a table, 0 or 1 each.

    `take` raises InputError, naming line and column, for a cell that is no label.
    """

    def __init__(self, table: Table, columns: tuple[str, ...]) -> None:
        self.table, self.columns = table, columns
        self._parts: list[Any] = []

    def take(self, chunk: Chunk) -> None:
        """Take in the next rows."""
        codes = [self._codes(chunk, name) for name in self.columns]
        self._parts.append(np.array(codes, dtype=np.int8).T)

    def labels(self, nodes: int) -> tuple[Tensor, tuple[str, ...]]:
        """Return int8 labels [nodes, C], -1 for nodes without a row, and their names."""
        labels_NC = torch.full((nodes, len(self.columns)), -1, dtype=torch.int8)
        rows = torch.from_numpy(np.concatenate(self._parts))
        labels_NC[: len(rows)] = rows
        return _some(labels_NC, str(self.table.path)), self.columns

    def _codes(self, chunk: Chunk, name: str) -> list[int]:
        codes = []
        for text, line in zip(texts(chunk.columns[name]), chunk.lines, strict=True):
            code = -1 if text.lower() in MISSING else VALUES.get(text.lower())
            if code is None:
                place = f"{self.table.row_word} {line} of {self.table.path}"
                raise InputError(f"{place} has {text!r} for the label {name!r}", _HINT)
            codes.append(code)
        return codes


def _some(labels_NC: Tensor, what: str) -> Tensor:
    if not bool((labels_NC >= 0).any()):
        raise InputError(f"{what}: no node has a label", _HINT)
    return labels_NC


def count_classes(labels: Tensor) -> int:
    """Return C of labels [N, C], or of labels 0 … C-1 [N]."""
    return labels.shape[1] if labels.dim() == 2 else int(labels.max()) + 1
