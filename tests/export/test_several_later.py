"""Caches of several teachers: interrupted, short of memory, added to, converted, compared."""

from pathlib import Path

import pytest
import torch

from g2t.cache.check import open_cache
from g2t.cache.convert import ConvertSettings, convert
from g2t.cache.reader import Cache
from g2t.errors import IntegrityError, UsageError
from g2t.export import ExportSettings, export, memory
from g2t.export.add import add
from g2t.export.deep import compare
from tests.export.graphs import PLAIN, Taught, digests, write_teacher
from tests.export.several import ALL, EXACT, together
from tests.export.test_memory import least_of
from tests.export.test_resume import Interrupted, Killer, Ledger


def test_any_interruption_ends_in_the_same_bytes(
    made: Cache, three: list[Taught], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, kills = Ledger(monkeypatch), 0
    asked = ExportSettings.model_validate({**EXACT, "signals": ALL})
    while not (tmp_path / "c").exists():
        kills += 1
        assert kills < 50
        try:
            paths = [one.teacher for one in three]
            export(paths, three[0].graph, tmp_path / "c", asked, progress=Killer(3 + kills))
        except Interrupted:
            assert not (tmp_path / "c").exists()
    assert kills > 3
    assert set(ledger.adopted.values()) == {1}
    assert digests(open_cache(tmp_path / "c").artifact) == digests(made.artifact)


def test_the_least_memory_that_is_named_works_and_changes_no_byte(
    made: Cache, three: list[Taught], tmp_path: Path
) -> None:
    asked = ExportSettings.model_validate({**EXACT, "signals": ALL})
    paths = [one.teacher for one in three]
    with pytest.raises(UsageError, match="too small for this graph") as caught:
        export(paths, three[0].graph, tmp_path / "c", asked, memory=memory.GRAIN)
    assert list(tmp_path.iterdir()) == []
    least = least_of(caught.value)
    cache = export(paths, three[0].graph, tmp_path / "c", asked, memory=least)
    assert cache is not None
    assert digests(cache) == digests(made.artifact)


def test_what_is_added_is_what_one_export_makes(
    made: Cache, three: list[Taught], tmp_path: Path
) -> None:
    first = together(three, tmp_path / "c", signals=("reliability",)).artifact
    for signals in (("logits", "pre_layers"), ("codes", "edge_scores", "clusters"), ("layers",)):
        grown = add(
            first.path, signals, teacher=[three[i].teacher for i in (2, 0, 1)], graph=three[0].graph
        )
    assert digests(grown) == digests(made.artifact)
    assert grown.config == made.artifact.config
    assert grown.inputs == made.artifact.inputs


def test_what_needs_no_teacher_is_added_without(
    made: Cache, three: list[Taught], tmp_path: Path
) -> None:
    cache = together(three, tmp_path / "c", logits_from=(2, 3))
    manifest = open_cache(add(cache.artifact.path, ("codes",)).path).manifest
    assert manifest.teachers == cache.manifest.teachers
    assert manifest.temperature == cache.manifest.temperature
    assert manifest.digest_of("teacher-codes") == made.manifest.digest_of("teacher-codes")


def test_a_converted_cache_still_knows_who_said_what(three: list[Taught], tmp_path: Path) -> None:
    cache = together(three, tmp_path / "c", logits_from=(2, 3))
    settings = ConvertSettings(dtype="fp16", topk=None)
    convert(cache.artifact.path, tmp_path / "d", settings)
    paths = [one.teacher for one in three]
    grown = add(tmp_path / "d", ("reliability",), teacher=paths, graph=three[0].graph)
    whole = together(three, tmp_path / "w", logits_from=(2, 3), signals=("reliability",))
    found = open_cache(grown.path).whole("teacher-reliability")
    torch.testing.assert_close(found, whole.whole("teacher-reliability"), rtol=0, atol=5e-3)


def test_deep_takes_them_in_any_order(made: Cache, three: list[Taught], tmp_path: Path) -> None:
    paths = [three[i].teacher for i in (1, 2, 0)]
    found = compare(made, paths, three[0].graph, 10**6, 0)
    assert set(found) == {"teacher-h1", "teacher-p1", "teacher-logits"}
    assert max(found.values()) < 1e-5
    mixed = together(three, tmp_path / "c", logits_from=(2, 3))
    assert max(compare(mixed, paths, three[0].graph, 10**6, 0).values()) < 1e-5


def test_a_missing_or_foreign_teacher_is_named(
    made: Cache, three: list[Taught], tmp_path: Path
) -> None:
    graph, digest = three[0].graph, made.manifest.members[1].digest
    with pytest.raises(
        IntegrityError, match=rf"3 teachers, and teacher 2 \({digest[:19]}"
    ) as caught:
        compare(made, [three[0].teacher, three[2].teacher], graph, 5, 0)
    assert caught.value.code == 4
    foreign = write_teacher(graph, tmp_path / "t", "gcn", seed=5, **PLAIN)
    paths = [one.teacher for one in (*three, foreign)]
    with pytest.raises(IntegrityError, match=f"not made from this teacher: {foreign.teacher}"):
        compare(made, paths, graph, 5, 0)
