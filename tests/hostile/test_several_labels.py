"""Caches of several labels per node whose every digest fits and whose labels lie."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from judging import distil, read_all, refused
from spoiling import CLASSES, GRAPH, ROWS, Case, Edit, at, manifest, put, tensors, write_cache

LABEL = "a label is out of range, or a test label is in the cache"


def several(cache: Path) -> None:
    """Make three labels per node of the three classes; of row 1 only one is known."""

    def spread(content: dict[str, Tensor]) -> None:
        labels = torch.full((ROWS, CLASSES), -1, dtype=torch.int8)
        labels[:30] = torch.nn.functional.one_hot(content["labels"][:30], CLASSES).to(torch.int8)
        labels[1, 1:] = -1
        content["labels"] = labels

    tensors(GRAPH, spread)(cache)
    manifest(lambda m: m.update(task="multilabel", metric="roc_auc"))(cache)


def labels(change: Callable[[Tensor], Tensor]) -> Edit:
    return tensors(GRAPH, put("labels", change))


CASES: dict[str, Case] = {
    "a label of 2": Case(labels(at((0, 0), 2)), LABEL),
    "a label of -2": Case(labels(at((0, 0), -2)), LABEL),
    "one test label": Case(labels(at((35, 2), 0)), LABEL),
    "a label of no part": Case(labels(at((59, 0), 1)), LABEL),
    "a training row of which nothing is known": Case(labels(at(0, -1)), LABEL),
    "a validation row of which nothing is known": Case(labels(at(25, -1)), LABEL),
    "labels of int64": Case(labels(lambda t: t.long()), "does not hold labels as a cache of 60"),
    "labels of floats": Case(labels(lambda t: t.float()), "does not hold labels"),
    "a label column less": Case(labels(lambda t: t[:, 1:]), "does not hold labels"),
    "a row less": Case(labels(lambda t: t[1:]), "does not hold labels"),
    "one class per node": Case(labels(lambda t: t.long().argmax(1)), "does not hold labels"),
    "a task of one class": Case(
        manifest(lambda m: m.update(task="multiclass", metric="accuracy")), "does not hold labels"
    ),
    "accuracy": Case(
        manifest(lambda m: m.update(metric="accuracy")), "accuracy is no score of a multilabel task"
    ),
    "one label": Case(
        manifest(lambda m: m.update(classes=["a"])), "1 classes do not make a multil"
    ),
    "top-2 logits": Case(
        lambda cache: None, "teacher-logits of a multilabel task cannot be of kind topk", "compact"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_labels_that_lie_are_refused(tmp_path: Path, name: str) -> None:
    case, cache = CASES[name], tmp_path / "cache"
    several(write_cache(cache, case.kind))
    case.edit(cache)
    refused(distil(cache, tmp_path / "student"), case.code, case.said, cache)
    assert not (tmp_path / "student").exists()


def test_a_sound_cache_of_several_labels_is_read_and_learned_from(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    several(write_cache(cache))
    read_all(cache)
    assert distil(cache, tmp_path / "student").code == 0
