"""Splits: which nodes take part, and which train, validate and test; exact, by name, with a digest.

`public` and `official:I` come with the source. `cpf:SEED` is GLNN's protocol (Zhang et al. 2022,
after Yang et al. 2021): largest component, 20 nodes per class for training, 30 for validation, the
rest for testing. `random:60/20/20:SEED` draws percentages of the labelled nodes.

The setting is another matter: in `production` (GLNN's) a fifth of the test nodes is held out, and
until evaluation neither they nor their edges exist for anybody.
"""

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xxhash
from torch import Tensor

from g2t.artifact import content_digest
from g2t.errors import InputError, UsageError
from g2t.graph.bundle import Graph, Parts
from g2t.graph.structure import largest_component
from g2t.metrics import score
from g2t.task import labelled
from g2t.tensors import load_facts, load_tensors, save_tensors

KINDS = ("public", "official:I", "cpf:SEED", "random:A/B/C:SEED")
NAMES = re.compile(r"public|official(:\d+)?|cpf(:\d+)?|random:\d+/\d+/\d+(:\d+)?")
CPF_TRAIN, CPF_VAL = 20, 30

Setting = Literal["transductive", "production"]
#: The share of the test nodes that production holds out, and that they have in its score.
HELD_SHARE = 0.2


def _no_nodes() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


#: Without which a metric has no value.
_NEEDS = {"roc_auc": "ROC-AUC needs both classes", "f1": "F1 needs a label that is 1"}


@dataclass(frozen=True)
class Split:
    """A named split: the nodes in use and three parts of them, ascending int64 ids.

    In production `held` are the test nodes that were held out, drawn from `seed`; they are neither
    in `nodes` nor in `parts.test`. Without a seed the split is transductive and nobody is held out.
    """

    name: str
    nodes: Tensor
    parts: Parts
    held: Tensor = field(default_factory=_no_nodes)
    seed: int | None = None

    @property
    def setting(self) -> Setting:
        """Whether test nodes are held out."""
        return "transductive" if self.seed is None else "production"

    @property
    def digest(self) -> str:
        """Identity of the node sets; two splits with one digest are the same split."""
        sets = [self.nodes, self.parts.train, self.parts.val, self.parts.test]
        if self.seed is not None:
            sets.append(self.held)
        return content_digest([xxhash.xxh3_128_hexdigest(ids.numpy().tobytes()) for ids in sets])

    @property
    def facts(self) -> dict[str, Any]:
        """Name and digest as they stand in files; in production also the setting and its seed."""
        facts: dict[str, Any] = {"name": self.name, "digest": self.digest}
        return facts if self.seed is None else {**facts, "setting": self.setting, "seed": self.seed}

    @property
    def whole(self) -> "Split":
        """The same split with the held-out nodes among the nodes in use, as at evaluation."""
        return replace(self, nodes=torch.cat([self.nodes, self.held]).sort().values)


def check_name(name: str) -> None:
    """Raise UsageError unless this is the name of a split, with or without its last number."""
    if not NAMES.fullmatch(name):
        raise UsageError(f"no split is called {name!r}", f"choose from: {', '.join(KINDS)}")


def complete_name(name: str, seed: int, graph: Graph) -> str:
    """Give a split named without its last number the seed (`official`: seed modulo the masks)."""
    if name == "official":
        masks = sum(known.startswith("official:") for known in graph.splits)
        return f"official:{seed % masks}" if masks else "official:0"
    if name == "cpf" or (name.startswith("random:") and name.count(":") == 1):
        return f"{name}:{seed}"
    return name


def make_split(graph: Graph, name: str, setting: Setting = "transductive", seed: int = 0) -> Split:
    """Select or compute a split.

    Production holds test nodes out by the seed in the split's name; `seed` is for names without.
    Raises UsageError for a name that is no split, InputError where the graph cannot give it or
    where nothing could be trained, validated or held out with it.
    """
    check_name(name)
    kind, _, rest = name.partition(":")
    if kind == "cpf":
        seed = _number(rest, name)
        split = _cpf(graph, name, seed)
    elif kind == "random":
        shares, _, last = rest.partition(":")
        seed = _number(last, name)
        split = _random(graph, name, shares, seed)
    else:
        split = _stored(graph, name)
    _check_parts(graph, split)
    return split if setting == "transductive" else _hold_out(split, seed)


def _hold_out(split: Split, seed: int) -> Split:
    """Take a fifth of the test nodes out, by the first places of a permutation as in GLNN."""
    test = split.parts.test
    count = int(len(test) * HELD_SHARE)
    if count == 0:
        raise InputError(
            f"split {split.name} has {len(test)} test nodes, too few to hold a fifth of them out",
            "use --setting transductive, or a split with 5 test nodes or more",
        )
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    held, seen = (test[places].sort().values for places in (order[:count], order[count:]))
    nodes = split.nodes[~torch.isin(split.nodes, held)]
    return replace(split, nodes=nodes, parts=replace(split.parts, test=seen), held=held, seed=seed)


