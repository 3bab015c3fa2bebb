"""Answers of a teacher that was trained elsewhere, and caches that are made of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from g2t.cache.check import open_cache
from g2t.cache.outside import OutsideFiles, OutsideSettings, import_cache
from g2t.cache.reader import Cache
from g2t.errors import InputError
from g2t.graph.bundle import Graph, write_graph
from g2t.stage import Stage

NODES, CLASSES, HIDDEN = 90, 3, 7
SPLIT = "random:40/20/40:0"
Array = NDArray[Any]


def store(graph: Graph, out: Path) -> Path:
    with Stage(out, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        return stage.commit({}).path


def answers(graph: Graph) -> tuple[Array, Array]:
    """Logits that mostly know the label, and a layer, row by node."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(NODES, CLASSES))
    logits[np.arange(NODES), graph.labels.numpy()] += 3
    return logits, draw.normal(size=(NODES, HIDDEN)).astype(np.float32)


def save(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def bring(files: OutsideFiles, out: Path, **settings: Any) -> Cache:
    values = {"split": SPLIT, "dtype": "fp32", **settings}
    import_cache(files, out, OutsideSettings.model_validate(values))
    return open_cache(out)


def refused(files: OutsideFiles, out: Path, said: str, **settings: Any) -> InputError:
    with pytest.raises(InputError, match=said) as caught:
        bring(files, out, **settings)
    assert not out.exists()
    assert not out.with_name(out.name + ".partial").exists()
    assert "\n" not in caught.value.message
    return caught.value
