"""How fast students learn: against the teacher rerun in every step, and against GLNN's MLP.

    g2t run recipe:cora-cpf --seeds 0:3 --out runs/cora-cpf           # likewise the others
    python tests/bench/student_speed.py --runs runs cora-cpf citeseer-cpf computers-cpf

Reads teachers and caches of finished runs. In turn, for every seed, on one thread:

- online: the same distillation, in which each step asks the teachers by a forward pass over the
  whole graph instead of reading the cache. Printed: seconds of an epoch from the cache over those
  online.
- GLNN's MLP in a plain PyTorch loop over dense features with the authors' published settings
  (Zhang et al. 2022; `train.conf.yaml` of their repository): 2 layers of 128, batches of 512, Adam,
  patience 50. Printed: seconds until a student's validation accuracy (of `hop` with all hops at
  hand) is that of the MLP's best epoch, over the seconds that the MLP took to get there; `never`
  where it does not get there.

Exits with 1 where a student takes longer than GLNN's MLP on Cora or CiteSeer.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from g2t.cache.check import open_cache
from g2t.cache.reader import Cache
from g2t.config import layered, read_config
from g2t.distill.signals import Signals
from g2t.distill.train import distill
from g2t.graph.bundle import read_graph
from g2t.graph.csr import Csr
from g2t.recipe import Recipe, read_recipe
from g2t.task import mean_logits
from g2t.teacher.forward import observed
from g2t.teacher.members import members_of
from g2t.teacher.store import read_teacher

#: Learning rate, weight decay, dropout of GLNN's MLP, by recipe.
GLNN = {
    "cora-cpf": (0.01, 0.005, 0.6),
    "citeseer-cpf": (0.01, 0.001, 0.1),
    "photo-cpf": (0.005, 0.002, 0.3),
    "computers-cpf": (0.001, 0.002, 0.3),
}
BOUND = ("cora-cpf", "citeseer-cpf")
STUDENTS = ("landmark", "hop")
ONLINE_EPOCHS = 6


@dataclass(frozen=True)
class Epochs:
    """When every epoch of a training run ended, in seconds from its start, and its validation."""

    at: list[float]
    val: list[float]

    @property
    def seconds(self) -> float:
        """Of a middle epoch."""
        return statistics.median(b - a for a, b in zip([0.0, *self.at], self.at, strict=False))

    def until(self, val: float) -> float | None:
        """Return the seconds until validation was first as good; None if it never was."""
        return next((t for t, v in zip(self.at, self.val, strict=True) if v >= val), None)


class Clock:
    """Progress of a distillation that notes when epochs end."""

    def __init__(self) -> None:
        self.start: float | None = None
        self.epochs = Epochs([], [])

    def note(self, text: str) -> None:
        """Say nothing."""

    def update(self, stage: str, step: int, steps: int, figures: Mapping[str, float]) -> None:
        """Note an epoch."""
        assert self.start is not None
        self.epochs.at.append(time.perf_counter() - self.start)
        self.epochs.val.append(figures.get("val_all", figures["val"]))


def ours(cache: Path, values: Mapping[str, Any]) -> Epochs:
    """Distil from the cache: opening it counts, the first import does not."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        clock.start = time.perf_counter()
        distill(cache, Path(folder) / "student", values, device="cpu", progress=clock)
    return clock.epochs


def online(seed_folder: Path, recipe: Recipe, values: Mapping[str, Any]) -> Epochs:
    """Distil, asking the teachers in every step instead of the cache."""
    graph = read_graph(seed_folder.parent / "graph")
    members = members_of(seed_folder / "teacher", recipe.kinds)
    teachers = [read_teacher(member.out) for member in members]
    cpu = torch.device("cpu")
    ready = [observed(graph, t.split, t.facts["features"]["scaling"], cpu) for t in teachers]

    @torch.inference_mode()
    def ask(self: Signals, rows_B: Tensor, logits_BC: Tensor) -> Tensor:
        said = [
            teacher.model(features, structure).logits_NC
            for teacher, (features, structure) in zip(teachers, ready, strict=True)
        ]
        return mean_logits(graph.task, said)[rows_B].clone()

    few = layered(values, {"train": {"epochs": ONLINE_EPOCHS, "patience": ONLINE_EPOCHS}})
    with mock.patch.object(Signals, "_logits", ask):
        return ours(seed_folder / "cache", few)


def glnn(cache: Cache, name: str, seed: int) -> Epochs:
    """Train GLNN's MLP on the cache's logits until 50 epochs bring no better validation."""
    torch.manual_seed(seed)
    rate, decay, dropout = GLNN[name]
    features = cache.features()
    x_NF = features.dense_columns(0, features.shape[1]) if isinstance(features, Csr) else features
    target_NC = cache.logits().float().log_softmax(1)
    val, labels = cache.parts.val, cache.labels[cache.parts.val]
    model = nn.Sequential(
        nn.Linear(x_NF.shape[1], 128),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, target_NC.shape[1]),
    )
    optimizer = torch.optim.Adam(model.parameters(), rate, weight_decay=decay)
    epochs, best, start = Epochs([], []), 0, time.perf_counter()
    for epoch in range(500):
        model.train()
        for rows_B in torch.split(torch.randperm(len(x_NF)), 512):
            said_BC = model(x_NF[rows_B]).log_softmax(1)
            loss = F.kl_div(said_BC, target_NC[rows_B], reduction="batchmean", log_target=True)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            right = (model(x_NF[val]).argmax(1) == labels).float().mean().item()
        epochs.at.append(time.perf_counter() - start)
        epochs.val.append(right)
        if right > epochs.val[best]:
            best = epoch
        if epoch - best >= 50:
            break
    return epochs


def measure(runs: Path, name: str, seeds: int) -> bool:
    """Print a recipe's lines; tell whether its bound holds."""
    recipe, holds = read_recipe(read_config(f"recipe:{name}")), True
    steps: dict[str, list[float]] = {student: [] for student in STUDENTS}
    races: dict[str, list[float]] = {student: [] for student in STUDENTS}
    for seed in range(seeds):
        folder = runs / name / f"seed-{seed}"
        cache = open_cache(folder / "cache")
        rival = glnn(cache, name, seed)
        best = max(rival.val)
        took = rival.until(best)
        assert took is not None
        for student in STUDENTS:
            values = layered(recipe.student(student), {"seed": seed, "second": None})
            mine, rerun = ours(folder / "cache", values), online(folder, recipe, values)
            steps[student].append(mine.seconds / rerun.seconds)
            there = mine.until(best)
            races[student].append(float("inf") if there is None else there / took)
            print(
                f"{name} seed {seed} {student}: epoch {mine.seconds:.3f} s, online "
                f"{rerun.seconds:.3f} s; to {100 * best:.2f} % {_time(there)}, GLNN {took:.2f} s",
                flush=True,
            )
    for student in STUDENTS:
        step, race = statistics.median(steps[student]), statistics.median(races[student])
        said = "never" if race == float("inf") else f"{race:.2f}"
        print(f"| {name} | {student} | {step:.2f} | {said} |")
        holds &= name not in BOUND or race <= 1
    return holds


def _time(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"


def main() -> int:
    """Measure every recipe and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=sorted(GLNN), metavar="RECIPE")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, by recipe")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| recipe | student | epoch ÷ online | time to GLNN's best validation ÷ GLNN's |")
    held = [measure(options.runs, name, options.seeds) for name in options.names]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
