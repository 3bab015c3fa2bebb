"""One pass of a teacher over its graph, layer by layer, each from the shards of the one before."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from g2t.cache.format import StoredDtype, TensorEntry, layer_name
from g2t.cache.writer import CacheWriter
from g2t.export.generic import walk_network
from g2t.export.layer import Layer, layer_of, linear
from g2t.export.plan import ExportPlan
from g2t.export.source import FeatureSource, ShardSource, Source
from g2t.export.walk import Output, Work, check_range, walk
from g2t.teacher.frame import GNN


@dataclass(frozen=True)
class TeacherRun:
    """A teacher on clean features, or (`noisy`) on features with the plan's noise.

    `tag` begins the names of all that it leaves in the scratch folder.
    """

    work: Work
    plan: ExportPlan
    scratch: CacheWriter
    noisy: bool = False
    tag: str = ""

    def write(self, wanted: Sequence[tuple[CacheWriter, TensorEntry]]) -> None:
        """Write hidden layers and logits, by their names; what others need lies in the scratch."""
        source: Source = self._features()
        depth = int(self.plan.teacher.facts["model"]["layers"])
        prefix = self.tag + ("noisy-" if self.noisy else "")
        for layer in range(1, depth + 1):
            outputs = [self._output(*one) for one in wanted if _of(one[1].name, depth) == layer]
            later = any(_of(entry.name, depth) > layer for _, entry in wanted)
            kept = self._kept(outputs, layer)
            if later and kept is None:
                name = f"{prefix}copy-h{layer}"
                width = self.plan.shape.hidden
                kept = Output(self.scratch, name, width, self._state_dtype, of=self._checked)
                outputs.append(kept)
            if outputs:
                self._walk(layer - 1, source, outputs, f"{prefix}h{layer}")
            if not later:
                return
            assert kept is not None
            entry = TensorEntry(name=kept.name, width=kept.width, dtype=kept.dtype)
            source = ShardSource(kept.writer, entry)

    def _walk(self, index: int, source: Source, outputs: Sequence[Output], task: str) -> None:
        if self.layers is None:
            walk_network(self.work, self._network, index, source, outputs, task)
        else:
            walk(self.work, self.layers[index], source, outputs, task)

    @cached_property
    def layers(self) -> list[Layer] | None:
        """The layers that the teacher describes, None where it does not."""
        teacher = self.plan.teacher
        if teacher.description is None:
            return None
        return [layer_of(facts, teacher.weights) for facts in teacher.description.layers]

    @cached_property
    def _network(self) -> GNN:
        return self.plan.teacher.network()

    def _features(self) -> FeatureSource:
        teacher, settings = self.plan.teacher, self.plan.settings
        weights = teacher.weights
        before = (weights["pre.weight"], weights["pre.bias"]) if "pre.weight" in weights else None
        return FeatureSource(
            self.plan.graph,
            self.plan.nodes,
            teacher.facts["features"]["scaling"],
            before,
            noise=settings.noise if self.noisy else 0.0,
        )

    def _output(self, writer: CacheWriter, entry: TensorEntry) -> Output:
        of = self._head if entry.name.endswith("logits") else _same
        return Output(writer, entry.name, entry.width, entry.dtype, entry.topk, of)

    def _head(self, state_BD: Tensor) -> Tensor:
        """Return the logits of the last convolution's rows."""
        weights = self.plan.teacher.weights
        if "post.weight" not in weights:
            return state_BD
        return linear(state_BD, weights["post.weight"], weights["post.bias"])

    @property
    def _state_dtype(self) -> StoredDtype:
        """The type of what the next layer reads: exact where precision or cache are.

        It depends on settings alone, so what is added to a cache later has the same bytes.
        """
        return "fp32" if self.plan.settings.dtype == "fp32" else self.work.precision

    def _checked(self, state_BD: Tensor) -> Tensor:
        """Return a state; raises InputError where it does not fit the type that it is kept in."""
        if self._state_dtype == "fp16":
            check_range("state", state_BD.half(), state_BD)
        return state_BD

    def _kept(self, outputs: Sequence[Output], layer: int) -> Output | None:
        """Return the output that the next layer can be computed from."""
        return next(
            (
                output
                for output in outputs
                if output.name == layer_name(layer) and output.dtype == self._state_dtype
            ),
            None,
        )


def _same(state_BD: Tensor) -> Tensor:
    return state_BD


def _of(name: str, depth: int) -> int:
    """Return the convolution that a tensor comes from: 1 … depth."""
    return depth if name.endswith("logits") else int(name.rpartition("h")[2])
