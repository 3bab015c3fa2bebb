"""What a student remembers is chosen by validation nodes that it never saw, and kept with it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from g2t.cache.check import open_cache
from g2t.distill.choice import SHARES, best_memory, check_memory
from g2t.distill.settings import distill_settings, signals_of
from g2t.distill.train import distill, plan_student
from g2t.errors import UsageError
from g2t.graph.csr import Csr, from_scipy
from g2t.metrics import score
from g2t.network import FACTS, WEIGHTS
from g2t.pipeline import check_recipe
from g2t.recipe import read_recipe
from g2t.student.base import Inputs, Output, Student, answers, predict
from g2t.student.memory import Memory
from g2t.student.normalize import to_length
from g2t.student.store import read_student
from g2t.tensors import load_tensors
from tests.distill.small import TEACH, cache_of


class Said(Student):
    """A student without hops that says what it was told to say."""

    def __init__(self, said_NC: list[list[float]]) -> None:
        super().__init__()
        self.said_NC = nn.Parameter(torch.tensor(said_NC))

    def embed(self, inputs: Inputs, index_B: Tensor) -> Tensor:
        return index_B[:, None, None]

    def forward(self, tokens_BTD: Tensor, hops_B: Tensor | None = None) -> Output:
        return Output(self.said_NC[tokens_BTD[:, 0, 0]], ())


#: Rows 0 and 1 are shown; of the validation rows 2 is like 0 and 3 is like 1.
FEATURES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1], [0.1, 3.0]])


def chosen(
    told: list[list[float]], said: list[list[float]], several: bool = False, sparse: bool = False
) -> Memory | None:
    """Return the memory of a teacher that says `told` of all rows, and a student that says `said`.

    The validation rows are of classes 0 and 1, or have these labels alone.
    """
    none = [-1, -1] if several else -1
    cache: Any = SimpleNamespace(
        parts=SimpleNamespace(val=torch.tensor([2, 3])),
        labels=torch.tensor([none, none, *([[1, 0], [0, 1]] if several else [0, 1])]),
        manifest=SimpleNamespace(
            metric="f1" if several else "accuracy",
            task="multilabel" if several else "multiclass",
        ),
        rows=4,
        logits=lambda: torch.tensor(told),
    )
    rows = from_scipy(sp.csr_matrix(FEATURES.numpy())) if sparse else FEATURES
    return best_memory(Said(said), Inputs(rows), cache, nearest=1)


SURE, WRONG = [[9.0, -9.0], [-9.0, 9.0]], [[-9.0, 9.0], [9.0, -9.0]]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_share_is_chosen_by_what_is_right_on_validation(several: bool, sparse: bool) -> None:
    memory = chosen(SURE + WRONG, [*WRONG, [-0.2, 0.2], [0.2, -0.2]], several, sparse)
    assert memory is not None
    assert memory.share == max(SHARES)  # all that turn it are right, and this one the surest
    rows = memory.rows.dense() if isinstance(memory.rows, Csr) else memory.rows
    torch.testing.assert_close(rows, FEATURES[:2])  # of length 1 already
    assert torch.equal(memory.logits_MC, torch.tensor(SURE))


@pytest.mark.parametrize("several", [False, True])
def test_no_more_is_told_than_pays(several: bool) -> None:
    # Of node 2 the memory is right and the student wrong, of node 3 the other way round: from a
    # share of 0.3 on node 2 is right, up to 0.4 node 3 is.
    told = [[9.0, -9.0], [9.0, -9.0]]
    at = torch.tensor([[0.3, 0.7], [0.04, 0.96]])
    said = (at.log() - at.flip(1).log() if several else at.log()).tolist()
    memory = chosen(told + WRONG, WRONG + said, several)
    assert memory is not None
    assert memory.share in (0.3, 0.4)


@pytest.mark.parametrize("several", [False, True])
def test_nothing_is_kept_where_validation_is_no_better_for_it(several: bool) -> None:
    assert chosen(WRONG + SURE, WRONG + SURE, several) is None  # told what is wrong
    assert chosen([[0.0, 0.0]] * 2 + SURE, WRONG + [[0.0, 0.0]] * 2, several) is None  # nothing new


@pytest.fixture(scope="module")
def production(graph_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("production") / "cache"
    return cache_of(graph_path, out, {**TEACH, "setting": "production"}, ("layers", "logits"))


def asked(student: str, memory: int = 5, **train: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"student": student, "train": {"epochs": 3, **train}}
    return {**values, "model": {"memory": memory}} if memory else values


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever validation says, something is remembered."""
    monkeypatch.setattr("g2t.distill.choice.SHARES", (0.3,))


