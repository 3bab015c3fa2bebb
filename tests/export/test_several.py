"""Several teachers in one cache: layers of the first, the mean of the probabilities of some."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from g2t.artifact import RECORD, write_json
from g2t.cache.check import open_cache
from g2t.cache.convert import ConvertSettings, convert
from g2t.cache.reader import Cache
from g2t.cache.writer import CacheWriter
from g2t.errors import IntegrityError, UsageError
from g2t.export import ExportSettings, export
from g2t.export.calibrate import fit
from g2t.runtime import Silent
from g2t.task import mean_logits
from tests.export.graphs import PLAIN, Taught, digests, odd_graph, store, write_teacher
from tests.export.several import ALL, EXACT, mean, of_logits, together
from tests.export.test_signals_made import entropy, noisy_logits


def test_logits_are_the_log_of_the_mean_probability(made: Cache, three: list[Taught]) -> None:
    found = made.logits()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), mean(three), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(len(found)))
    assert float((mean(three) - mean(three[:1])).abs().max()) > 0.1


def test_all_else_comes_from_the_first(made: Cache, three: list[Taught], tmp_path: Path) -> None:
    alone = three[0].export(tmp_path / "c", **EXACT, signals=ALL)
    found, wanted = digests(made.artifact), digests(alone.artifact)
    assert set(found) == set(wanted)
    other = {name for name in found if found[name] != wanted[name]}
    assert {name.rpartition("-")[0] for name in other - {"manifest.json"}} == {
        "teacher-logits",
        "teacher-reliability",
    }
    assert made.manifest.teacher == alone.manifest.teacher
    assert found["teacher-p1-00000.safetensors"] == wanted["teacher-p1-00000.safetensors"]


def test_the_manifest_names_all_with_their_parts(made: Cache, three: list[Taught]) -> None:
    assert made.manifest.teachers is not None
    said = [(member.name, member.roles) for member in made.manifest.teachers]
    assert said == [("gcn", ("layers", "logits")), ("gat", ("logits",)), ("sage", ("logits",))]
    digest = [json.loads((t.teacher / RECORD).read_text())["digest"] for t in three]
    assert [member.digest for member in made.manifest.teachers] == digest
    assert made.artifact.inputs["teacher"] == digest[0]
    assert made.artifact.inputs["teacher-3"] == digest[2]


def test_reliability_is_that_of_the_mean(made: Cache, three: list[Taught]) -> None:
    shares = [noisy_logits(one, 1.0).double().softmax(1) for one in three]
    moved = (entropy(mean(three)) - entropy(torch.stack(shares).mean(0).log())).abs()
    found = made.whole("teacher-reliability")[:, 0].double()
    torch.testing.assert_close(found, moved / moved.max(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("order", list(permutations((1, 2, 3)))[1:], ids=str)
def test_their_order_does_not_change_the_mean(
    made: Cache, three: list[Taught], tmp_path: Path, order: tuple[int, ...]
) -> None:
    cache = together(three, tmp_path / "c", *order)
    torch.testing.assert_close(cache.logits(), made.logits(), rtol=1e-5, atol=1e-6)
    first = three[order[0] - 1].trace
    torch.testing.assert_close(cache.layer(1), first.layers[0], rtol=1e-4, atol=1e-5)


def test_one_gives_the_layers_and_others_the_logits(three: list[Taught], tmp_path: Path) -> None:
    cache = together(three, tmp_path / "c", logits_from=(3, 2))
    wanted = mean(three[1:])
    torch.testing.assert_close(cache.logits().double(), wanted, rtol=1e-4, atol=1e-5)
    assert cache.manifest.speakers == (1, 2)
    assert cache.manifest.members[0].roles == ("layers",)
    assert cache.manifest.speaker_names == "gat + sage"
    torch.testing.assert_close(cache.layer(1), three[0].trace.layers[0], rtol=1e-4, atol=1e-5)


def test_logits_of_a_single_other_are_its_own_to_the_byte(
    three: list[Taught], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"dtype": "fp16", "topk": 2, "signals": ALL}
    cache = together(three, tmp_path / "c", 1, 2, logits_from=(2,), **asked)
    own = three[1].export(tmp_path / "own", **{**EXACT, **asked})
    assert of_logits(cache) == of_logits(own)
    for name in ("teacher-logits", "teacher-reliability"):
        assert cache.manifest.digest_of(name) == own.manifest.digest_of(name)
    assert cache.manifest.temperature == own.manifest.temperature


@pytest.mark.parametrize("asked", [{"dtype": "int8"}, {"dtype": "fp16", "topk": 2}], ids=str)
def test_other_types_round_the_same_mean(
    made: Cache, three: list[Taught], tmp_path: Path, asked: dict[str, Any]
) -> None:
    cache = together(three, tmp_path / "c", **asked)
    convert(made.artifact.path, tmp_path / "d", ConvertSettings.model_validate(asked))
    again = open_cache(tmp_path / "d")
    assert of_logits(cache) == of_logits(again)
    assert cache.manifest.temperature == made.manifest.temperature == again.manifest.temperature
    assert cache.manifest.teachers == again.manifest.teachers


def test_a_list_of_one_teacher_is_that_teacher(three: list[Taught], tmp_path: Path) -> None:
    one, asked = three[0], ExportSettings.model_validate({**EXACT, "signals": ALL})
    made = [
        export(teacher, one.graph, tmp_path / name, asked)
        for name, teacher in (("path", one.teacher), ("list", [one.teacher]))
    ]
    assert made[0] is not None
    assert made[1] is not None
    assert made[0].digest == made[1].digest
    assert made[0].inputs == made[1].inputs
    said = json.loads((tmp_path / "list" / "manifest.json").read_text())
    assert "teachers" not in said
    assert said["teacher"]["name"] == "gcn"


def test_the_temperature_is_that_of_the_exact_logits_on_validation_nodes(
    made: Cache, three: list[Taught]
) -> None:
    val = made.parts.val
    wanted, found = fit(mean(three)[val], made.labels[val]), made.manifest.temperature
    assert (wanted is None) == (found is None)
    torch.testing.assert_close(
        torch.tensor(flat(found)), torch.tensor(flat(wanted)), rtol=1e-3, atol=1e-5
    )


def flat(found: Any) -> list[float]:
    if found is None:
        return []
    pairs = (found.nll, found.calibration_error)
    return [found.value, found.nodes, *(x for p in pairs for x in (p.before, p.after))]


@pytest.mark.parametrize(
    ("order", "chosen", "said"),
    [
        ((1, 2), (3,), "names teacher 3, and there are 2"),
        ((1,), (2,), "names teacher 2, and there are 1"),
        ((1, 2, 3), (1, 2), "teacher 3 gives neither layers"),
        ((1, 2, 1), "all", "is given twice"),
    ],
)
def test_a_choice_that_cannot_be(
    three: list[Taught], tmp_path: Path, order: tuple[int, ...], chosen: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        together(three, tmp_path / "c", *order, logits_from=chosen)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("chosen", [(), (0, 1), (2, 2), (-1,)])
def test_positions_count_from_one_and_stand_once(chosen: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="each once"):
        ExportSettings(logits_from=chosen)


@pytest.mark.parametrize("what", ["split", "graph"])
def test_teachers_of_different_splits_or_graphs_are_refused(
    three: list[Taught], tmp_path: Path, what: str
) -> None:
    graph = three[0].graph
    if what == "graph":
        graph = store(odd_graph(nodes=330, kind="words"), tmp_path / "g")
    split = "cpf:0" if what == "split" else "public"
    foreign = write_teacher(graph, tmp_path / "t", "gcn", split=split, **PLAIN)
    said = f"teacher {foreign.teacher} " + ("has split cpf:0" if what == "split" else "learned")
    with pytest.raises(IntegrityError, match=said) as caught:
        export(
            [three[0].teacher, foreign.teacher], three[0].graph, tmp_path / "c", ExportSettings()
        )
    assert caught.value.code == 4
    assert not (tmp_path / "c").exists()


def test_no_teacher_is_a_usage_error(three: list[Taught], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no teacher"):
        export([], three[0].graph, tmp_path / "c", ExportSettings())


@pytest.mark.parametrize(("vals", "told"), [((0.8, 0.779, 0.81), [1]), ((0.8, 0.79, 0.81), [])])
def test_a_member_far_below_the_best_is_told_of(
    three: list[Taught], tmp_path: Path, vals: tuple[float, ...], told: list[int]
) -> None:
    """Three points below is too far, two are not; one that gives layers alone is not meant."""
    heard: list[str] = []

    class Heard(Silent):
        def note(self, text: str) -> None:
            heard.append(text)

    for one, val in zip(three, vals, strict=True):
        record = json.loads((one.teacher / RECORD).read_text())
        write_json(one.teacher / RECORD, {**record, "summary": {"val": val}})
    paths = [one.teacher for one in three]
    export(paths, three[0].graph, tmp_path / "c", ExportSettings(), progress=Heard())
    warned = [i for i, path in enumerate(paths) if any(f"teacher {path} " in t for t in heard)]
    assert warned == told
    heard.clear()
    paths = [paths[1], paths[0], paths[2]]
    asked = ExportSettings(logits_from=(2, 3))
    export(paths, three[0].graph, tmp_path / "d", asked, progress=Heard())
    assert not [text for text in heard if "WARNING" in text]


def test_the_mean_of_certain_members_is_finite() -> None:
    """Probabilities that underflow in float32: the log of their mean is that of the others."""
    sure, other = torch.tensor([[0.0, 500.0]]), torch.tensor([[0.0, 0.0]])
    found = mean_logits("multiclass", [sure, sure])
    torch.testing.assert_close(found, torch.tensor([[-500.0, 0.0]]))
    wanted = torch.tensor([[0.25, 0.75]]).log()
    torch.testing.assert_close(mean_logits("multiclass", [sure, other]), wanted)
    assert mean_logits("multiclass", [sure]) is sure


def test_the_mean_of_several_labels_is_that_of_each() -> None:
    """By hand: σ = 0.2, 0.6 give 0.4; a label that one denies with certainty stays finite."""
    members = [torch.tensor([[0.2, 0.5]]).logit(), torch.tensor([[0.6, 0.5]]).logit()]
    found = mean_logits("multilabel", members)
    torch.testing.assert_close(found.sigmoid(), torch.tensor([[0.4, 0.5]]))
    far = mean_logits("multilabel", [torch.tensor([[-500.0]]), torch.tensor([[0.0]])])
    torch.testing.assert_close(far.sigmoid(), torch.tensor([[0.25]]))


def test_rows_of_a_member_are_written_exactly_to_the_scratch_folder(
    three: list[Taught], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding comes after the mean, whatever the type of the cache."""
    seen: set[tuple[str, torch.dtype]] = set()
    adopt = CacheWriter.adopt

    def look(writer: CacheWriter, temporary: Path, file: str, error: float = 0.0) -> None:
        if "member-logits" in file:
            assert error == 0.0
            seen.add((file, torch.float32))
        adopt(writer, temporary, file, error)

    monkeypatch.setattr(CacheWriter, "adopt", look)
    together(three, tmp_path / "c", 1, 2, dtype="bf16", signals=("logits",))
    assert len(seen) == 6
