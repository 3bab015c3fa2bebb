"""Small settings, a cache for them, and what a student's folder holds."""

import json
from pathlib import Path
from typing import Any

from g2t.cache.format import Signal
from g2t.export import ExportSettings, export
from g2t.teacher.train import teach

GRAPH = {"nodes": 160, "degree": 6.0, "classes": 3, "features": 6, "noise": 1.5}
#: Far too small a buffer for any cache here, so that it is read by blocks.
BLOCKS = {"batch": 32, "block": 16, "buffer": "16KiB"}
TEACH = {"split": "random:20/20/60:0", "train": {"epochs": 10}, "model": {"hidden": 16}}


def cache_of(
    graph: Path, out: Path, values: dict[str, Any], signals: tuple[Signal, ...] = ("logits",)
) -> Path:
    teacher = out.with_name(out.name + "-teacher")
    teach(graph, teacher, values)
    made = export(teacher, graph, out, ExportSettings(dtype="fp32", signals=signals))
    assert made is not None
    return made.path


def quick(student: str, preset: str = "soft", epochs: int = 3, **values: Any) -> dict[str, Any]:
    return {"student": student, "preset": preset, "train": {"epochs": epochs}, **values}


def payload(path: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for file in path.iterdir()
        if file.name not in ("run.json", "metrics.jsonl")
    }


def metrics(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