def _stored(graph: Graph, name: str) -> Split:
    if name not in graph.splits:
        have = ", ".join(graph.splits) or "none"
        raise InputError(
            f"graph {graph.name} has no split {name!r}; it comes with: {have}",
            "use cpf:SEED or random:60/20/20:SEED, which need none",
        )
    return Split(name, torch.arange(graph.nodes), graph.splits[name])


def _check_parts(graph: Graph, split: Split) -> None:
    """Raise InputError where a part cannot serve: empty, unlabelled, or without a defined score."""
    for part in ("train", "val"):
        labels = graph.labels[getattr(split.parts, part)]
        if len(labels) == 0:
            raise InputError(f"split {split.name} of graph {graph.name} has no {part} nodes")
        if not bool(labelled(labels).all()):
            raise InputError(
                f"split {split.name} of graph {graph.name}: a {part} node has no label"
            )
    if math.isnan(score(graph.metric, torch.zeros(len(labels), len(graph.classes)), labels)):
        raise InputError(
            f"split {split.name} of graph {graph.name}: {_NEEDS[graph.metric]} among the "
            "validation nodes",
            "use another split, or import with another --metric",
        )


def _number(text: str, name: str) -> int:
    if not text.isdigit() or int(text) >= 2**32:
        raise UsageError(
            f"split {name!r} needs a whole number below 2^32 at its end", f"e.g. {KINDS[2]}"
        )
    return int(text)


def _cpf(graph: Graph, name: str, seed: int) -> Split:
    if graph.task == "multilabel":
        raise InputError(
            f"split {name} draws nodes class by class, and those of graph {graph.name} have "
            "several labels",
            "use random:60/20/20:SEED",
        )
    nodes = largest_component(graph.edges)
    labels = graph.labels[nodes].numpy()
    random = np.random.RandomState(seed)
    taken = np.zeros(len(nodes), dtype=bool)
    drawn = []
    for count in (CPF_TRAIN, CPF_VAL):
        part = []
        for label, text in enumerate(graph.classes):
            free = np.flatnonzero((labels == label) & ~taken)
            if len(free) < count:
                raise InputError(
                    f"split {name}: class {text!r} has too few labelled nodes in the largest "
                    f"component; {CPF_TRAIN + CPF_VAL} are needed",
                    "use random:60/20/20:SEED",
                )
            part.append(random.choice(free, count, replace=False))
        drawn.append(np.sort(np.concatenate(part)))
        taken[drawn[-1]] = True
    test = np.flatnonzero(~taken & (labels >= 0))
    parts = (nodes[torch.from_numpy(part)] for part in (*drawn, test))
    return Split(name, nodes, Parts(*parts))


def _random(graph: Graph, name: str, shares: str, seed: int) -> Split:
    percent = [int(number) for number in shares.split("/")]
    if sum(percent) > 100 or 0 in percent:
        raise UsageError(
            f"split {name!r}: the three percentages must be positive, 100 in sum at most"
        )
    known = np.flatnonzero(labelled(graph.labels).numpy())
    order = np.random.RandomState(seed).permutation(known)
    ends = [len(order) * sum(percent[: i + 1]) // 100 for i in range(3)]
    parts = [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    if not all(len(part) for part in parts):
        raise InputError(f"split {name}: {len(order)} labelled nodes are too few for it")
    train, val, test = (torch.from_numpy(np.sort(part)) for part in parts)
    return Split(name, torch.arange(graph.nodes), Parts(train, val, test))


def hide_test_labels(graph: Graph, split: Split) -> Graph:
    """Return the graph with every label outside train and val set to -1: all that trainers see."""
    labels = torch.full_like(graph.labels, -1)
    seen = torch.cat([split.parts.train, split.parts.val])
    labels[seen] = graph.labels[seen]
    return replace(graph, labels=labels)


def write_split(split: Split, path: Path) -> None:
    """Write a split as safetensors, its sets of ids; `facts` stand in the header."""
    parts = split.parts
    tensors = {"nodes": split.nodes, "train": parts.train, "val": parts.val, "test": parts.test}
    if split.seed is not None:
        tensors["held"] = split.held
    save_tensors(path, tensors, split.facts)


def read_split(path: Path) -> Split:
    """Read what `write_split` wrote."""
    tensors = load_tensors(path)
    parts, facts = Parts(tensors["train"], tensors["val"], tensors["test"]), load_facts(path)
    held = tensors.get("held", _no_nodes())
    return Split(facts["name"], tensors["nodes"], parts, held, facts.get("seed"))
