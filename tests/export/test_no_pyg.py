"""Teachers that describe their layers are exported without PyG, by the library and by the command.

It costs 115 MB of a budget that may be 512, and seconds of every worker's start.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from g2t.cache.check import open_cache
from tests.export.graphs import DESCRIBED, EVERYTHING, Taught, Teach, digests

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
from pathlib import Path
from g2t.export import ExportSettings, export
signals = ("layers", "pre_layers", "logits", "edge_scores", "reliability", "codes", "clusters")
for teacher, graph, out in zip(*[iter(sys.argv[1:])] * 3):
    settings = ExportSettings(dtype="fp16", signals=signals, hops=1)
    export(Path(teacher), Path(graph), Path(out), settings)
loaded = sorted(name for name in sys.modules if name.split(".")[0] in ("torch_geometric", "typer"))
print(loaded)
"""


def python(*words: object) -> subprocess.CompletedProcess[str]:
    """Run Python with this checkout and nothing of this process."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )


@pytest.fixture(scope="module")
def taught(teach: Teach) -> dict[str, Taught]:
    return {name: teach(name, "words", **EVERYTHING) for name in DESCRIBED}


def test_the_library_exports_all_signals_of_every_teacher(
    taught: dict[str, Taught], tmp_path: Path
) -> None:
    words = [part for name, t in taught.items() for part in (t.teacher, t.graph, tmp_path / name)]
    assert python("-c", SCRIPT, *words).stdout == "[]\n"
    signals = ("layers", "pre_layers", "logits", "edge_scores", "reliability", "codes", "clusters")
    for name, one in taught.items():
        here = one.export(tmp_path / f"{name}-here", dtype="fp16", signals=signals, hops=1)
        assert digests(open_cache(tmp_path / name).artifact) == digests(here.artifact)


def test_the_command_does_too(taught: dict[str, Taught], tmp_path: Path) -> None:
    words = ["-X", "importtime", "-m", "g2t_cli", "export-features", taught["gcn"].teacher]
    words += ["--graph", taught["gcn"].graph, "--for", "lsp,reliable_edge,codebook", "--quiet"]
    done = python(*words, "--hops", 1, "--out", tmp_path / "c")
    assert done.stdout == f"{tmp_path / 'c'}\n"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"torch", "g2t.export.walk", "typer"} <= imported
    assert not {name for name in imported if name.split(".")[0] == "torch_geometric"}
    entries = open_cache(tmp_path / "c").manifest.tensors
    assert "teacher-reliability" in [entry.name for entry in entries]
