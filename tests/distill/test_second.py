"""Who teaches what: a student that teaches too, and validation nodes that nobody teaches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from g2t.cache.check import open_cache
from g2t.cache.format import LOGITS
from g2t.cache.reader import Cache
from g2t.cache.stream import Drawn, Stream
from g2t.distill.losses.base import Batch
from g2t.distill.second import open_second, second_logits
from g2t.distill.settings import distill_settings, needs_by_loss
from g2t.distill.signals import Signals, open_signals
from g2t.distill.train import distill, plan_student
from g2t.errors import IntegrityError, UsageError
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.student.base import TrainSettings
from g2t.teacher.train import teach

GRAPH = {"nodes": 160, "degree": 6.0, "classes": 3, "features": 6, "noise": 1.5}
CPU = torch.device("cpu")


def cache_of(folder: Path, setting: str = "transductive", seed: int = 0) -> Path:
    graph = import_graph("synthetic:csbm", folder / "graph", GRAPH, None, Silent(), False).path
    teacher, out = folder / f"teacher-{setting}-{seed}", folder / f"cache-{setting}-{seed}"
    values = {"split": f"random:20/20/60:{seed}", "setting": setting}
    teach(graph, teacher, {**values, "train": {"epochs": 10}, "model": {"hidden": 16}})
    made = export(teacher, graph, out, ExportSettings(dtype="fp32", signals=("layers", "logits")))
    assert made is not None
    return made.path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("second")


@pytest.fixture(scope="module")
def cache_path(folder: Path) -> Path:
    return cache_of(folder)


@pytest.fixture(scope="module")
def hop(folder: Path, cache_path: Path) -> Path:
    return distill(cache_path, folder / "hop", quick("hop")).path


def quick(student: str, **values: Any) -> dict[str, Any]:
    return {"student": student, "train": {"epochs": 2}, **values}


def drawn(signals: Signals) -> list[tuple[torch.Tensor, int, Batch]]:
    return [(rows_B, own, batch) for own, rows_B, batch in signals.batches(32)]


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_batch_shows_the_mean_of_both_answers(cache_path: Path, hop: Path, share: float) -> None:
    cache = open_cache(cache_path)
    said_NC = second_logits(open_second(hop, cache), cache, CPU)
    needs = frozenset({"logits"})
    signals = open_signals(cache, needs, frozenset(), TrainSettings(), said_NC, share)
    mean_NC = (1 - share) * cache.logits().softmax(1) + share * said_NC.softmax(1)
    seen = 0
    for rows_B, own, batch in drawn(signals):
        torch.testing.assert_close(batch.logits_BC.softmax(1), mean_NC[rows_B])
        seen += own
    assert seen == cache.rows == signals.count


def test_the_answers_of_the_second_are_those_that_eval_scores(
    folder: Path, cache_path: Path, hop: Path
) -> None:
    cache = open_cache(cache_path)
    said_NC = second_logits(open_second(hop, cache), cache, CPU)
    val = cache.parts.val
    right = (said_NC.argmax(1)[val] == cache.labels[val]).float().mean().item()
    scored = evaluate(Sources(hop, folder / "graph", cache_path))["student"]["val"]
    assert right == pytest.approx(scored)


@pytest.mark.parametrize("project", [None, "svd:4", "random:4"])
def test_a_second_says_the_same_beside_a_cache_of_other_tokens(
    folder: Path, cache_path: Path, project: str | None
) -> None:
    """Tokens of another projection are as wide and say something else; it makes its own."""
    graph, teacher = folder / "graph", folder / "teacher-transductive-0"
    settings = ExportSettings(dtype="fp32", signals=("layers", "logits"), hops=3, project="svd:4")
    learned = export(teacher, graph, folder / f"learned-{project}", settings)
    settings = ExportSettings(dtype="fp32", signals=("layers", "logits"), hops=3, project=project)
    other = export(teacher, graph, folder / f"other-{project}", settings)
    assert learned is not None
    assert other is not None
    second = distill(learned.path, folder / f"second-{project}", quick("hop"))
    own, beside = open_cache(learned.path), open_cache(other.path)
    ours_NC = second_logits(open_second(second.path, own), own, CPU)
    said_NC = second_logits(open_second(second.path, beside), beside, CPU)
    torch.testing.assert_close(said_NC, ours_NC, atol=1e-4, rtol=1e-4)


def test_the_second_is_an_input_by_digest_and_changes_the_student(
    folder: Path, cache_path: Path, hop: Path
) -> None:
    alone = distill(cache_path, folder / "alone", quick("mlp"))
    taught = distill(cache_path, folder / "taught", quick("mlp"), second=hop)
    assert alone.digest != taught.digest
    again = distill(cache_path, folder / "again", quick("mlp", second="hop"), second=hop)
    assert again.digest == taught.digest
    plan = plan_student(cache_path, quick("mlp"), hop)
    assert plan.inputs["second"] == taught.inputs["second"] != ""
    assert "second" not in alone.inputs
    assert "second_share" not in plan_student(cache_path, quick("mlp")).asked
    evaluate(Sources(folder / "taught", folder / "graph", cache_path))


def test_a_second_that_is_missing_useless_or_of_another_split_is_refused(
    folder: Path, cache_path: Path, hop: Path
) -> None:
    with pytest.raises(UsageError, match="learns from the recipe's student hop too"):
        plan_student(cache_path, quick("landmark", second="hop"))
    with pytest.raises(UsageError, match="no loss reads what student"):
        plan_student(cache_path, quick("landmark", preset="none"), hop)
    other = cache_of(folder, seed=1)
    with pytest.raises(IntegrityError, match="learned from split"):
        plan_student(other, quick("landmark"), hop)


@pytest.mark.parametrize(
    "loss", [{"lsp": {"share": 0.1}}, {"edge_high": {}}, {"lsp": {}, "reliable_edge": {}}]
)
def test_a_second_beside_losses_that_look_at_neighbours(
    folder: Path, cache_path: Path, hop: Path, loss: dict[str, Any]
) -> None:
    """Whether they read the neighbours' logits or not: every row gets the mean of both answers."""
    cache = open_cache(cache_path)
    said_NC = second_logits(open_second(hop, cache), cache, CPU)
    losses = distill_settings({"loss": loss}).losses()
    needs = needs_by_loss(losses)
    edge_needs = frozenset[str]().union(*(n for n in needs.values() if "edges" in n))
    asked = frozenset[str]().union(*needs.values()) - {"edge_scores", "reliability"}
    signals = open_signals(cache, asked, edge_needs, TrainSettings(), said_NC, 0.5)
    mean_NC = (cache.logits().softmax(1) + said_NC.softmax(1)) / 2
    for rows_B, own, batch in drawn(signals):
        count = len(batch.logits_BC)
        assert count == (len(rows_B) if "logits" in edge_needs else own)
        torch.testing.assert_close(batch.logits_BC.softmax(1), mean_NC[rows_B[:count]])


