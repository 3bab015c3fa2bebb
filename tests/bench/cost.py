"""What distillation costs: the teacher, the export, and a student's step under every loss.

    g2t run recipe:cora-cpf --seeds 0:1 --out runs/cora-cpf
    python tests/bench/cost.py --run runs/cora-cpf --recipe cora-cpf

Reads the teachers of seed 0 of a finished run, exports them anew with every signal, and trains
`landmark` and `hop` for some epochs: without a teacher (`hard`), with `soft`, with `soft` and each
further loss at a gradient share of 0.1, and with `paper`. Prints seconds and bytes, and seconds of
an epoch over those of the same student without a teacher. On one thread; medians, taken in turn.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from student_speed import ours

from g2t.artifact import open_artifact
from g2t.cache.format import SIGNALS
from g2t.config import layered, read_config
from g2t.distill.losses import LOSSES
from g2t.distill.settings import distill_settings
from g2t.errors import UsageError
from g2t.export import ExportSettings, export
from g2t.recipe import Recipe, read_recipe
from g2t.teacher.members import members_of

STUDENTS = ("landmark", "hop")
EPOCHS, ROUNDS = 5, 3
SHARED = {"share": 0.1}


def variants(student: str) -> dict[str, dict[str, Any]]:
    """Return the settings that are timed, by name, without losses that a student cannot have."""
    found: dict[str, dict[str, Any]] = {
        "hard": {"preset": "none"},
        "soft": {},
        **{f"soft+{loss}": {"loss": {loss: SHARED}} for loss in LOSSES if loss != "soft"},
        "paper": {"preset": "paper"},
    }
    return {name: values for name, values in found.items() if _possible(student, values)}


def _possible(student: str, values: dict[str, Any]) -> bool:
    try:
        distill_settings({"student": student, **values})
    except UsageError:
        return False
    return True


def steps(cache: Path, recipe: Recipe, student: str) -> dict[str, float]:
    """Return the seconds of an epoch under every variant, the median over rounds in turn."""
    few = {"train": {"epochs": EPOCHS, "patience": EPOCHS}, "second": None}
    found: dict[str, list[float]] = {name: [] for name in variants(student)}
    for _ in range(ROUNDS):
        for name, values in variants(student).items():
            timed = ours(cache, layered(recipe.student(student), few, values))
            found[name].append(timed.seconds)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def main() -> int:
    """Measure one run and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--recipe", required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    recipe, seed = read_recipe(read_config(f"recipe:{asked.recipe}")), asked.run / "seed-0"
    members = members_of(seed / "teacher", recipe.kinds)
    teachers = [open_artifact(member.out, "teacher") for member in members]
    taught = sum(float(teacher.record["timings"]["seconds"]) for teacher in teachers)
    print(f"| teacher, {len(teachers)} members | {taught:.1f} s | |")
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        for what, signals in (("logits", ("logits",)), ("every signal", SIGNALS)):
            start = time.perf_counter()
            settings = ExportSettings(signals=signals)
            export([t.path for t in teachers], asked.run / "graph", cache, settings, force=True)
            took = time.perf_counter() - start
            print(f"| export, {what} | {took:.1f} s | {_bytes(cache, True):,} bytes |")
        print(f"| features, edges and split in the cache | | {_bytes(cache, False):,} bytes |")
        for student in STUDENTS:
            found = steps(cache, recipe, student)
            for name, seconds in found.items():
                ratio = seconds / found["hard"]
                print(f"| {student}, {name} | {seconds:.3f} s an epoch | {ratio:.2f} |", flush=True)
    return 0


def _bytes(cache: Path, teacher: bool) -> int:
    """Return the bytes of the teacher's shards, or of all others."""
    files = cache.glob("*.safetensors")
    return sum(f.stat().st_size for f in files if f.name.startswith("teacher-") == teacher)


if __name__ == "__main__":
    sys.exit(main())
