"""Export out of core against the best forward in RAM: time, memory, cost per edge.

    python tests/bench/export_large.py                 # 2 million nodes, 20 million edges
    python tests/bench/export_large.py --nodes 250000  # a quick look
    python tests/bench/export_large.py --scaling       # cost per edge from 0.25 to 2 million nodes

A teacher of 3 GCN layers of width 128 writes features (float32), h1 … h3 and logits (fp16). The
rival holds everything in RAM, computes with `embedding_bag` and writes the same shards, without a
limit. Each run is a process of its own that starts with cold files. Leaves with 1 if a target is
missed: 1.25 × the rival within 1 GiB, 1.75 × within 512 MiB, cost per edge flat within 25 %.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cgroup

LAYERS, WIDTH, FEATURES, DEGREE = 3, 128, 128, 10
#: Limit in MiB, and the most time within it, over the rival's.
TARGETS = {1024: 1.25, 512: 1.75}


def main() -> int:
    """Make the graph, run everything, print a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2_000_000)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--rival", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rival:
        return rival(asked.folder)
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        os.environ["G2T_HOME"] = str(Path(name) / "home")
        if asked.scaling:
            return scaling(Path(name), asked.nodes)
        make(Path(name), asked.nodes)
        return table(Path(name), asked.nodes, asked.repeat)


def make(folder: Path, nodes: int) -> None:
    """Write graph and teacher, and open both once: what is verified is remembered."""
    from large_graph import make_graph, make_teacher

    from g2t.export.plan import ExportSettings, plan_export
    from g2t.graph.bundle import read_graph

    path = make_graph(folder / "graph", nodes, DEGREE, FEATURES)
    make_teacher(folder / "teacher", read_graph(path), "gcn", WIDTH, LAYERS)
    time.sleep(2.5)  # files as young as the clock is coarse are not remembered
    plan_export(folder / "teacher", path, ExportSettings())


def rival(folder: Path) -> int:
    """Compute the cache in RAM and write the same shards."""
    import torch
    from large_graph import in_ram

    from g2t.artifact import read_json
    from g2t.cache.format import GRAPH, LOGITS, SHARD_ROWS, layer_name
    from g2t.cache.writer import CacheWriter
    from g2t.graph.bundle import _assemble
    from g2t.tensors import load_tensors

    with torch.inference_mode():
        facts = read_json(folder / "graph" / "graph.json")
        graph = _assemble(facts, load_tensors(folder / "graph" / "graph.safetensors"))
        weights = load_tensors(folder / "teacher" / "model.safetensors")
        layers, logits = in_ram(weights, graph, LAYERS)
        out = folder / "rival"
        out.mkdir()
        writer = CacheWriter(out, graph.nodes, SHARD_ROWS)
        assert isinstance(graph.features, torch.Tensor)
        writer.write_file(
            GRAPH,
            {
                "ids": torch.arange(graph.nodes),
                "labels": graph.labels,
                "edges.start": graph.edges.start_N,
                "edges.column": graph.edges.column_E,
                "degrees": graph.edges.counts_N,
            },
        )
        for index in range(writer.shards):
            rows = slice(*writer.span(index))
            writer.write_rows("features", index, graph.features[rows], "fp32")
            writer.write_rows(LOGITS, index, logits[rows], "fp16")
            for layer, state in enumerate(layers, 1):
                writer.write_rows(layer_name(layer), index, state[rows], "fp16")
    return 0


def command(folder: Path, memory: str | None, precision: str = "fp16") -> list[str]:
    """Return the command line of an export into FOLDER/cache."""
    given = [] if memory is None else ["--memory", memory]
    return [
        *(sys.executable, "-m", "g2t_cli", "export-features", str(folder / "teacher")),
        *("--graph", str(folder / "graph"), "--out", str(folder / "cache")),
        *("--precision", precision, "--quiet", *given),
    ]


def timed(folder: Path, run: list[str], limit: int | None) -> tuple[int, float, int]:
    """Run a command on cold files; returns exit code, seconds, peak resident bytes."""
    for made in ("cache", "cache.partial", "rival"):
        shutil.rmtree(folder / made, ignore_errors=True)
    subprocess.run(["sync"], check=True)
    cgroup.evict(folder)
    ended = cgroup.run(run, limit)
    return ended.returncode, ended.seconds, ended.peak_bytes


def table(folder: Path, nodes: int, repeat: int) -> int:
    """Time rival and export without a limit and within each limit; returns the exit code."""
    own = [sys.executable, __file__, "--rival", "--folder", str(folder)]
    reason = cgroup.available()
    edges = nodes * DEGREE * LAYERS
    failed = False
    print(f"{nodes:,} nodes, {nodes * DEGREE:,} edges, {LAYERS} layers of width {WIDTH}")
    print("| run | limit | seconds | ÷ rival | peak RSS | M edges/s |")
    print("|---|---|---|---|---|---|")
    for _ in range(repeat):
        _, base, peak = timed(folder, own, None)
        show("in-RAM bag (rival)", None, base, base, peak, edges)
        for precision in ("fp16", "fp32"):
            _, seconds, peak = timed(folder, command(folder, None, precision), None)
            show(f"g2t, {precision}", None, seconds, base, peak, edges)
        if reason is not None:
            print(f"limits skipped: {reason}")
            return 0
        code, seconds, peak = timed(folder, own, 1 << 30)
        show(f"in-RAM bag, exit {code}", 1024, seconds, base, peak, edges)
        failed |= code != -9
        for limit, most in TARGETS.items():
            run = command(folder, f"{limit}MiB")
            code, seconds, peak = timed(folder, run, limit << 20)
            show(f"g2t, fp16, exit {code}", limit, seconds, base, peak, edges)
            failed |= code != 0 or seconds > most * base
    return int(failed)


def show(name: str, limit: int | None, seconds: float, base: float, peak: int, edges: int) -> None:
    """Print a row of the table."""
    within = "none" if limit is None else f"{limit} MiB"
    print(
        f"| {name} | {within} | {seconds:.1f} | {seconds / base:.2f} | {peak >> 20} MiB "
        f"| {edges / seconds / 1e6:.1f} |",
        flush=True,
    )


def scaling(folder: Path, most: int) -> int:
    """Print seconds per million edges from an eighth of the nodes up; start-up is taken off."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import g2t.export.run"], check=True)
    begin = time.perf_counter() - start
    print("| nodes | seconds | µs per edge and layer |")
    print("|---|---|---|")
    costs = []
    for nodes in (most // 8, most // 4, most // 2, most):
        place = folder / str(nodes)
        make(place, nodes)
        _, seconds, _ = timed(place, command(place, None), None)
        costs.append((seconds - begin) / (nodes * DEGREE * LAYERS) * 1e6)
        print(f"| {nodes:,} | {seconds:.1f} | {costs[-1]:.3f} |", flush=True)
        shutil.rmtree(place)
    spread = max(costs) / min(costs)
    print(f"largest over smallest cost: {spread:.2f}")
    return int(spread > 1.25)


if __name__ == "__main__":
    sys.exit(main())
