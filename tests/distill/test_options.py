"""What the options of a training run do to its steps, and that it can stop with any of them."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from g2t.artifact import Artifact
from g2t.distill.train import distill
from g2t.errors import Stopped
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.schedule import rate_factor
from g2t.teacher.train import teach

GRAPH = {"nodes": 160, "degree": 6.0, "classes": 3, "features": 6, "noise": 1.5}
TEACH = {"split": "random:20/20/60:0", "train": {"epochs": 10}, "model": {"hidden": 16}}
#: In 160 rows, steps of an epoch.
STEPS = 4


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    graph = import_graph("synthetic:csbm", folder / "graph", GRAPH, None, Silent(), False).path
    teach(graph, folder / "teacher", TEACH)
    settings = ExportSettings(dtype="fp32", signals=("layers", "logits"))
    export(folder / "teacher", graph, folder / "cache", settings)
    return folder / "cache"


@pytest.fixture(scope="module")
def hop(cache_path: Path) -> Path:
    values = {"student": "hop", "train": {"epochs": 2}}
    return distill(cache_path, cache_path.with_name("hop"), values).path


def payload(path: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in path.iterdir() if f.name != "run.json"}


def metrics(made: Artifact) -> list[dict[str, float]]:
    return [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("student", ["landmark", "mlp"])
def test_every_step_takes_the_rate_of_its_epoch(
    cache_path: Path, tmp_path: Path, student: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, step = list[float](), torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *rest: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    train = {"epochs": 6, "warmup": 2, "schedule": "cosine", "lr": 0.01}
    distill(cache_path, tmp_path / "s", {"student": student, "train": train})
    wanted = [0.01 * rate_factor(epoch, 6, 2, "cosine") for epoch in range(6)]
    assert rates == pytest.approx([rate for rate in wanted for _ in range(STEPS)])


def test_the_log_is_a_mean_over_the_rows_that_are_shown(cache_path: Path, tmp_path: Path) -> None:
    train = {"epochs": 2, "hold_out_val": True}
    made = distill(cache_path, tmp_path / "s", {"student": "mlp", "train": train})
    shown = distill(cache_path, tmp_path / "shown", {"student": "mlp", "train": {"epochs": 2}})
    for line in metrics(made) + metrics(shown):
        assert line["factor.soft"] == pytest.approx(1)
    assert metrics(made)[0]["loss.soft"] != metrics(shown)[0]["loss.soft"]


def test_a_share_that_begins_late_is_measured_where_it_begins(
    cache_path: Path, tmp_path: Path
) -> None:
    """Not at the next regular measurement: for that long its factor would be one."""
    late = {"soft": {}, "gram": {"share": 1e-6, "since": 0.5}}  # step 12, between 0 and 20
    values = {"student": "mlp", "train": {"epochs": 6}, "loss": late}
    lines = metrics(distill(cache_path, tmp_path / "s", values))
    assert ["factor.gram" in line for line in lines] == [False] * 3 + [True] * 3
    assert all(0 < line["factor.gram"] < 0.01 for line in lines[3:])


class Terminated(Silent):
    """A progress that sends SIGTERM to its own process in some epoch."""

    def __init__(self, at: int) -> None:
        self.at = at

    def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
        if done == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


LATE = {"soft": {}, "gram": {"share": 0.1, "since": 0.5}, "adversarial": {"until": 0.6}}
TRAIN = {"epochs": 8, "schedule": "cosine", "warmup": 3, "hold_out_val": True}


@pytest.mark.parametrize(
    "values",
    [
        {"student": "landmark", "size": "tiny", "loss": LATE, "train": {**TRAIN, "revive": 0.99}},
        {
            "student": "hop",
            "size": "tiny",
            "model": {"hops": 2, "neighbours": 3, "neighbour_hops": 1, "high_pass": True},
            "loss": {**LATE, "hop_consistency": {"weight": 0.5}},
            "train": {**TRAIN, "revive": 0.99, "ema": 0.5},
        },
        {"student": "mlp", "size": "base", "second_share": 0.3, "loss": LATE, "train": TRAIN},
    ],
    ids=lambda values: values["student"],
)
def test_a_run_that_is_stopped_goes_on_to_the_same_bytes_with_every_option(
    cache_path: Path, hop: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    whole = distill(cache_path, tmp_path / "whole", values, second=hop)
    for at in (2, 5):
        with pytest.raises(Stopped):
            distill(cache_path, tmp_path / "s", values, second=hop, progress=Terminated(at))
        assert (tmp_path / "s.partial/scratch/checkpoint.safetensors").is_file()
    made = distill(cache_path, tmp_path / "s", values, second=hop)
    assert payload(made.path) == payload(whole.path)
    if "revive" in values["train"]:  # else nothing was moved, and nothing tested
        assert sum(line.get("revived", 0) for line in metrics(made)) > 0


@pytest.mark.filterwarnings("ignore")  # the compiler's own, of what it does
@pytest.mark.parametrize(
    ("student", "loss"), [("landmark", {}), ("hop", {}), ("mlp", {"adversarial": {}})]
)
def test_a_compiled_training_is_the_same(
    cache_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    student: str,
    loss: dict[str, Any],
) -> None:
    """Traced as on CUDA, though run by the plain operators, whose results are the same bits."""
    values: dict[str, Any] = {"student": student, "loss": loss, "train": {"epochs": 3}}
    plain = distill(cache_path, tmp_path / "plain", values, device="cpu")
    traced = torch.nn.Module.compile
    monkeypatch.setattr("g2t.distill.train.check_device", lambda *_: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: traced(self, backend="eager"))
    values["train"] |= {"compile": True}
    compiled = distill(cache_path, tmp_path / "compiled", values, device="cpu")
    ours, theirs = payload(compiled.path), payload(plain.path)
    assert ours["model.safetensors"] == theirs["model.safetensors"]
