"""What a cache must hold for some losses, and what is said where it does not."""

from pathlib import Path
from typing import Any

import pytest

from g2t.cache.format import CODES, EDGE_SCORES, LOGITS, RELIABILITY, SIGNALS, Signal
from g2t.config import look_up
from g2t.distill.losses import LOSSES
from g2t.distill.settings import PRESETS, distill_settings, signals_for, signals_of
from g2t.distill.train import distill, plan_student
from g2t.errors import UsageError
from g2t.export import ExportSettings, export
from g2t.export.add import add
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.teacher.train import teach

GRAPH = {"nodes": 60, "degree": 4.0, "classes": 3, "features": 8}
TEACH = {"split": "random:40/20/40:0", "model": {"hidden": 8}, "train": {"epochs": 2}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("needs")
    import_graph("synthetic:csbm", folder / "graph", GRAPH, None, Silent(), False)
    teach(folder / "graph", folder / "teacher", TEACH, device="cpu")
    return folder


def cache_of(home: Path, name: str, *signals: Signal) -> Path:
    made = export(home / "teacher", home / "graph", home / name, ExportSettings(signals=signals))
    assert made is not None
    return made.path


@pytest.fixture(scope="module")
def plain(home: Path) -> Path:
    return cache_of(home, "plain", "layers", "logits")


@pytest.fixture(scope="module")
def soft(home: Path) -> Path:
    return cache_of(home, "so ft", "logits")


@pytest.mark.parametrize(
    ("names", "signals"),
    [
        ([], set()),
        (["soft"], {"logits"}),
        (["hard"], set()),
        (["none"], set()),
        (["lsp"], {"edge_scores"}),
        (["codebook"], {"codes"}),
        (["cluster"], {"layers", "clusters"}),
        (["adversarial", "edge_high", "hardness_edge"], {"logits"}),
        (["hop_consistency"], set()),
        (["contrast"], {"layers"}),
        (["reliable_edge", "cka"], {"logits", "reliability", "layers"}),
        (["paper"], {"logits", "layers", "edge_scores"}),
        (["layers"], {"layers"}),
        (["soft", "edge_scores"], {"logits", "edge_scores"}),
        (SIGNALS, set(SIGNALS)),
    ],
)
def test_losses_presets_and_signals_ask_for_signals(names: list[str], signals: set[str]) -> None:
    assert signals_for(names) == signals


def test_all_losses_together_ask_for_every_signal_but_one_that_a_setting_asks_for() -> None:
    assert signals_for(list(LOSSES)) == set(SIGNALS) - {"pre_layers"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lps", "did you mean lsp?"), ("edge-scores", "did you mean edge_scores?"), ("", "choose")],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"no loss, preset or signal is called {name!r}") as caught:
        signals_for(["soft", name])
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("student", ["mlp", "landmark", "hop"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_student_with_landmarks_and_a_teacher_starts_at_its_layers(
    student: str, preset: str
) -> None:
    settings = distill_settings({"student": student, "preset": preset})
    start = {"layers"} if student != "mlp" and preset != "none" else set()
    assert signals_of(settings) == signals_for([preset]) | start


def test_a_loss_of_weight_zero_asks_for_nothing() -> None:
    values = {"student": "mlp", "preset": "paper", "loss": {"lsp": {"weight": 0}}}
    assert "edge_scores" not in signals_of(distill_settings(values))


def refusal(cache: Path, values: dict[str, Any]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        plan_student(cache, values)
    return caught.value


def test_a_cache_of_logits_trains_an_mlp_and_names_what_a_landmark_student_lacks(
    soft: Path, tmp_path: Path
) -> None:
    distill(soft, tmp_path / "s", {"student": "mlp", "train": {"epochs": 1}})
    for student in ("landmark", "hop"):
        error = refusal(soft, {"student": student})
        assert error.message == f"cache {soft} lacks layers (for the start of the landmarks)"
        add = f"g2t cache add '{soft}' --for layers --teacher TEACHER --graph GRAPH"
        assert error.hint == f"add it with: {add}"
    distill(soft, tmp_path / "n", {"preset": "none", "train": {"epochs": 1}})


def test_what_is_missing_is_named_with_who_asks_and_the_command_that_adds_it(plain: Path) -> None:
    losses: dict[str, Any] = {"lsp": {}, "codebook": {}}
    error = refusal(plain, {"student": "mlp", "loss": losses})
    assert error.code == 2
    assert error.message == f"cache {plain} lacks edge scores (for lsp) and codes (for codebook)"
    # Both follow from the layers, which are there, so no teacher is needed.
    assert error.hint == f"add it with: g2t cache add {plain} --for lsp,codebook"


def test_clusters_need_neither_the_teacher_nor_layers(plain: Path, soft: Path) -> None:
    error = refusal(plain, {"student": "mlp", "loss": {"cluster": {}}})
    assert error.message == f"cache {plain} lacks clusters (for cluster)"
    assert error.hint == f"add it with: g2t cache add {plain} --for cluster"
    error = refusal(soft, {"student": "mlp", "loss": {"cluster": {}}})
    assert error.hint.endswith("--for cluster --teacher TEACHER --graph GRAPH")  # for the layers


def test_reliability_needs_the_teacher(plain: Path) -> None:
    error = refusal(plain, {"student": "mlp", "loss": {"reliable_edge": {}, "lsp": {}}})
    assert "edge scores (for lsp) and reliability (for reliable_edge)" in error.message
    assert error.hint.endswith("--for lsp,reliable_edge --teacher TEACHER --graph GRAPH")


def test_edge_scores_need_the_teacher_where_there_are_no_layers(soft: Path) -> None:
    losses: dict[str, Any] = {"lsp": {}, "gram": {}, "cka": {}}
    error = refusal(soft, {"student": "landmark", "loss": losses})
    said = "layers (for gram, cka) and edge scores (for lsp)"
    assert error.message == f"cache {soft} lacks {said}"
    command = f"g2t cache add '{soft}' --for gram,cka,lsp --teacher TEACHER --graph GRAPH"
    assert error.hint == f"add it with: {command}"
    alone = refusal(soft, {"student": "mlp", "loss": {"lsp": {}}})
    assert alone.hint.endswith("--for lsp --teacher TEACHER --graph GRAPH")


PRE = {"align": {"activation": "pre"}}


def test_alignment_before_the_activation_asks_for_a_signal_by_its_own_name(
    home: Path, plain: Path, soft: Path
) -> None:
    error = refusal(plain, {"student": "mlp", "loss": PRE})
    assert error.message == f"cache {plain} lacks pre layers (for align)"
    teacher = "--teacher TEACHER --graph GRAPH"
    assert error.hint == f"add it with: g2t cache add {plain} --for pre_layers {teacher}"
    error = refusal(soft, {"student": "landmark", "loss": {**PRE, "gram": {}}})
    assert error.message == f"cache {soft} lacks layers (for gram) and pre layers (for align)"
    assert error.hint.endswith(f"--for gram,pre_layers {teacher}")
    grown = cache_of(home, "grown", "logits")
    signals = [signal for word in ("gram", "pre_layers") for signal in signals_for([word])]
    add(grown, signals, teacher=home / "teacher", graph=home / "graph")
    assert plan_student(grown, {"student": "landmark", "loss": {**PRE, "gram": {}}}).needs == {
        "logits",
        "layers",
        "pre_layers",
    }


def test_alignment_before_the_activation_reads_no_other_layers(home: Path, tmp_path: Path) -> None:
    cache = cache_of(home, "before", "pre_layers", "logits")
    values = {"student": "mlp", "loss": PRE, "train": {"epochs": 2}}
    made = distill(cache, tmp_path / "s", values)
    read = {"graph", "features", LOGITS, "teacher-p1"}
    assert set(made.inputs) == {f"cache/{name}" for name in read}
    assert made.config["loss"]["align"]["activation"] == "pre"


@pytest.mark.parametrize("name", LOSSES)
def test_the_signals_of_a_loss_are_all_that_it_needs(home: Path, name: str) -> None:
    signals = signals_for([name]) or {"logits"}
    cache = cache_of(home, f"for-{name}", *(s for s in SIGNALS if s in signals))
    kind = look_up(LOSSES, name, "loss")
    student = "hop" if kind.Settings().needs_hops else "mlp"
    plan = plan_student(cache, {"student": student, "preset": "none", "loss": {name: {}}})
    assert plan.needs == {"labels", *kind.needs}


def test_what_is_read_is_recorded_signal_by_signal(home: Path) -> None:
    cache = cache_of(home, "full", *SIGNALS)
    losses: dict[str, Any] = {"lsp": {}, "codebook": {}, "reliable_edge": {}}
    plan = plan_student(cache, {"student": "mlp", "preset": "none", "loss": losses})
    known = {"graph", "features", LOGITS, EDGE_SCORES, CODES, RELIABILITY}
    assert set(plan.inputs) == {f"cache/{name}" for name in known}


@pytest.mark.parametrize(
    "loss",
    [*({name: {}} for name in ("lsp", "codebook", "gram", "cluster", "align", "contrast")), PRE],
    ids=str,
)
def test_what_only_hidden_layers_give_is_refused_where_there_are_none(
    home: Path, tmp_path: Path, loss: dict[str, Any]
) -> None:
    flat = tmp_path / "teacher"
    teach(home / "graph", flat, {**TEACH, "model": {"layers": 1}}, device="cpu")
    cache = tmp_path / "cache"
    export(flat, home / "graph", cache, ExportSettings())
    error = refusal(cache, {"student": "mlp", "loss": loss})
    assert "need hidden layers of the teacher" in error.message
    plan_student(cache, {"student": "landmark"})  # its landmarks start at random