@pytest.mark.parametrize("student", ["landmark", "mlp", "hop"])
def test_what_is_kept_is_read_again_and_is_all_that_losses_see(
    student: str, production: Path, tmp_path: Path, remembering: None
) -> None:
    artifact = distill(production, tmp_path / "s", asked(student))
    cache, read = open_cache(production), read_student(artifact.path)
    model, memory = read.model, read.model.memory
    assert memory is not None
    facts = {"entries": None, "nearest": 5, "share": 0.3}
    shown = torch.ones(cache.rows, dtype=torch.bool)
    shown[cache.parts.val] = False
    assert read.facts["memory"] == {"rows": int(shown.sum()), **facts}
    assert artifact.record["summary"]["memory"] == read.facts["memory"]
    assert torch.equal(memory.logits_MC, cache.logits()[shown])
    inputs = model.prepare(cache.features(), cache.edges, None)
    rows = to_length(model.own(inputs, shown.nonzero().flatten()), 1.0)
    assert isinstance(memory.rows, Tensor)
    torch.testing.assert_close(memory.rows, rows)
    served = predict(model, inputs, 0)
    model.memory = None
    expected = memory(model.own(inputs, torch.arange(cache.rows)), predict(model, inputs, 0))
    torch.testing.assert_close(served, expected, atol=1e-5, rtol=0)


def test_no_other_weight_is_changed_by_it_and_none_is_kept_without(
    production: Path, tmp_path: Path, remembering: None
) -> None:
    paths = [
        distill(production, tmp_path / f"s{memory}", asked("mlp", memory)).path for memory in (0, 5)
    ]
    without, kept = (load_tensors(path / WEIGHTS) for path in paths)
    assert not [name for name in without if name.startswith("memory")]
    assert {name: t for name, t in kept.items() if name.startswith("memory")}
    for name, tensor in without.items():
        assert torch.equal(tensor, kept[name]), name
    facts = [json.loads((path / FACTS).read_text()) for path in paths]
    assert "memory" not in facts[0]
    assert "memory" not in json.loads((paths[0] / "run.json").read_text())["summary"]
    again = distill(production, tmp_path / "again", asked("mlp")).path
    assert (again / WEIGHTS).read_bytes() == (paths[1] / WEIGHTS).read_bytes()


def test_the_share_is_the_best_of_validation_or_none(production: Path, tmp_path: Path) -> None:
    cache = open_cache(production)
    val = cache.parts.val
    for student in ("mlp", "landmark"):
        path = distill(production, tmp_path / student, asked(student)).path
        read = read_student(path)
        inputs = read.model.prepare(cache.features(), cache.edges, None)
        kept, scores = read.model.memory, []
        assert (read.facts["memory"] is None) == (kept is None)
        for memory in (kept, None):
            read.model.memory = memory
            said = answers(read.model, inputs, val, (0,))[0]
            scores.append(score(cache.manifest.metric, said, cache.labels[val]))
        assert scores[0] >= scores[1]


def test_losses_that_see_validation_nodes_may_not_choose(cache_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.memory is decided on by validation") as caught:
        plan_student(cache_path, asked("mlp"))
    assert "train.hold_out_val=true" in caught.value.hint
    plan_student(cache_path, asked("mlp", hold_out_val=True))
    check_memory(distill_settings(asked("mlp")), "production")
    with pytest.raises(UsageError, match=r"model\.memory"):
        check_memory(distill_settings(asked("mlp", hold_out_val=False)), "production")


def test_a_recipe_is_refused_before_any_work() -> None:
    recipe: dict[str, Any] = {"source": "synthetic:csbm", "split": "random:20/20/60"}
    recipe |= {"students": {"mlp": {"model": {"memory": 3}}}}
    parsed = read_recipe({**recipe, "setting": "production"})
    assert check_recipe(parsed)["students"]["mlp"]["model"]["memory"] == 3
    with pytest.raises(UsageError, match=r"model\.memory"):
        check_recipe(read_recipe(recipe))


def test_it_needs_logits_whatever_the_losses_are(graph_path: Path, tmp_path: Path) -> None:
    values = {**asked("mlp", hold_out_val=True), "preset": "none"}
    assert signals_of(distill_settings(values)) == {"logits"}
    lacking = cache_of(graph_path, tmp_path / "c", TEACH, ("layers",))
    with pytest.raises(UsageError, match=r"lacks logits \(for model\.memory\)") as caught:
        plan_student(lacking, values)
    assert "--for logits --teacher TEACHER" in caught.value.hint
