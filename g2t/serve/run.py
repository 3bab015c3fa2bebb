"""`g2t predict`: from an input or a graph to answers, in order and in bounded memory."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from g2t.errors import UsageError
from g2t.runtime import Progress
from g2t.serve.batch import Batch, Faults
from g2t.serve.features import no_edges
from g2t.serve.inputs import Source, read_batches
from g2t.serve.nodes import EdgeTable, nodes_of_graph, nodes_with_edges
from g2t.serve.output import Writer
from g2t.serve.student import Prediction, ServedStudent

#: Seconds between two lines of progress: how many rows will come is not known.
INTERVAL = 5.0

Answered = tuple[Sequence[str], Prediction]


@dataclass(frozen=True)
class Asked:
    """What to answer for: the nodes of `source`, else those of `graph`, all or `ids`.

    `edges` join the nodes of the source to each other and to those of `graph`; `hops` is how many
    are used at most.
    """

    source: Source | None
    graph: Path | None = None
    ids: Sequence[str] | None = None
    edges: EdgeTable | None = None
    hops: int | None = None


def check_asked(asked: Asked, student: ServedStudent) -> None:
    """Raise UsageError where what is asked does not go together, or the student cannot do it."""
    if asked.source is None and asked.graph is None:
        raise UsageError("there is nothing to answer for", "name an INPUT, - for stdin, or --graph")
    if asked.source is None and asked.edges is not None:
        raise UsageError("--edges join the nodes of an INPUT", "name one, or leave --edges out")
    if asked.source is not None and asked.ids is not None:
        raise UsageError("--ids are nodes of --graph, not of an INPUT", "leave one of both out")
    if asked.source is not None and asked.graph is not None and asked.edges is None:
        raise UsageError("nothing joins INPUT and --graph", "add --edges FILE, or leave one out")
    bare = asked.source is not None and asked.edges is None
    if bare and (asked.hops or (asked.source and asked.source.columns.hops)):
        raise UsageError("without edges no hop is at hand", "add --edges FILE, or use --hops 0")
    if asked.edges is not None and not student.hops:
        raise UsageError(
            f"a {student.name} student reads no edges", "leave --edges and --graph out"
        )
    if asked.hops is not None and not 0 <= asked.hops <= student.hops:
        raise UsageError(
            f"--hops {asked.hops}: this {student.name} student reads 0 … {student.hops}",
            "choose one of these",
        )


def predict(
    student: ServedStudent, asked: Asked, writer: Writer, faults: Faults, progress: Progress
) -> int:
    """Answer for every node, in order, and return for how many.

    Memory does not grow with the rows of a CSV, Parquet, JSON Lines or `.npy` input without edges;
    with edges or a graph all features are held. Raises UsageError, InputError and IntegrityError
    as its parts do.
    """
    check_asked(asked, student)
    done, last = 0, time.monotonic()
    for ids, answer in _answers(student, asked, faults, progress):
        writer.write(ids, answer)
        done += len(ids)
        if time.monotonic() - last > INTERVAL:
            last = time.monotonic()
            progress.note(f"predict rows={done}")
    progress.note(f"predict rows={done} skipped={faults.count} done")
    return done


def _answers(
    student: ServedStudent, asked: Asked, faults: Faults, progress: Progress
) -> Iterable[Answered]:
    if asked.source is None:
        assert asked.graph is not None
        return nodes_of_graph(asked.graph, student, asked.ids, asked.hops).answers(student)
    batches = read_batches(asked.source, student, faults)
    if asked.edges is None:
        return _alone(student, batches)
    known = nodes_with_edges(batches, student, asked.edges, asked.graph, asked.hops, progress.note)
    return known.answers(student)


def _alone(student: ServedStudent, batches: Iterable[Batch]) -> Iterator[Answered]:
    """Answer for nodes of which no edge is known."""
    for batch in batches:
        edges, done = no_edges(len(batch)), 0
        for part in student.answers(batch.features, edges, student.hops_at(edges, None)):
            yield batch.ids[done : done + len(part)], part
            done += len(part)
