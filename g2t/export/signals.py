"""What losses ask beside layers and logits: edge scores, reliability, codes.

All are computed from tensors as the cache stores them, so a signal that is added later has the
bytes that it would have had from the beginning.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from torch import Tensor

from g2t.cache.format import CODES, DTYPES, EDGE_SCORES, RELIABILITY, TensorEntry
from g2t.cache.writer import temporary_of
from g2t.export.generic import gather
from g2t.export.layer import Layer, Panel
from g2t.export.projection import sampled_rows
from g2t.export.several import MeanLogits
from g2t.export.share import wait_for
from g2t.export.source import ShardSource, Source
from g2t.export.walk import Work, fill, panel_groups
from g2t.graph.csr import Features
from g2t.stored import Stored
from g2t.task import Task, entropy
from g2t.tensors import load_tensors, save_tensors

#: Edges whose ends are gathered at a time.
EDGES = 2**16


class Unit(Layer):
    """Rows of length 1 as messages: their products are cosines."""

    looped = False

    def message(self, rows: Features, panel: Panel, count_B: Tensor) -> Tensor:
        """Return x / |x|."""
        assert isinstance(rows, Tensor)
        return F.normalize(rows, dim=1)[:, panel.start : panel.stop]


def write_edge_scores(work: Work, source: Source, width: int, entry: TensorEntry) -> None:
    """Write cos(h_u, h_v) of every edge u -> v, in the order of the edges (LSP, Yang et al. 2020).

    A panel of columns adds its part to the running sum of every edge, which lies in the scratch
    folder between two groups of panels.
    """
    todo = _todo(work, EDGE_SCORES)
    if not todo:
        return
    source.wait()
    unit = Unit(width)
    groups = panel_groups(work, unit)
    for nth, group in enumerate(groups):
        columns = group[-1].stop
        behind = [shard for shard in todo if _summed(work, shard) < columns]
        tables = fill(work, unit, source, group, see=False) if behind else {}
        for done, shard in enumerate(todo, 1):
            if shard in behind:
                score_E = _add_up(work, unit, source, tables, shard)
                if columns < width:
                    _keep(work, shard, columns, score_E)
                else:
                    stored_E = score_E.clamp_(-1, 1).to(DTYPES[entry.dtype])
                    error = F.pad((stored_E.float() - score_E).abs(), (0, 1)).max().item()
                    work.writer.write(EDGE_SCORES, shard, {EDGE_SCORES: stored_E}, error)
            work.progress.update("edge scores", nth * len(todo) + done, len(groups) * len(todo), {})
        tables.clear()


def _sums_path(work: Work, shard: int, columns: int) -> Path:
    """Return where a shard's sums over the first columns lie."""
    return work.scratch / f"edge-sums-{columns:05d}-{shard:05d}"


def _summed(work: Work, shard: int) -> int:
    """Return over how many columns the sums of a shard go that lie in the scratch folder."""
    whole = 4 * _edges(work, shard)
    paths = work.scratch.glob(f"edge-sums-?????-{shard:05d}")
    return max((int(p.name.split("-")[2]) for p in paths if p.stat().st_size == whole), default=0)


def _keep(work: Work, shard: int, columns: int, score_E: Tensor) -> None:
    """Put a shard's sums in the place of those over fewer columns."""
    before, path = _summed(work, shard), _sums_path(work, shard, columns)
    temporary = temporary_of(path)
    temporary.write_bytes(score_E.numpy().tobytes())
    temporary.replace(path)
    _sums_path(work, shard, before).unlink(missing_ok=True)


def _edges(work: Work, shard: int) -> int:
    bounds = work.observed.starts(*work.writer.span(shard))
    return int(bounds[-1] - bounds[0])


def _add_up(
    work: Work, unit: Unit, source: Source, tables: dict[Panel, Tensor], shard: int
) -> Tensor:
    """Return a shard's running sums with the held panels added, float32 [E]."""
    edges, summed = _edges(work, shard), _summed(work, shard)
    score_E = torch.zeros(edges)
    if summed:
        score_E = Stored(_sums_path(work, shard, summed), torch.float32, (edges,), 0).read()
    fresh = [table for panel, table in tables.items() if panel.start >= summed]
    at = 0
    for block in work.blocks(work.observed, source, unit.width, shard):
        start_B, column_E = work.observed.block(block.start, block.stop)
        row_E = torch.repeat_interleave(start_B.diff()) + block.start
        for table in fresh:
            own_E = score_E[at : at + len(row_E)]
            for a in range(0, len(row_E), EDGES):
                ends = table[column_E[a : a + EDGES].long()], table[row_E[a : a + EDGES]]
                own_E[a : a + EDGES] += (ends[0].float() * ends[1].float()).sum(1)
        at += len(row_E)
    return score_E


