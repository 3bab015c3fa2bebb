"""`synthetic:csbm`: a contextual stochastic block model (Deshpande et al. 2018), of any size.

Classes are balanced and drawn at random; `degree` is the mean number of neighbours, `homophily` the
fraction of edges within a class; features are the mean of the class, N(0, 1) in every column, plus
`noise` times N(0, 1). With `labels` a node has so many labels of 0 or 1 instead of its class; each
is 1 in half of the classes, drawn at random. The same settings give the same graph, bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from g2t.errors import UsageError, did_you_mean
from g2t.graph.bundle import Graph
from g2t.graph.csr import from_pairs
from g2t.graph.sources import Request, Source
from g2t.graph.sources.assemble import SourceSettings, choose_metric
from g2t.task import task_of


class CsbmSettings(SourceSettings):
    """Size, structure and noise of the block model."""

    nodes: int = Field(1000, ge=2, le=1 << 31)
    degree: float = Field(10.0, gt=0, allow_inf_nan=False)
    classes: int = Field(5, ge=2)
    homophily: float = Field(0.8, ge=0, le=1)
    features: int = Field(32, ge=1)
    labels: int | None = Field(None, ge=2, description="labels per node; unset: its class alone")
    noise: float = Field(1.0, ge=0, allow_inf_nan=False)
    seed: int = Field(0, ge=0)

    @field_validator("directed")
    @classmethod
    def _undirected(cls, value: bool | None) -> bool | None:
        if value:
            raise ValueError("the block model is undirected")
        return value


@dataclass(frozen=True)
class _Kind:
    """Pairs of one kind: how many exist, how often a draw is one of them, and the draw."""

    pairs: int
    rate: float
    draw: Callable[[int], tuple[Any, Any]]


def _files(settings: CsbmSettings, request: Request) -> dict[str, Path]:
    return {}


def _read(settings: CsbmSettings, request: Request) -> Graph:
    if request.argument != "csbm":
        raise UsageError(
            f"no synthetic graph is called {request.argument!r}",
            did_you_mean(request.argument, ["csbm"]),
        )
    _check_feasible(settings)
    random = np.random.default_rng(settings.seed)
    label_N = random.permutation(np.arange(settings.nodes) % settings.classes)
    low_E, high_E = (torch.from_numpy(end) for end in _edges(settings, label_N, random))
    mean_CF = random.standard_normal((settings.classes, settings.features), dtype=np.float32)
    feature_NF = random.standard_normal((settings.nodes, settings.features), dtype=np.float32)
    feature_NF *= np.float32(settings.noise)
    feature_NF += mean_CF[label_N]
    labels, count = torch.from_numpy(label_N), settings.classes
    if settings.labels is not None:
        labels, count = _several(labels, settings.labels, count, random), settings.labels
    return Graph(
        name="csbm",
        features=torch.from_numpy(feature_NF),
        edges=from_pairs(torch.cat([low_E, high_E]), torch.cat([high_E, low_E]), settings.nodes),
        labels=labels,
        classes=tuple(str(label) for label in range(count)),
        metric=choose_metric(settings.metric, "accuracy", task_of(labels, count), count),
        directed=False,
    )


def _several(label_N: Tensor, labels: int, classes: int, random: np.random.Generator) -> Tensor:
    """Return int8 labels [N, labels]; each is 1 in half of the classes, rounded down."""
    one_CL = torch.zeros(classes, labels, dtype=torch.int8)
    for label in range(labels):
        one_CL[random.choice(classes, classes // 2, replace=False), label] = 1
    return one_CL[label_N]


def _counts(settings: CsbmSettings) -> tuple[int, int]:
    """Return the numbers of edges within and between classes."""
    edges = round(settings.nodes * settings.degree / 2)
    within = round(edges * settings.homophily)
    return within, edges - within


def _room(settings: CsbmSettings) -> tuple[int, int]:
    """Return how many pairs of nodes there are within and between classes."""
    small, larger = divmod(settings.nodes, settings.classes)
    within = larger * (small + 1) * small // 2
    within += (settings.classes - larger) * small * (small - 1) // 2
    return within, settings.nodes * (settings.nodes - 1) // 2 - within


def _check_feasible(settings: CsbmSettings) -> None:
    if settings.classes > settings.nodes:
        raise UsageError(f"{settings.nodes} nodes cannot have {settings.classes} classes")
    if settings.degree > settings.nodes - 1:
        raise UsageError(
            f"degree {settings.degree:g} is not possible with {settings.nodes} nodes",
            f"at most {settings.nodes - 1}",
        )
    if sum(_counts(settings)) == 0:
        raise UsageError(f"degree {settings.degree:g} gives {settings.nodes} nodes no edge")
    for wanted, room, where in zip(
        _counts(settings), _room(settings), ("within", "between"), strict=True
    ):
        if wanted > room:
            raise UsageError(
                f"homophily {settings.homophily:g} and degree {settings.degree:g} ask for {wanted} "
                f"edges {where} classes, and only {room} pairs of nodes are there",
                "take a smaller degree, more nodes, or another homophily",
            )


def _edges(settings: CsbmSettings, label_N: Any, random: np.random.Generator) -> tuple[Any, Any]:
    """Return both ends of distinct undirected edges, without self-loops."""
    nodes = settings.nodes
    member_N = np.argsort(label_N, kind="stable")
    size_C = np.bincount(label_N, minlength=settings.classes)
    start_C = np.cumsum(size_C) - size_C

    def draw_within(count: int) -> tuple[Any, Any]:
        end_B = random.integers(0, nodes, count)
        class_B = label_N[end_B]
        other_B = member_N[start_C[class_B] + random.integers(0, size_C[class_B])]
        keep_B = end_B != other_B
        return end_B[keep_B], other_B[keep_B]

    def draw_between(count: int) -> tuple[Any, Any]:
        end_B, other_B = random.integers(0, nodes, count), random.integers(0, nodes, count)
        keep_B = label_N[end_B] != label_N[other_B]
        return end_B[keep_B], other_B[keep_B]

    (within, between), (room_within, room_between) = _counts(settings), _room(settings)
    same = float(np.square(size_C / nodes).sum())
    kinds = (
        (within, _Kind(room_within, 1 - settings.classes / nodes, draw_within)),
        (between, _Kind(room_between, 1 - same, draw_between)),
    )
    keys = [_distinct(wanted, kind, nodes, random) for wanted, kind in kinds]
    low_E, high_E = np.divmod(np.concatenate(keys), nodes)
    return low_E, high_E


def _distinct(wanted: int, kind: _Kind, nodes: int, random: np.random.Generator) -> Any:
    """Draw pairs until `wanted` distinct ones, as low * nodes + high, are together."""
    keys_E = np.empty(0, dtype=np.int64)
    while missing := wanted - len(keys_E):
        fresh = kind.rate * (kind.pairs - len(keys_E)) / kind.pairs
        end_B, other_B = kind.draw(int(1.1 * missing / fresh) + 8)
        drawn_B = np.unique(np.minimum(end_B, other_B) * nodes + np.maximum(end_B, other_B))
        new_B = np.setdiff1d(drawn_B, keys_E, assume_unique=True)
        if len(new_B) > missing:
            new_B = random.choice(new_B, missing, replace=False, shuffle=False)
        keys_E = np.concatenate([keys_E, new_B])
    return keys_E


SYNTHETIC = Source(CsbmSettings, _read, _files, ("csbm",))
