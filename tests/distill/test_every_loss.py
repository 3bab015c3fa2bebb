"""All losses at once, from a real cache: what is read, logged, learnt, and the same every time."""

from pathlib import Path
from typing import Any

import pytest
import torch

from g2t.cache.check import open_cache
from g2t.cache.format import CLUSTERS, SIGNALS, pre_layer_name
from g2t.distill.losses import LOSSES
from g2t.distill.signals import open_signals
from g2t.distill.train import distill
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.student.base import TrainSettings
from g2t.teacher.train import teach
from tests.distill.small import metrics, payload

GRAPH = {"nodes": 120, "degree": 6.0, "classes": 3, "features": 6}
TEACH: dict[str, Any] = {
    "split": "random:20/20/60:0",
    "train": {"epochs": 5},
    "model": {"hidden": 16, "layers": 3},
}
ALIGN = [(map_, to) for map_ in ("depth", "hop", "attention") for to in ("post", "pre")]


@pytest.fixture(scope="module", params=[0, 4], ids=["one label", "several"])
def cache_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("every")
    values = {**GRAPH, "labels": request.param} if request.param else GRAPH
    import_graph("synthetic:csbm", home / "graph", values, None, Silent(), False)
    teach(home / "graph", home / "teacher", TEACH, device="cpu")
    asked = ExportSettings(signals=SIGNALS, codes=5)
    made = export(home / "teacher", home / "graph", home / "cache", asked)
    assert made is not None
    return made.path


@pytest.mark.parametrize(("map_", "to"), ALIGN)
def test_a_hop_student_minds_all_of_them(
    cache_path: Path, tmp_path: Path, map_: str, to: str
) -> None:
    losses: dict[str, Any] = {name: {} for name in LOSSES}
    losses["align"] = {"map": map_, "token_zero": map_ == "hop", "activation": to}
    values = {"student": "hop", "loss": losses, "train": {"epochs": 3, "batch": 40}}
    made = [distill(cache_path, tmp_path / name, values, device="cpu") for name in ("a", "b")]
    assert payload(made[0].path) == payload(made[1].path)
    for line in metrics(made[0].path):
        assert {name for name in LOSSES if f"loss.{name}" in line} == set(LOSSES)
        assert all(line[f"loss.{name}"] > 0 for name in LOSSES)
        assert line["factor.adversarial"] == pytest.approx(0.5)
    assert f"cache/{CLUSTERS}" in made[0].inputs
    assert (f"cache/{pre_layer_name(1)}" in made[0].inputs) == (to == "pre")


@pytest.mark.parametrize("student", ["landmark", "mlp"])
def test_a_student_without_hops_minds_all_but_one(
    cache_path: Path, tmp_path: Path, student: str
) -> None:
    losses: dict[str, Any] = {name: {} for name in LOSSES if name != "hop_consistency"}
    values = {"student": student, "loss": losses, "train": {"epochs": 2}}
    line = metrics(distill(cache_path, tmp_path / "s", values, device="cpu").path)[-1]
    assert {name for name in LOSSES if f"loss.{name}" in line} == set(losses)


def test_a_batch_has_the_communities_of_its_own_rows(cache_path: Path) -> None:
    cache = open_cache(cache_path)
    needs = frozenset({"layers", "clusters", "edges"})
    signals = open_signals(cache, needs, frozenset({"edges"}), TrainSettings())
    whole_N = cache.whole(CLUSTERS)[:, 0].long()
    for own, rows_B, batch in signals.batches(30):
        assert torch.equal(batch.cluster_B, whole_N[rows_B[:own]])
        assert len(rows_B) > own
