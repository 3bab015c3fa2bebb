"""The card: every measure of the raw features (floor), the teacher (ceiling), and students.

`cards` takes embeddings; `card_of` gets them from the case of an evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from g2t.evaluate.card.alignment import debiased_cka
from g2t.evaluate.card.draws import DRAWS, Scene
from g2t.evaluate.card.estimate import inheritance, mean_of
from g2t.evaluate.card.measures import MEASURES
from g2t.evaluate.card.space import Space
from g2t.evaluate.card.view import View
from g2t.graph.csr import Features

SCHEMA = "g2t.card/1"

#: Of every measure its values, one per draw.
Marks = Mapping[str, Tensor]


def marks(space: Space, ideal: Space, scene: Scene) -> Marks:
    """Take every measure of a space in every draw, float64 [R] each."""
    probed = space.probed(scene.probed_B)
    views = [View(space, probed, scene, draw, ideal) for draw in scene.draws]
    return {
        name: torch.tensor([measure.of(view) for view in views], dtype=torch.float64)
        for name, measure in MEASURES.items()
    }


@dataclass(frozen=True)
class Ends:
    """What students are held against: the raw features and the teacher, as it was measured."""

    scene: Scene
    layers: Sequence[Space]
    floor: Marks
    ceiling: Marks

    @property
    def facts(self) -> dict[str, Any]:
        """The card without its students."""
        scene = self.scene
        return {
            "schema": SCHEMA,
            "nodes": len(scene.edges),
            "edges": len(scene.edges.column_E) // 2,
            "draws": DRAWS,
            "levels": {name: measure.level for name, measure in MEASURES.items()},
            "floor": _means(self.floor),
            "ceiling": _means(self.ceiling),
        }

    def row(self, name: str, blocks: Sequence[Tensor]) -> dict[str, Any]:
        """Return what the card says of a student, from its embeddings [N, D], one per block.

        The last block is measured; `cka` has a row per block and a column per teacher layer.
        """
        spaces = [Space(block) for block in blocks]
        own = marks(spaces[-1], self.layers[-1], self.scene)
        inherited = {
            key: inheritance(own[key], self.floor[key], self.ceiling[key], measure.overlap)
            for key, measure in MEASURES.items()
        }
        return {
            "name": name,
            "values": _means(own),
            "inheritance": {key: share.facts() for key, share in inherited.items()},
            "cka": cka_matrix(spaces, self.layers, self.scene),
        }


def measure_ends(scene: Scene, features: Features, layers: Sequence[Tensor]) -> Ends:
    """Measure raw features and the last of the teacher's layers, each [N, D]."""
    spaces, raw = [Space(layer) for layer in layers], Space(features)
    ideal = spaces[-1]
    return Ends(scene, spaces, marks(raw, ideal, scene), marks(ideal, ideal, scene))


def cka_matrix(
    blocks: Sequence[Space], layers: Sequence[Space], scene: Scene
) -> list[list[float | None]]:
    """Return the debiased CKA of every block with every layer, the mean over draws."""
    total = torch.zeros(len(blocks), len(layers), dtype=torch.float64)
    for draw in scene.draws:
        theirs = [layer.gram(draw.group_B) for layer in layers]
        for row, block in enumerate(blocks):
            ours = block.gram(draw.group_B)
            total[row] += torch.tensor([debiased_cka(ours, other) for other in theirs])
    means: list[list[float]] = (total / len(scene.draws)).tolist()
    return [[None if mean != mean else mean for mean in row] for row in means]


def _means(values: Marks) -> dict[str, Any]:
    return {key: mean_of(values[key], MEASURES[key].overlap).facts() for key in values}
