"""What one teacher or several say: the layers of the first, the mean of the logits of some."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from g2t.cache.format import TensorEntry
from g2t.cache.writer import CacheWriter
from g2t.export.plan import ExportPlan
from g2t.export.source import ShardSource
from g2t.export.teacher import TeacherRun
from g2t.export.walk import Output, Work, write_blocks
from g2t.task import Task, mean_logits

#: A tensor to be written, and by whom.
Wanted = tuple[CacheWriter, TensorEntry]


@dataclass(frozen=True)
class MeanLogits:
    """The log of the mean probabilities of some teachers, computed as it is read."""

    task: Task
    members: Sequence[ShardSource]

    @property
    def dense_width(self) -> int:
        """Columns of a row in memory: those of every member."""
        return sum(member.dense_width for member in self.members)

    def wait(self) -> None:
        """Wait for the shards of other workers."""
        for member in self.members:
            member.wait()

    def read(self, start: int, stop: int) -> Tensor:
        """Return the rows [start, stop), float32."""
        return mean_logits(self.task, [member.read(start, stop) for member in self.members])


@dataclass(frozen=True)
class Speech:
    """A plan's teachers over its graph; what only others are computed from lies in `scratch`."""

    work: Work
    plan: ExportPlan
    scratch: CacheWriter

    def write(self, layers: Sequence[Wanted], logits: Sequence[Wanted]) -> None:
        """Write layers and logits; one teacher's logits go where they belong at once.

        Several teachers' logits go to the scratch folder in float32 and are averaged from there,
        shard by shard.
        """
        speakers = self.plan.speakers if logits else ()
        for position in range(len(self.plan.teachers)):
            wanted = list(layers) if position == 0 else []
            if speakers == (position,):
                wanted += logits
            elif position in speakers:
                wanted.append((self.scratch, self._member(position)))
            if wanted:
                self._run(position).write(wanted)
        if len(speakers) > 1:
            self._average(logits)

    def noisy_logits(self) -> MeanLogits:
        """Write what the logits' teachers say of noisy features, and return its mean."""
        for position in self.plan.speakers:
            self._run(position, noisy=True).write([(self.scratch, self._member(position, True))])
        return self._mean(noisy=True)

    def runs(self) -> list[TeacherRun]:
        """Return the passes of all teachers."""
        return [self._run(position) for position in range(len(self.plan.teachers))]

    def _run(self, position: int, noisy: bool = False) -> TeacherRun:
        plan = self.plan.alone(position)
        return TeacherRun(self.work, plan, self.scratch, noisy, _tag(position))

    def _member(self, position: int, noisy: bool = False) -> TensorEntry:
        name = f"{_tag(position)}{'noisy' if noisy else 'member'}-logits"
        return TensorEntry(name=name, width=self.plan.shape.classes, dtype="fp32")

    def _mean(self, noisy: bool = False) -> MeanLogits:
        entries = [self._member(position, noisy) for position in self.plan.speakers]
        return MeanLogits(self.plan.task, [ShardSource(self.scratch, entry) for entry in entries])

    def _average(self, logits: Sequence[Wanted]) -> None:
        work, source = self.work, self._mean()
        outputs = [Output(writer, e.name, e.width, e.dtype, e.topk) for writer, e in logits]
        todo = work.todo(outputs)
        if todo:
            source.wait()
        for done, shard in enumerate(todo, 1):
            blocks = work.blocks(work.observed, source, source.dense_width, shard)
            write_blocks(outputs, shard, blocks, lambda block: source.read(block.start, block.stop))
            work.progress.update("mean logits", done, len(todo), {})


def _tag(position: int) -> str:
    """Return what names of a teacher in the scratch folder begin with; the first has none."""
    return f"teacher-{position + 1}-" if position else ""
