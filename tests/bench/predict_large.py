"""A million rows of generated features through `g2t predict`, inside a memory limit.

    python tests/bench/predict_large.py --rows 1000000 --features 64 --limit 1GiB

The student has the weights that it starts from: what they are does not change what it takes. Where
no memory cgroup can be made, the peak of resident memory is compared with the limit instead.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import cgroup
import numpy as np
import torch

from g2t.network import write_network
from g2t.stage import Stage
from g2t.student.store import SCHEMA, build
from g2t.units import parse_size

BLOCK = 10_000


def write_student(folder: Path, features: int) -> None:
    """Write a student of named columns."""
    torch.manual_seed(0)
    named: dict[str, Any] = {
        "schema": SCHEMA,
        "student": "landmark",
        "model": {},
        "losses": {},
        "teacher": None,
    }
    read = {"kind": "dense", "width": features, "names": [f"f{i}" for i in range(features)]}
    about = {"name": "generated", "digest": "sha256:0"}
    task = {"task": "multiclass", "metric": "accuracy", "classes": ["a", "b", "c", "d"]}
    facts = {**named, **task, "features": read, "graph": about, "split": about}
    with Stage(folder, "student", {}, {}, 0) as stage:
        write_network(stage.path, facts, build(facts))
        stage.commit({})


def write_rows(path: Path, rows: int, features: int) -> None:
    """Write a CSV of normal numbers with four digits, block by block."""
    random = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(["id", *(f"f{i}" for i in range(features))]) + "\n")
        block = random.normal(size=(BLOCK, features))
        texts = [",".join(f"{number:.4f}" for number in row) for row in block]
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            file.write("".join(f"{start + i},{texts[i]}\n" for i in range(count)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--limit", type=parse_size, default=1 << 30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_student(folder / "student", arguments.features)
        write_rows(folder / "rows.csv", arguments.rows, arguments.features)
        out = folder / "answers.csv"
        command = [sys.executable, "-m", "g2t_cli", "predict", str(folder / "student")]
        command += [str(folder / "rows.csv"), "--out", str(out)]
        reason = cgroup.available()
        cgroup.evict(folder)
        ended = cgroup.run(command, None if reason else arguments.limit)
        with out.open(encoding="utf-8") as file:
            lines = sum(1 for _ in file) - 1
        size = (folder / "rows.csv").stat().st_size / 2**20
    limit = f"inside {arguments.limit / 2**20:.0f} MiB" if reason is None else reason
    print(
        f"{lines} of {arguments.rows} rows, {arguments.features} features ({size:.0f} MiB of CSV) "
        f"in {ended.seconds:.0f} s, peak {ended.peak_bytes / 2**20:.0f} MiB resident; {limit}"
    )
    if ended.returncode or lines != arguments.rows or ended.peak_bytes > arguments.limit:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