def write_codes(work: Work, layers: Sequence[ShardSource], codes: int) -> None:
    """Write the k-means code of every row in every layer, int16 [N, L].

    Columns are standardised; centres come from up to 65,536 rows (k-means++, the same at every
    call), and there are fewer than asked where there are fewer rows.
    """
    todo = _todo(work, CODES)
    if not todo:
        return
    for layer in layers:
        layer.wait()
    known = _clusters(work, layers, codes)
    found = [
        (layer, known[f"mean-{i}"], known[f"spread-{i}"], known[f"centres-{i}"])
        for i, layer in enumerate(layers)
    ]
    for done, shard in enumerate(todo, 1):
        parts = [
            torch.stack(
                [
                    torch.cdist((layer.read(block.start, block.stop) - mean) / spread, centres)
                    .argmin(1)
                    .short()
                    for layer, mean, spread, centres in found
                ],
                1,
            )
            for block in _rows(work, shard)
        ]
        work.writer.write(CODES, shard, {CODES: torch.cat(parts)}, 0.0)
        work.progress.update("codes", done, len(todo), {})


def _clusters(work: Work, layers: Sequence[ShardSource], codes: int) -> dict[str, Tensor]:
    """Return mean, spread and centres of every layer, from the scratch folder.

    Only one worker finds them: on other hosts numbers round differently, and k-means runs apart.
    """
    path = work.scratch / "clusters"
    if work.share.worker > 0:
        wait_for([path], work.scratch)
    elif not path.exists():
        sample = sampled_rows(work.writer.rows)
        made: dict[str, Tensor] = {}
        for i, layer in enumerate(layers):
            rows = gather(layer, sample)
            assert isinstance(rows, Tensor)
            mean, spread = rows.mean(0), rows.std(0, correction=0).clamp(min=1e-6)
            centres = _centres((rows - mean) / spread, codes)
            made |= {f"mean-{i}": mean, f"spread-{i}": spread, f"centres-{i}": centres}
        temporary = temporary_of(path)
        save_tensors(temporary, made)
        temporary.replace(path)
    return load_tensors(path)


def _centres(rows: Tensor, codes: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty cluster keeps its start: a code that none has
        centres, _ = kmeans2(rows.numpy(), min(codes, len(rows)), minit="++", rng=0)
    return torch.from_numpy(centres)


def write_reliability(work: Work, task: Task, clean: ShardSource, noisy: MeanLogits) -> None:
    """Write KRD's ρ of every node (Wu et al. 2023): how far noise moves its entropy, in 0 … 1.

    ρ_v = |H(p_v) - H(p'_v)| / max_u |H(p_u) - H(p'_u)|, p and p' the teacher's probabilities with
    clean and with noisy features (entropies of several labels add up); 0 everywhere if noise moves
    nothing.
    """
    todo = _todo(work, RELIABILITY)
    if not todo:
        return
    clean.wait()
    noisy.wait()
    shards = range(work.writer.shards)
    most = max(float(_moved(work, task, clean, noisy, shard).max()) for shard in shards)
    for shard in todo:
        moved_B = _moved(work, task, clean, noisy, shard)
        rows = (moved_B / most if most > 0 else moved_B)[:, None]
        work.writer.write_rows(RELIABILITY, shard, rows, "fp32")


def _moved(work: Work, task: Task, clean: ShardSource, noisy: MeanLogits, shard: int) -> Tensor:
    parts = []
    for rows in _rows(work, shard):
        before, after = (
            entropy(task, source.read(rows.start, rows.stop)) for source in (clean, noisy)
        )
        parts.append(before - after)
    return torch.cat(parts).abs()


def _rows(work: Work, shard: int) -> Iterator[range]:
    start, stop = work.writer.span(shard)
    for at in range(start, stop, 4096):
        yield range(at, min(at + 4096, stop))


def _todo(work: Work, name: str) -> list[int]:
    """Return the shards of a tensor that this worker has yet to write."""
    shards = work.share.mine(work.writer.shards)
    return [shard for shard in shards if not work.writer.is_done(name, shard)]
