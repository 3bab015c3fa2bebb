"""A student that answers: opened from its folder, asked with features and, if there are, edges.

Shape letters: `N` nodes, `B` batch, `C` classes, `D` width, `F` features, `K` hops, `E` edges.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from g2t.artifact import RECORD
from g2t.errors import InputError
from g2t.graph.csr import Csr, Features, take_rows
from g2t.graph.structure import without_self_loops
from g2t.serve.features import EdgesLike, FeaturesLike, as_edges, as_features, no_edges
from g2t.serve.hub import CONFIG, read_hub
from g2t.serve.near import Near
from g2t.student.base import CHUNK, Inputs, Student
from g2t.student.landmark import Landmark
from g2t.student.settled import Settled
from g2t.student.store import read_student
from g2t.task import Task, decide, probabilities


@dataclass(frozen=True)
class Prediction:
    """What a student says of N nodes.

    `logits_NC` and `embeddings_ND` (the last block's) are float32; `classes` names the columns.
    """

    task: Task
    classes: tuple[str, ...]
    logits_NC: Tensor
    embeddings_ND: Tensor

    def __len__(self) -> int:
        return len(self.logits_NC)

    @cached_property
    def probabilities_NC(self) -> Tensor:
        """The probability of every class; with several labels per node, of each by itself."""
        return probabilities(self.task, self.logits_NC)

    @property
    def labels(self) -> list[str] | list[tuple[str, ...]]:
        """The likeliest class of every node; with several labels per node, those above 1/2."""
        chosen = decide(self.task, self.logits_NC)
        if self.task != "multilabel":
            return [self.classes[index] for index in chosen.tolist()]
        pairs = [zip(self.classes, row, strict=True) for row in chosen.tolist()]
        return [tuple(name for name, yes in row if yes) for row in pairs]


@dataclass(frozen=True)
class ServedStudent:
    """A student ready to answer; `facts` are its `model.json`, `seed` is that of its training."""

    path: Path
    facts: dict[str, Any]
    model: Student
    digest: str
    seed: int | None = None

    @property
    def name(self) -> str:
        """Its kind, such as `hop`."""
        return str(self.facts["student"])

    @property
    def task(self) -> Task:
        """What a row of logits says."""
        return cast(Task, self.facts["task"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return tuple(self.facts["classes"])

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the columns that it reads, in order; None where its graph had no names."""
        names = self.facts["features"].get("names")
        return None if names is None else tuple(names)

    @property
    def kind(self) -> Literal["csr", "dense"]:
        """Whether it reads sparse rows."""
        return cast(Literal["csr", "dense"], self.facts["features"]["kind"])

    @property
    def width(self) -> int:
        """How many columns F it reads."""
        return int(self.facts["features"].get("projected_from") or self.facts["features"]["width"])

    @property
    def hops(self) -> int:
        """The most hops K that it reads; 0: it needs no edge."""
        return self.model.hops

    def predict(
        self,
        features: FeaturesLike,
        edges: EdgesLike | None = None,
        *,
        hops: int | Tensor | None = None,
        undirected: bool = True,
    ) -> Prediction:
        """Answer for N nodes from their features [N, F]: a tensor, an array or a sparse matrix.

        `edges` are int [2, E], source and target; `undirected` ones count both ways. A student
        without hops does not look at them. `hops` says how many are at hand, for all nodes or for
        each [N], at most K; without it all are at the nodes that have an edge, and none at others.
        Raises InputError for another width, NaN, and edges or hops that do not fit.
        """
        rows = as_features(features, self.width, self.kind == "csr")
        if not len(rows):
            raise InputError("there are no nodes to answer for", "give one row of features or more")
        known = no_edges(len(rows)) if edges is None else as_edges(edges, len(rows), undirected)
        parts = list(self.answers(rows, known, self.hops_at(known, hops)))
        logits_NC = torch.cat([part.logits_NC for part in parts])
        embeddings_ND = torch.cat([part.embeddings_ND for part in parts])
        return Prediction(self.task, self.classes, logits_NC, embeddings_ND)

    def hops_at(self, edges: Csr, hops: int | Tensor | None) -> Tensor | None:
        """Return the hops at hand at every node, int64 [N]: as asked, else all where an edge is.

        None for a student that reads none. Raises InputError for less than 0 or more than K.
        """
        if not self.hops:
            return None
        if hops is None:
            return (without_self_loops(edges).counts_N > 0).long() * self.hops
        hops_N = torch.as_tensor(hops).long().expand(len(edges))
        if bool(((hops_N < 0) | (hops_N > self.hops)).any()):
            raise InputError(f"this student reads 0 … {self.hops} hops", "choose one of these")
        return hops_N

    @torch.inference_mode()
    def answers(
        self,
        features: Features,
        edges: Csr,
        hops_N: Tensor | None,
        index_B: Tensor | None = None,
    ) -> Iterator[Prediction]:
        """Answer for all nodes, or some of them in their order, a chunk at a time.

        `features` [N, F] are of the kind that the student reads.
        """
        inputs = self.model.prepare(self.model.read(features), edges, None)
        every_B = torch.arange(len(edges)) if index_B is None else index_B
        yield from self._chunks(inputs, every_B, None if hops_N is None else hops_N[every_B])

    @torch.inference_mode()
    def answers_near(self, near: Near, index_B: Tensor, hops_B: Tensor) -> Iterator[Prediction]:
        """Answer for nodes with their neighbourhood read, by their places among those asked about.

        Of the hops at hand none may be beyond those that were read.
        """
        read = replace(near, features=self.model.read(near.features))
        yield from self._chunks(read.inputs(self.model), index_B, hops_B)

    def _chunks(
        self, inputs: Inputs, index_B: Tensor, hops_B: Tensor | None
    ) -> Iterator[Prediction]:
        for place_C in torch.split(torch.arange(len(index_B)), CHUNK):
            index_C, hops_C = index_B[place_C], None if hops_B is None else hops_B[place_C]
            yield Prediction(self.task, self.classes, *self._said(inputs, index_C, hops_C))

    def _said(
        self, inputs: Inputs, index_B: Tensor, hops_B: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return logits [B, C] and the last block's embeddings [B, D] of some nodes."""
        if self._settled is not None:
            logits_BC, state_BD = self._settled(take_rows(inputs.features, index_B))
        else:
            output = self.model.answer(self.model.embed(inputs, index_B), hops_B)
            logits_BC, state_BD = output.logits_BC, output.blocks[-1]
        return self.model.recall(logits_BC, inputs, index_B, hops_B), state_BD

    @cached_property
    def _settled(self) -> Settled | None:
        """A `landmark` with its weights multiplied out; other students are asked as they are."""
        return Settled(self.model) if isinstance(self.model, Landmark) else None


def load_student(path: str | Path) -> ServedStudent:
    """Open a student's folder, or one that `g2t model export --to hf` wrote, and check every byte.

    Raises InputError where there is none, IntegrityError where it was changed or is of a newer
    version.
    """
    folder = Path(path)
    if (folder / CONFIG).is_file() and not (folder / RECORD).exists():
        return ServedStudent(folder, *read_hub(folder))
    found = read_student(folder)
    seed = found.artifact.record.get("seed")
    return ServedStudent(folder, found.facts, found.model, found.artifact.digest, seed)
