"""The body of an export: every tensor that was asked for; each finished shard is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from g2t.cache.format import (
    EDGE_SCORES,
    FEATURES,
    LOGITS,
    PROJECTION,
    RELIABILITY,
    TensorEntry,
    tensors_of,
    token_name,
)
from g2t.cache.writer import CacheWriter
from g2t.errors import UsageError
from g2t.export.calibrate import VALIDATION, ValidationRows
from g2t.export.communities import held_bytes, write_clusters
from g2t.export.layer import Layer
from g2t.export.memory import check_budget
from g2t.export.plan import ExportPlan, ExportSettings, Shape
from g2t.export.projection import make_projection
from g2t.export.several import Speech, Wanted
from g2t.export.share import wait_for
from g2t.export.signals import Unit, write_codes, write_edge_scores, write_reliability
from g2t.export.source import FeatureSource, ShardSource, Source
from g2t.export.walk import Output, Work, least_bytes, walk
from g2t.graph.csr import Csr
from g2t.graph.lazy import observed_rows
from g2t.tensors import load_tensors


@dataclass(frozen=True)
class Making:
    """A cache in the making: `entries` are its tensors to be, `plan` is None without a teacher.

    Tensors that only others are computed from go to the scratch folder. `calibrates`: its logits
    are new, so their temperature is to be found.
    """

    work: Work
    settings: ExportSettings
    entries: dict[str, TensorEntry]
    shape: Shape
    plan: ExportPlan | None
    calibrates: bool

    @cached_property
    def validation(self) -> ValidationRows:
        """The writer, and then the reader, of the exact logits of validation rows."""
        return ValidationRows(self.scratch, self.work.writer.folder)

    @property
    def calibration(self) -> list[TensorEntry]:
        """What the temperature is computed from: the entry of these logits, or nothing."""
        width = self.shape.classes
        entry = TensorEntry(name=VALIDATION, width=width, dtype="fp32")
        return [entry] if self.calibrates else []

    @cached_property
    def scratch(self) -> CacheWriter:
        """The writer of tensors that the cache will not hold."""
        writer = self.work.writer
        return CacheWriter(self.work.scratch, writer.rows, writer.shard_rows)

    @property
    def layers(self) -> list[TensorEntry]:
        """The entries of all hidden layers, whether the cache will hold them or not."""
        names = tensors_of("layers", self.shape.layers)
        made = [self.shape.layer_entry(name, self.settings) for name in names]
        return [self.entries.get(entry.name, entry) for entry in made]

    @property
    def walked(self) -> list[TensorEntry]:
        """The entries of what the pass over the graph leaves of hidden layers."""
        signals, layers = set(self.settings.signals), self.layers
        after = layers if {"layers", "codes"} & signals else []
        if "edge_scores" in signals and not after:
            after = layers[-1:]
        before = tensors_of("pre_layers", len(layers)) if "pre_layers" in signals else []
        return [*after, *(self.entries[name] for name in before)]

    @property
    def logits(self) -> TensorEntry:
        """The entry of the logits, whether the cache will hold them or not."""
        return self.entries.get(LOGITS, self.shape.logits_entry(self.settings))

    def home(self, name: str) -> CacheWriter:
        """Return the writer of a tensor."""
        if name == VALIDATION:
            return self.validation
        return self.work.writer if name in self.entries else self.scratch

    def source(self, entry: TensorEntry) -> ShardSource:
        """Return the rows of a tensor, as the cache stores them."""
        return ShardSource(self.home(entry.name), entry)

    def speech(self, what: str) -> Speech:
        """Return the teachers over their graph; raises UsageError, as `taught` does."""
        return Speech(self.work, self.taught(what), self.scratch)

    def lacks(self, names: Sequence[str]) -> bool:
        """Tell whether a shard of one of these tensors is still to be written, by anyone."""
        return any(
            not self.home(name).is_done(name, shard)
            for name in names
            for shard in range(self.work.writer.shards)
        )

    def left_of(self, entries: Sequence[TensorEntry]) -> list[Wanted]:
        """Return the tensors with their writers, nothing where all of them stand."""
        if not self.lacks([entry.name for entry in entries]):
            return []
        return [(self.home(entry.name), entry) for entry in entries]

    def taught(self, what: str) -> ExportPlan:
        """Return the plan; raises UsageError where there is no teacher to compute `what`."""
        if self.plan is None:
            raise UsageError(
                f"{what} can only be computed by the teacher", "add --teacher TEACHER --graph GRAPH"
            )
        return self.plan


def write_tensors(making: Making) -> None:
    """Write every tensor of a cache in the making, whatever of it does not stand yet."""
    signals = making.settings.signals
    if making.lacks([FEATURES]):
        _write_features(making)
    if making.settings.hops:
        _write_tokens(making)
    layers, wanted = making.layers, making.walked
    said = [making.logits, *making.calibration] if {"logits", "reliability"} & set(signals) else []
    derived = [s for s in signals if s not in ("layers", "pre_layers", "logits", "clusters")]
    asked = [name for signal in derived for name in tensors_of(signal, len(layers))]
    stay = {*making.entries, VALIDATION}
    kept = [entry.name for entry in (*wanted, *said) if entry.name in stay]
    left = [making.left_of(wanted), making.left_of(said)]
    if making.lacks(kept) or (making.lacks(asked) and any(left)):
        making.speech("layers and logits").write(*left)
    if "edge_scores" in signals:
        last = layers[-1]
        write_edge_scores(making.work, making.source(last), last.width, making.entries[EDGE_SCORES])
    if "reliability" in signals and making.lacks([RELIABILITY]):
        noisy = making.speech("reliability").noisy_logits()
        write_reliability(making.work, noisy.task, making.source(making.logits), noisy)
    if "codes" in signals:
        sources = [making.source(layer) for layer in layers]
        write_codes(making.work, sources, making.settings.codes)
    if "clusters" in signals:
        write_clusters(making.work)


def check_memory(making: Making) -> None:
    """Raise UsageError, naming the least budget that works, where a walk would not fit."""
    work, settings = making.work, making.settings
    held = []
    if making.plan is not None:
        runs = Speech(work, making.plan, making.scratch).runs()
        held += [least_bytes(work, layer) for run in runs for layer in run.layers or ()]
    if making.plan is not None and settings.hops:
        token = making.entries[token_name(1)]
        held.append(least_bytes(_exact(work, token), Layer(token.width)))
    if "edge_scores" in settings.signals:
        held.append(least_bytes(work, Unit(making.shape.hidden)))
    if making.plan is not None and "clusters" in settings.signals:
        edges = len(making.plan.graph.tensors["edges.column"])
        held.append(held_bytes(work, work.writer.rows, edges))
    check_budget(work.budget, max(held, default=0))


def _write_features(making: Making) -> None:
    """Copy the features as they are, dense ones in float32."""
    work, plan = making.work, making.taught("features")
    source = FeatureSource(plan.graph, plan.nodes)
    for shard in work.share.mine(work.writer.shards):
        if work.writer.is_done(FEATURES, shard):
            continue
        if plan.graph.sparse:
            rows = observed_rows(plan.graph, plan.nodes, *work.writer.span(shard))
            assert isinstance(rows, Csr)
            work.writer.write_sparse(FEATURES, shard, rows)
        else:
            _copy(work, source, making.entries[FEATURES], shard)


def _copy(work: Work, source: Source, entry: TensorEntry, shard: int) -> None:
    output = Output(work.writer, entry.name, entry.width, entry.dtype)
    with output.open(shard) as stream:
        for block in work.blocks(work.observed, source, entry.width, shard):
            rows = source.read(block.start, block.stop)
            assert isinstance(rows, Tensor)
            stream.append(rows)


def _write_tokens(making: Making) -> None:
    """Write the hop tokens, each from the one before, and the projection if there is one."""
    work, settings = making.work, making.settings
    names = [name for name in making.entries if name.startswith("tokens-")]
    if not making.lacks(names):
        return
    plan = making.taught("hop tokens")
    projection = None
    if settings.project is not None:
        path = work.writer.folder / PROJECTION
        if work.share.worker > 0:  # which may round differently
            wait_for([path], path.parent)
        elif not path.exists():
            made = make_projection(settings.project, plan.graph, plan.nodes)
            work.writer.write_file(PROJECTION, {"projection": made})
        projection = load_tensors(path)["projection"]
    source: Source = FeatureSource(plan.graph, plan.nodes, projection=projection)
    if projection is not None:
        for shard in work.share.mine(work.writer.shards):
            if not work.writer.is_done(token_name(0), shard):
                _copy(work, source, making.entries[token_name(0)], shard)
    for hop in range(1, settings.hops + 1):
        entry = making.entries[token_name(hop)]
        exact = _exact(work, entry)
        outputs = [Output(work.writer, entry.name, entry.width, entry.dtype)]
        kept = entry
        if entry.dtype != exact.precision:
            kept = entry.model_copy(update={"name": f"copy-{entry.name}", "dtype": exact.precision})
            outputs.append(Output(making.scratch, kept.name, kept.width, kept.dtype))
        walk(exact, Layer(entry.width), source, outputs, entry.name)
        source = making.source(kept)


def _exact(work: Work, entry: TensorEntry) -> Work:
    """Return the work of a token: exact where it is stored exactly."""
    return replace(work, precision="fp32") if entry.dtype == "fp32" else work