def everything(cache: Cache, hold_out: bool | None) -> Signals:
    needs = frozenset({"logits", "edges"})
    return open_signals(cache, needs, needs, TrainSettings(hold_out_val=hold_out))


@pytest.mark.parametrize(
    ("setting", "hold_out", "shown"),
    [
        ("transductive", None, True),
        ("transductive", True, False),
        ("production", None, False),
        ("production", False, True),
    ],
)
def test_validation_rows_that_are_held_out_reach_no_loss(
    folder: Path, setting: str, hold_out: bool | None, shown: bool
) -> None:
    cache = open_cache(cache_of(folder, setting))
    signals = everything(cache, hold_out)
    val, own, near = set(cache.parts.val.tolist()), set(), set()
    for rows_B, count, batch in drawn(signals):
        own |= set(rows_B[:count].tolist())
        near |= set(rows_B[batch.source_P].tolist())
    assert len(own) == signals.count == cache.rows - (0 if shown else len(val))
    assert bool(own & val) == bool(near & val) == shown


def test_held_out_validation_logits_change_nothing(
    cache_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two routes: the same student, whatever the teacher says of validation nodes."""
    values = quick("landmark", train={"epochs": 2, "hold_out_val": True})
    plain = distill(cache_path, folder / "plain", values)
    val, epoch = open_cache(cache_path).parts.val, Stream.epoch

    def scrambled(self: Stream, size: int) -> Iterator[Drawn]:
        for rows_B, known in epoch(self, size):
            known[LOGITS][torch.isin(rows_B, val)] = 99.0
            yield rows_B, known

    monkeypatch.setattr(Stream, "epoch", scrambled)
    assert distill(cache_path, folder / "scrambled", values).digest == plain.digest
    shown = {**values, "train": {"epochs": 2}}
    assert distill(cache_path, folder / "shown", shown).digest != plain.digest
