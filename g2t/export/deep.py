"""A second route to what a cache says: some rows, from teacher and graph, through PyG's own code.

The export runs a description of the layers over column panels; here the network itself runs on the
rows' neighbourhoods. Two such different ways only agree if both are right and no row was mixed up.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from g2t.cache.format import GRAPH, LOGITS, TensorEntry, layer_name, pre_layer_name, tensors_of
from g2t.cache.reader import Cache
from g2t.cache.stream import take
from g2t.errors import IntegrityError, UsageError
from g2t.export.add import chosen_of, plan_again
from g2t.export.edges import Edges, looped_edges
from g2t.export.generic import gather, neighbourhood
from g2t.export.plan import ExportPlan, ExportSettings
from g2t.export.source import FeatureSource
from g2t.graph.csr import take_rows
from g2t.stored import open_stored
from g2t.task import mean_logits

#: How far a stored row may be from the teacher's, relative to the tensor's largest magnitude: the
#: error of an export whose messages were fp16, beside that of the type.
SLACK = 2e-3


@torch.inference_mode()
def compare(
    cache: Cache,
    teacher_paths: Path | Sequence[Path],
    graph_path: Path,
    sample: int,
    seed: int,
) -> dict[str, float]:
    """Return the largest relative error of all layers and of the logits over some random rows.

    Rows are drawn by the seed; every neighbourhood is taken whole, so a sample near hubs reads much
    of the graph. Raises IntegrityError where an error exceeds what the cache's type and its
    computation explain, UsageError where the cache holds nothing of the teacher.
    """
    manifest = cache.manifest
    settings = ExportSettings(logits_from=chosen_of(manifest))
    plan = plan_again(cache, teacher_paths, graph_path, settings)
    generator = torch.Generator().manual_seed(seed)
    rows_B = torch.randperm(cache.rows, generator=generator)[:sample].sort().values
    compared = ("layers", "pre_layers", "logits")
    names = {name for signal in compared for name in tensors_of(signal, manifest.teacher.layers)}
    entries = [entry for entry in manifest.tensors if entry.name in names]
    if not entries:
        raise UsageError(
            f"cache {cache.artifact.path} holds neither layers nor logits to compare",
            "add them with g2t cache add",
        )
    said = [_recompute(cache, plan.alone(i), rows_B) for i in range(len(plan.teachers))]
    found = {**said[0], LOGITS: mean_logits(plan.task, [said[i][LOGITS] for i in plan.speakers])}
    errors = {}
    for entry in entries:
        error = _error(cache, entry, rows_B, found[entry.name])
        errors[entry.name] = error
        rounding = 0 if entry.dtype == "int8" else 2 * entry.relative_error
        if error > SLACK + rounding:
            raise IntegrityError(
                f"{entry.name} of cache {cache.artifact.path} is not what its teacher says: rows "
                f"differ by {error:.2g} of its largest magnitude",
                "export it again with --force",
            )
    return errors


def _recompute(cache: Cache, plan: ExportPlan, rows_B: Tensor) -> dict[str, Tensor]:
    """Return every layer, after and before its activation, and the logits of some ascending rows.

    Layer l of the rows needs layer l - 1 of their in-neighbours, and so on down to the features:
    the sets of rows are found from the top, the states computed from the bottom.
    """
    network, scaling = plan.teacher.network(), plan.teacher.facts["features"]["scaling"]
    features = FeatureSource(plan.graph, plan.nodes, scaling)
    tensors = open_stored(cache.artifact.path / GRAPH)
    observed = Edges(tensors["edges.start"], tensors["edges.column"])
    with TemporaryDirectory() as folder:
        looped = looped_edges(observed, Path(folder))
        wanted_B, steps = rows_B, []
        for _ in network.widths:
            near, structure = neighbourhood(observed, looped, wanted_B)
            steps.append((wanted_B, near, structure))
            wanted_B = near
    first = state = network.begin(gather(features, wanted_B))
    begun_B, states = wanted_B, []
    found: dict[str, Tensor] = {}
    for index, (wanted_B, near, structure) in enumerate(reversed(steps)):
        begun = take_rows(first, torch.searchsorted(begun_B, near)) if network.reads_first else None
        raw = network.step(index, state, structure, begun)[torch.searchsorted(near, wanted_B)]
        state, own = network.activate(index, raw), torch.searchsorted(wanted_B, rows_B)
        states.append(state[own])
        found |= {layer_name(index + 1): state[own], pre_layer_name(index + 1): raw[own]}
    return {**found, LOGITS: network.end(states if network.joins else states[-1:])}


def _error(cache: Cache, entry: TensorEntry, rows_B: Tensor, wanted_BD: Tensor) -> float:
    """Return the largest error of some rows over their largest magnitude.

    Of top-k logits only the kept ones are compared: the others share what was left. The rounding of
    int8 is forgiven by its scales, since rows may be quiet beside the loudest of their shard.
    """
    found_BD = take(cache.open(entry.name), rows_B).float()
    off_BD = (found_BD - wanted_BD).abs()
    if entry.topk is not None:
        off_BD = off_BD.gather(1, found_BD.topk(entry.topk, 1).indices)
    if entry.dtype == "int8":
        scales = [tensors[f"{entry.name}.scale"].read() for _, tensors in cache.shards[entry.name]]
        shard_B = torch.div(rows_B, cache.manifest.shard_rows, rounding_mode="floor")
        off_BD = (off_BD - torch.stack(scales)[shard_B] / 2).clamp_(min=0)
    return float(off_BD.max() / wanted_BD.abs().max().clamp(min=1e-30))
