"""An export that was interrupted goes on with the first shard that is missing: none twice."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g2t.cache.check import open_cache
from g2t.cache.format import SIGNALS
from g2t.cache.reader import Cache
from g2t.cache.writer import CacheWriter, ShardStream
from g2t.export import ExportSettings, export, layer, signals, walk
from g2t.runtime import Silent
from g2t.teacher import TEACHERS
from tests.export.graphs import (
    EVERYTHING,
    ROWS,
    Taught,
    Teach,
    digests,
    odd_graph,
    store,
    write_teacher,
)
from tests.export.odd_teachers import ODD

ASKED: dict[str, Any] = {"dtype": "fp16", "shard_rows": 131, "hops": 2, "codes": 7, "noise": 0.5}
ASKED["signals"] = SIGNALS


class Interrupted(Exception):
    """What a scheduler's kill is to a process, as far as a test can tell."""


class Killer(Silent):
    """A progress that ends the process at the n-th step."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.tasks: list[str] = []

    def update(self, task: str, done: int, total: int, values: Any) -> None:
        assert 1 <= done <= total
        self.tasks.append(task)
        if len(self.tasks) == self.steps:
            raise Interrupted


class Ledger:
    """How often every shard of the cache, and of the scratch folder, was opened for writing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: Counter[str] = Counter()
        self.adopted: Counter[str] = Counter()
        adopt, begin = CacheWriter.adopt, ShardStream.__init__

        def counted(writer: CacheWriter, temporary: Path, file: str, error: float = 0.0) -> None:
            adopt(writer, temporary, file, error)
            self.adopted[file] += 1

        def opened(stream: ShardStream, writer: Any, name: str, index: int, *rest: Any) -> None:
            assert not writer.is_done(name, index), (name, index)
            self.begun[f"{name}-{index:05d}.safetensors"] += 1
            begin(stream, writer, name, index, *rest)

        monkeypatch.setattr(CacheWriter, "adopt", counted)
        monkeypatch.setattr(ShardStream, "__init__", opened)


@pytest.fixture(scope="module", autouse=True)
def many_panels() -> Iterator[None]:
    """Five panels to a layer of 40 columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "PANEL", 8)
        yield


@pytest.fixture(scope="module", params=["gcn", "gat"])
def taught(request: pytest.FixtureRequest, teach: Teach) -> Taught:
    return teach(request.param, "sparse", **{**EVERYTHING, "layers": 2})


@pytest.fixture(scope="module")
def whole(taught: Taught, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return taught.export(tmp_path_factory.mktemp("whole") / "c", **ASKED)


def run(taught: Taught, out: Path, progress: Silent) -> None:
    settings = ExportSettings.model_validate(ASKED)
    export(taught.teacher, taught.graph, out, settings, progress=progress)


@pytest.mark.parametrize("held", [[1], [1000], [1, 3, 2]], ids=str)
def test_no_finished_shard_is_opened_again_however_often_it_is_killed(
    taught: Taught, whole: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: list[int]
) -> None:
    """Nor if another budget is given every time."""
    ledger, kills = Ledger(monkeypatch), 0
    while not (tmp_path / "c").exists():
        most = held[kills % len(held)]
        monkeypatch.setattr(walk, "panels_held", lambda *sizes, most=most: min(most, sizes[2]))
        kills += 1
        assert kills < 50
        killer = Killer(steps=4 + kills)
        try:
            run(taught, tmp_path / "c", killer)
        except Interrupted:
            assert not (tmp_path / "c").exists()
    assert kills > 3
    assert set(ledger.adopted.values()) == {1}
    assert set(ledger.begun.values()) == {1}
    assert digests(open_cache(tmp_path / "c").artifact) == digests(whole.artifact)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_sums_of_a_panel_are_kept_as_well(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held one by one, panels take a pass over the edges each; none is taken twice."""
    monkeypatch.setattr(walk, "panels_held", lambda *sizes: 1)
    taught = teach("sage", **EVERYTHING)
    pooled: Counter[tuple[int, int]] = Counter()
    filled: Counter[int] = Counter()
    held_sums, fill = walk._held_sums, walk.fill

    def summed(work: Any, one: Any, tables: dict[layer.Panel, Any]) -> walk.Sums:
        sums = held_sums(work, one, tables)

        def counted(block: range) -> Iterator[tuple[layer.Panel, Any]]:
            pooled.update((panel.start, block.start) for panel in tables)
            return sums(block)

        return counted

    def made(work: Any, one: Any, source: Any, group: list[layer.Panel], see: bool) -> Any:
        filled.update(panel.start for panel in group)
        return fill(work, one, source, group, see)

    monkeypatch.setattr(walk, "_held_sums", summed)
    monkeypatch.setattr(walk, "fill", made)
    asked = ExportSettings(dtype="fp32", shard_rows=131)
    for steps in (7, 13, 24, 10**6):
        try:
            export(taught.teacher, taught.graph, tmp_path / "c", asked, progress=Killer(steps))
        except Interrupted:
            continue
    assert open_cache(tmp_path / "c").rows == ROWS
    assert len(pooled) == 5 * 3  # panels, shards of one block
    assert set(pooled.values()) == {3}  # layers
    assert sum(filled.values()) <= 5 * 3 + 3  # at most the panel in which each kill came again


