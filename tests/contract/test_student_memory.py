"""What students remember: which nodes an answer asks, and whose answers are mixed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from g2t.graph.csr import Csr, compact
from g2t.student.base import predict
from g2t.student.memory import Memory, blank
from g2t.student.normalize import to_length
from g2t.task import mean_logits
from tests.contract.students import (
    CLASSES,
    NODES,
    WIDTH,
    both_kinds,
    every_student,
    features_of,
    ready,
    student_called,
)

#: Of length 1; the first has cosines 1, 0, 0.6 and 0.8 with them.
ROWS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]])
LOGITS = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]]).log()


def remembering(nearest: int = 2, share: float = 0.25, task: Any = "multiclass") -> Memory:
    return Memory(ROWS, LOGITS, nearest, share, task)


def remembered(kind: str, nearest: int = 3, nodes: int = 9) -> Memory:
    """Return a memory of some generated nodes, not those that are asked about."""
    draw = torch.Generator().manual_seed(1)
    words = torch.randn(nodes, WIDTH, generator=draw)
    words *= torch.rand(nodes, WIDTH, generator=draw) < 0.24
    rows = to_length(compact(words) if kind == "csr" else words, 1.0)
    assert isinstance(rows, Csr) == (kind == "csr")
    return Memory(rows, torch.randn(nodes, CLASSES, generator=draw), nearest, 0.4, "multiclass")


def test_an_answer_is_mixed_with_that_of_the_nearest_by_hand() -> None:
    # Nodes 0 and 3 are nearest, of weights e^10 : e^8.
    first = torch.tensor(2.0).exp() / (torch.tensor(2.0).exp() + 1)
    told = first * torch.tensor([0.9, 0.1]) + (1 - first) * torch.tensor([0.3, 0.7])
    said = torch.tensor([0.4, 0.6])
    answer = remembering()(torch.tensor([[5.0, 0.0]]), said.log()[None]).softmax(1)
    torch.testing.assert_close(answer[0], 0.75 * said + 0.25 * told)


def test_each_of_several_labels_is_mixed_by_itself() -> None:
    told = remembering(1, task="multilabel").told(torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(told[0], LOGITS[1])  # asked of one alone, what it says
    said = torch.tensor([[3.0, -1.0]])
    answer = remembering(1, task="multilabel")(torch.tensor([[0.0, 2.0]]), said).sigmoid()
    torch.testing.assert_close(answer, 0.75 * said.sigmoid() + 0.25 * LOGITS[1:2].sigmoid())


def test_sure_answers_stay_numbers() -> None:
    for task in ("multiclass", "multilabel"):
        memory = Memory(ROWS, torch.tensor([[200.0, -200.0]] * 4), 2, 0.5, task)
        answer = memory(ROWS, torch.tensor([[-200.0, 200.0]] * 4))
        chances = answer.softmax(1) if task == "multiclass" else answer.sigmoid()
        torch.testing.assert_close(chances, torch.full((4, 2), 0.5))


@pytest.mark.parametrize("nearest", [1, 2])
def test_all_that_tie_for_the_last_place_count(nearest: int) -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    memory = Memory(rows, LOGITS, nearest, 0.5, "multiclass")
    told = memory.told(torch.tensor([[1.0, 1e-7]])).softmax(1)
    torch.testing.assert_close(told[0], LOGITS.exp()[[0, 2, 3]].mean(0))


def test_more_than_there_are_asks_all_and_so_does_a_node_without_an_entry() -> None:
    everything = remembering(99).told(torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(everything, remembering(4).told(torch.tensor([[1.0, 0.0]])))
    alike_to_none = remembering(1).told(torch.zeros(1, 2)).softmax(1)
    torch.testing.assert_close(alike_to_none[0], LOGITS.exp().mean(0))


def test_sparse_rows_tell_what_dense_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, asked = remembered("csr"), features_of("csr")
    rows = memory.rows
    assert isinstance(rows, Csr)
    assert isinstance(asked, Csr)
    dense = Memory(rows.dense(), memory.logits_MC, memory.nearest, memory.share, "multiclass")
    expected = dense.told(asked.dense())
    torch.testing.assert_close(memory.told(asked), expected, atol=1e-5, rtol=0)
    monkeypatch.setattr("g2t.student.memory.CELLS", 1)  # one node at a time
    torch.testing.assert_close(memory.told(asked), expected, atol=1e-5, rtol=0)


@every_student
@both_kinds
@torch.inference_mode()
def test_a_student_asks_it_without_a_hop_and_never_with_one(name: str, kind: str) -> None:
    student, memory = student_called(name, kind), remembered(kind)
    inputs = ready(student, kind)
    without = [predict(student, inputs, hops) for hops in range(student.hops + 1)]
    told = memory.told(student.own(inputs, torch.arange(NODES)))
    expected = mean_logits("multiclass", (without[0], told), (0.6, 0.4))
    student.memory = memory
    answer = predict(student, inputs, 0)
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(answer, without[0], atol=1e-2)
    for hops in range(1, student.hops + 1):
        assert torch.equal(predict(student, inputs, hops), without[hops])
    assert torch.equal(predict(student, inputs), without[-1] if student.hops else answer)


@every_student
@both_kinds
def test_a_node_is_told_the_same_in_any_batch(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = student_called(name, kind)
    student.memory = remembered(kind)
    inputs = ready(student, kind)
    whole = predict(student, inputs, 0)
    for size in (1, 4, 10):
        monkeypatch.setattr("g2t.student.base.CHUNK", size)
        torch.testing.assert_close(predict(student, inputs, 0), whole, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_rows_of_a_batch_may_have_different_hops_at_hand() -> None:
    student = student_called("hop", "csr")
    student.votes, student.memory = True, remembered("csr")
    inputs, every = ready(student, "csr"), torch.arange(NODES)
    hops_N = every % 4
    said = student.answer(student.embed(inputs, every), hops_N).logits_BC
    mixed = student.recall(said, inputs, every, hops_N)
    for hops in range(4):
        expected = predict(student, inputs, hops)[hops_N == hops]
        torch.testing.assert_close(mixed[hops_N == hops], expected, atol=1e-5, rtol=0)


@every_student
def test_without_one_nothing_is_kept(name: str) -> None:
    student = student_called(name, "dense")
    assert student.memory is None
    assert not [key for key in student.state_dict() if key.startswith("memory")]


def loaded(change: dict[str, Tensor]) -> Memory:
    memory = remembered("csr")
    facts = memory.facts.model_dump()
    filled = blank(facts, {"kind": "csr", "width": WIDTH}, CLASSES, "multiclass")
    filled.load_state_dict({**memory.state_dict(), **change})
    return filled


def test_what_is_loaded_is_what_was_kept() -> None:
    ours, kept = loaded({}), remembered("csr")
    assert ours.facts == kept.facts
    asked = features_of("csr")
    assert torch.equal(ours.told(asked), kept.told(asked))


@pytest.mark.parametrize(
    ("name", "value"),
    [("start_M", -1), ("start_M", 2**30), ("column_E", -1), ("column_E", WIDTH)],
)
def test_rows_that_lead_elsewhere_are_refused(name: str, value: int) -> None:
    wrong = remembered("csr").get_buffer(name).clone()
    wrong[len(wrong) // 2] = value
    with pytest.raises(ValueError, match=f"no sparse rows of {WIDTH} columns"):
        loaded({name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 0}, {"nearest": 0}, {"share": 1.0}, {"share": float("nan")}, {"entries": -1}],
)
def test_facts_that_no_memory_has_are_refused(wrong: dict[str, Any]) -> None:
    facts = {**remembered("csr").facts.model_dump(), **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        blank(facts, {"kind": "csr", "width": WIDTH}, CLASSES, "multiclass")
