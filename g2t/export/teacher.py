"""One pass of a teacher over its graph, step by step, each from the shards of the one before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from torch import Tensor

from g2t.cache.format import StoredDtype, TensorEntry, layer_name, pre_layer_name
from g2t.cache.writer import CacheWriter
from g2t.export.generic import Begun, walk_network, walk_rows
from g2t.export.layer import Layer, Weights, layer_of, linear, pair
from g2t.export.plan import ExportPlan
from g2t.export.source import FeatureSource, ShardSource, Source
from g2t.export.walk import Output, Work, check_range, walk
from g2t.teacher.description import Description, join
from g2t.teacher.frame import GNN


@dataclass(frozen=True)
class TeacherRun:
    """A teacher on clean features, or (`noisy`) on features with the plan's noise.

    A teacher that describes its layers is run from its tensors alone, any other by its network.
    `tag` begins the names of all that it leaves in the scratch folder.
    """

    work: Work
    plan: ExportPlan
    scratch: CacheWriter
    noisy: bool = False
    tag: str = ""

    def write(self, wanted: Sequence[tuple[CacheWriter, TensorEntry]]) -> None:
        """Write hidden layers, after and before their activation, and logits, by their names.

        What later steps need beside lies in the scratch.
        """
        steps = len(self._widths)
        last = steps + 1 if self._joins else steps
        first = source = self._begun()
        states: list[Source] = []
        for step in range(1, steps + 1):
            outputs = [self._output(*one, step) for one in wanted if _of(one[1].name, last) == step]
            later = any(_of(entry.name, last) > step for _, entry in wanted)
            kept = self._kept(outputs, step)
            if later and kept is None:
                kept = self._copy(step, self._widths[step - 1])
                outputs.append(kept)
            if outputs:
                self._walk(step - 1, source, first, outputs)
            if not later:
                return
            assert kept is not None
            source = _rows_of(kept)
            states.append(source)
        said = [self._output(*one, last) for one in wanted if _of(one[1].name, last) == last]
        self._join(states, said)

    def _walk(self, index: int, source: Source, first: Source, outputs: Sequence[Output]) -> None:
        task = f"{self._prefix}h{index + 1}"
        if self.layers is None:
            walk_network(self.work, self._network, index, source, first, outputs, task)
        else:
            walk(self.work, self.layers[index], source, outputs, task)

    def _join(self, states: Sequence[Source], outputs: Sequence[Output]) -> None:
        """Write the logits of a head that reads the states after all steps."""

        def joined(block: range) -> Tensor:
            return self._head([_dense(state, block) for state in states])

        walk_rows(self.work, states, outputs, joined, f"{self._prefix}logits")

    @cached_property
    def layers(self) -> list[Layer] | None:
        """The layers that the teacher describes, None where it does not."""
        if self._description is None:
            return None
        return [layer_of(facts, self._weights) for facts in self._description.layers]

    @property
    def _description(self) -> Description | None:
        return self.plan.teacher.description

    @cached_property
    def _network(self) -> GNN:
        return self.plan.teacher.network()

    @property
    def _widths(self) -> Sequence[int]:
        """The columns of the states after every step."""
        if self.layers is None:
            return self._network.widths
        return [layer.width for layer in self.layers]

    @property
    def _joins(self) -> bool:
        """Whether the logits come from all states."""
        if self._description is None:
            return self._network.joins
        return self._description.join != "none"

    @property
    def _prefix(self) -> str:
        return self.tag + ("noisy-" if self.noisy else "")

    def _begun(self) -> Source:
        """Return what the first step reads, written once where later steps read it too."""
        teacher, settings = self.plan.teacher, self.plan.settings
        features = FeatureSource(
            self.plan.graph,
            self.plan.nodes,
            teacher.facts["features"]["scaling"],
            noise=settings.noise if self.noisy else 0.0,
        )
        if self._description is not None:
            before = self._description.before
            return replace(features, before=None if before is None else pair(before, self._weights))
        begun = Begun(features, self._network)
        if not self._network.reads_first:
            return begun
        kept = self._copy(0, begun.read(0, 1).shape[1])
        rows = partial(_dense, begun)
        walk_rows(self.work, [begun], [kept], rows, f"{self._prefix}h0")
        return _rows_of(kept)

    def _output(self, writer: CacheWriter, entry: TensorEntry, step: int) -> Output:
        if entry.name == pre_layer_name(step):
            return Output(writer, entry.name, entry.width, entry.dtype)
        reads_last = entry.name.endswith("logits") and not self._joins
        of = partial(self._head_of_last if reads_last else self._activated, step)
        return Output(writer, entry.name, entry.width, entry.dtype, entry.topk, of)

    def _activated(self, step: int, state_BD: Tensor) -> Tensor:
        """Return the state after a step; the first state and joined logits stay as they are."""
        if not 1 <= step <= len(self._widths):
            return state_BD
        if self._description is None:
            return self._network.activate(step - 1, state_BD)
        return state_BD.relu() if self._description.layers[step - 1].relu else state_BD

    def _head_of_last(self, step: int, state_BD: Tensor) -> Tensor:
        return self._head([self._activated(step, state_BD)])

    def _head(self, states: Sequence[Tensor]) -> Tensor:
        """Return the logits of rows of the last state, or of all where the teacher joins them."""
        if self._description is None:
            return self._network.end(states)
        state_BD, after = join(self._description.join, states), self._description.after
        return state_BD if after is None else linear(state_BD, *pair(after, self._weights))

    @property
    def _weights(self) -> Weights:
        return self.plan.teacher.weights

    @property
    def _state_dtype(self) -> StoredDtype:
        """The type of what the next layer reads: exact where precision or cache are.

        It depends on settings alone, so what is added to a cache later has the same bytes.
        """
        return "fp32" if self.plan.settings.dtype == "fp32" else self.work.precision

    def _checked(self, step: int, state_BD: Tensor) -> Tensor:
        """Return a state; raises InputError where it does not fit the type that it is kept in."""
        state_BD = self._activated(step, state_BD)
        if self._state_dtype == "fp16":
            check_range("state", state_BD.half(), state_BD)
        return state_BD

    def _copy(self, step: int, width: int) -> Output:
        """Return a copy of a state for the scratch folder."""
        name = f"{self._prefix}copy-h{step}"
        return Output(self.scratch, name, width, self._state_dtype, of=partial(self._checked, step))

    def _kept(self, outputs: Sequence[Output], step: int) -> Output | None:
        """Return the output that the next step can be computed from."""
        return next(
            (
                output
                for output in outputs
                if output.name == layer_name(step) and output.dtype == self._state_dtype
            ),
            None,
        )


def _rows_of(output: Output) -> ShardSource:
    entry = TensorEntry(name=output.name, width=output.width, dtype=output.dtype)
    return ShardSource(output.writer, entry)


def _dense(source: Source, block: range) -> Tensor:
    """Return the rows of a source of dense ones."""
    rows = source.read(block.start, block.stop)
    assert isinstance(rows, Tensor)
    return rows


def _of(name: str, last: int) -> int:
    """Return the step that a tensor comes from: 1 … last."""
    return last if name.endswith("logits") else int(name.rpartition("-")[2][1:])
