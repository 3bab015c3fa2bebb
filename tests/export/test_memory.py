"""`--memory`: the least that works is named and works, and what is written is always the same."""

import re
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, mmap
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from g2t.errors import UsageError
from g2t.export import memory, run, walk
from g2t.export.memory import OWN_SHARE, available, panels_held, resident
from g2t.units import format_size, parse_size
from g2t_cli.app import app
from tests.export.graphs import EVERYTHING, PLAIN, Taught, Teach, digests

BASE = 50_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tables of a small graph be what the budget is spent on."""
    monkeypatch.setattr(memory, "GRAIN", 64)
    monkeypatch.setattr(run, "resident", lambda: BASE)
    monkeypatch.setattr(walk, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(walk, "BLOCK_EDGES", 100)


def least_of(error: UsageError) -> int:
    match = re.fullmatch(r"the least that works is --memory (\w+)", error.hint)
    assert match is not None
    return parse_size(match[1])


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gcn": ("gcn", EVERYTHING, {}),
    "short": ("gcn", EVERYTHING, {"precision": "fp16"}),
    "many heads": ("gat", EVERYTHING, {}),
    "tokens": ("gcn", PLAIN, {"hops": 1, "precision": "fp16"}),
    "projected": ("sage", PLAIN, {"hops": 1, "project": "svd:19"}),
    "edge scores": ("gat", EVERYTHING, {"signals": ("layers", "edge_scores")}),
    "all": ("gat", EVERYTHING, {"signals": ("reliability", "edge_scores", "codes"), "hops": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_least_that_is_named_works_and_gives_the_same_bytes(
    teach: Teach, tmp_path: Path, small: None, case: str
) -> None:
    name, model, asked = CASES[case]
    taught = teach(name, **model)
    with pytest.raises(UsageError, match=r"--memory 1B is too small for this graph") as caught:
        taught.export(tmp_path / "c", memory=1, **asked)
    least = least_of(caught.value)
    with pytest.raises(UsageError) as caught:  # and it is not named for being on the safe side
        taught.export(tmp_path / "c", memory=least - 3 * memory.GRAIN, **asked)
    assert least_of(caught.value) == least
    assert list(tmp_path.iterdir()) == []
    found = digests(taught.export(tmp_path / "c", memory=least, shard_rows=131, **asked).artifact)
    much = taught.export(tmp_path / "much", memory=1 << 40, shard_rows=131, **asked)
    assert found == digests(much.artifact)
    free = taught.export(tmp_path / "free", shard_rows=131, **asked)
    assert found == digests(free.artifact)


@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_every_budget_above_it_gives_the_same_bytes(
    teach: Teach, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    taught, groups = teach(name, **EVERYTHING), []
    with pytest.raises(UsageError) as caught:
        taught.export(tmp_path / "c", memory=1)
    least = least_of(caught.value)
    budgets = [least, least + 20_000, 1_000_000]

    def counted(budget: int, panel: int, panels: int, other: int) -> int:
        held = panels_held(budget, panel, panels, other)
        groups.append(-(-panels // held))
        return held

    monkeypatch.setattr(walk, "panels_held", counted)
    found = [
        digests(taught.export(tmp_path / str(budget), memory=budget, shard_rows=131).artifact)
        for budget in budgets
    ]
    assert all(one == found[0] for one in found)
    assert min(groups) == 1
    assert max(groups) == (8 if name == "gat" else 2)


def test_a_budget_that_is_too_small_keeps_what_an_interrupted_export_wrote(
    teach: Teach, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = teach("gcn", **EVERYTHING)

    class Stop(Exception):
        pass

    def stop(*parts: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(walk, "_write_shard", stop)
        with pytest.raises(Stop):
            taught.export(tmp_path / "c")
    before = sorted((tmp_path / "c.partial").rglob("*"))
    with pytest.raises(UsageError, match="too small"):
        taught.export(tmp_path / "c", memory=1)
    assert sorted((tmp_path / "c.partial").rglob("*")) == before
    assert any(path.name.startswith("features-") for path in before)
    taught.export(tmp_path / "c")


def test_the_command_line_ends_with_2_and_names_a_size_that_it_takes(
    teach: Teach, tmp_path: Path
) -> None:
    taught = teach("gcn", **PLAIN)
    asked = ["export-features", taught.teacher, "--graph", taught.graph, "--out", tmp_path / "c"]
    words = [str(word) for word in asked]
    result = CliRunner().invoke(app, [*words, "--memory", "1MiB"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: --memory 1MiB is too small for this graph" in result.stderr
    match = re.search(r"hint: the least that works is --memory (\d+MiB)\n", result.stderr)
    assert match is not None
    assert list(tmp_path.iterdir()) == []
    result = CliRunner().invoke(app, [*words, "--memory", match[1]])
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'c'}\n")


@pytest.mark.parametrize("size", ["0", "-1", "lots", "1XB", ""])
def test_what_is_no_size_is_refused(taught_plain: Taught, tmp_path: Path, size: str) -> None:
    words = ["export-features", str(taught_plain.teacher), "--graph", str(taught_plain.graph)]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "c"), "--memory", size])
    assert (result.exit_code, result.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def taught_plain(teach: Teach) -> Taught:
    return teach("gcn", **PLAIN)


def test_panels_are_as_many_as_fit_and_at_least_one() -> None:
    other, panel = 600, 30
    for budget in range(841, 1400):
        held = panels_held(budget, panel, 10, other)
        assert 1 <= held <= 10
        assert other + held * panel <= budget * OWN_SHARE
        assert held == 10 or other + (held + 1) * panel > budget * OWN_SHARE
    with pytest.raises(UsageError):
        panels_held(839, panel, 10, other)


def test_a_size_that_is_named_fits_with_room_for_two_runs_to_differ() -> None:
    for held in (1, 10**6, 123_456_789, 10**10):
        with pytest.raises(UsageError) as caught:
            memory.check_budget(0, held)
        least = least_of(caught.value)
        memory.check_budget(least, held + int(OWN_SHARE * memory.GRAIN))
        assert least - held / OWN_SHARE <= 2 * memory.GRAIN
        assert parse_size(format_size(least)) == least


def test_what_this_process_holds_and_may_take_is_told() -> None:
    before = resident()
    with mmap(-1, 64 << 20, MAP_PRIVATE | MAP_ANONYMOUS) as held:
        assert resident() - before < 8 << 20  # asked for, and not yet taken
        for page in range(0, len(held), PAGESIZE):
            held[page] = 1
        assert 60 << 20 < resident() - before < 72 << 20
    assert 64 << 20 < available() < 1 << 45