@pytest.mark.parametrize("kill", [1, 4, 8])
def test_sums_of_edge_scores_are_kept_as_well(
    teach: Teach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: int
) -> None:
    monkeypatch.setattr(walk, "panels_held", lambda *sizes: 2)
    taught, add_up = teach("gcn", **EVERYTHING), signals._add_up
    added: list[tuple[int, ...]] = []
    asked = ExportSettings(dtype="fp32", shard_rows=131, signals=("layers", "edge_scores"))
    whole = export(taught.teacher, taught.graph, tmp_path / "whole", asked)

    def counted(work: Any, unit: Any, source: Any, tables: Any, shard: int) -> Any:
        added.append((shard, *sorted(panel.start for panel in tables)))
        return add_up(work, unit, source, tables, shard)

    class Late(Killer):
        def update(self, task: str, done: int, total: int, values: Any) -> None:
            if task == "edge scores":
                super().update(task, done, total, values)

    monkeypatch.setattr(signals, "_add_up", counted)
    with pytest.raises(Interrupted):
        export(taught.teacher, taught.graph, tmp_path / "c", asked, progress=Late(kill))
    assert len(list((tmp_path / "c.partial" / "scratch").glob("edge-sums-*"))) <= 3
    export(taught.teacher, taught.graph, tmp_path / "c", asked)
    groups = [(0, 8), (16, 24), (32,)]
    assert sorted(added) == sorted((shard, *group) for shard in range(3) for group in groups)
    assert whole is not None
    assert digests(open_cache(tmp_path / "c").artifact) == digests(whole)
    with pytest.raises(Interrupted):
        export(taught.teacher, taught.graph, tmp_path / "d", asked, progress=Late(kill))
    # Another budget cuts the columns elsewhere: those that are summed are left out of a group.
    monkeypatch.setattr(walk, "panels_held", lambda *sizes: 3)
    export(taught.teacher, taught.graph, tmp_path / "d", asked)
    assert digests(open_cache(tmp_path / "d").artifact) == digests(whole)


@pytest.mark.parametrize("name", ODD)
def test_the_generic_route_goes_on_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(TEACHERS, name, ODD[name])
    graph = store(odd_graph(), tmp_path / "g")
    taught = write_teacher(graph, tmp_path / "t", name, **EVERYTHING)
    wanted = digests(taught.export(tmp_path / "whole", **ASKED).artifact)
    ledger = Ledger(monkeypatch)
    for steps in (2, 4, 3, 10**6):
        try:
            run(taught, tmp_path / "c", Killer(steps))
        except Interrupted:
            continue
    assert set(ledger.adopted.values()) == {1}
    assert digests(open_cache(tmp_path / "c").artifact) == wanted


def test_progress_counts_up_to_its_total_in_every_task(taught: Taught, tmp_path: Path) -> None:
    ends: dict[str, tuple[int, int]] = {}

    class Heard(Silent):
        def update(self, task: str, done: int, total: int, values: Any) -> None:
            assert ends.get(task, (0, total)) == (done - 1, total)
            ends[task] = (done, total)

    run(taught, tmp_path / "c", Heard())
    assert all(done == total for done, total in ends.values())
    assert {"h1", "h2", "noisy-h1", "edge scores", "codes", "tokens-1"} <= set(ends)
