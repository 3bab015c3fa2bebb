"""What every student of the table keeps, with dense and with sparse features."""

import pytest
import torch

from g2t.graph.csr import Csr, Features, from_scipy
from g2t.graph.structure import project_dense, propagation
from g2t.student.base import Output, predict
from tests.contract.students import (
    CLASSES,
    NODES,
    both_kinds,
    call,
    edges_of,
    every_student,
    features_of,
    no_edges,
    ready,
    student_called,
)


@every_student
@both_kinds
@torch.inference_mode()
def test_a_node_gets_the_same_answer_in_any_batch(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = student_called(name, kind)
    inputs = ready(student, kind)
    whole = call(student, inputs, torch.arange(NODES))
    for size in (1, 4, 10):
        order_N = torch.randperm(NODES)
        for index_B in torch.split(order_N, size):
            part = call(student, inputs, index_B)
            torch.testing.assert_close(part.logits_BC, whole.logits_BC[index_B], atol=1e-5, rtol=0)
            for ours, theirs in zip(part.blocks, whole.blocks, strict=True):
                torch.testing.assert_close(ours, theirs[index_B], atol=1e-5, rtol=0)
        monkeypatch.setattr("g2t.student.base.CHUNK", size)
        torch.testing.assert_close(predict(student, inputs), whole.logits_BC, atol=1e-5, rtol=0)


@every_student
@both_kinds
@torch.inference_mode()
def test_a_student_that_votes_says_the_mean_over_all_fewer_hops(name: str, kind: str) -> None:
    student = student_called(name, kind)
    student.votes = True
    inputs = ready(student, kind)
    tokens_BTD = student.embed(inputs, torch.arange(NODES))
    scales = [student(tokens_BTD, torch.full((NODES,), k)).logits_BC for k in range(4)]
    for hops in range(4):
        expected = sum(scales[: hops + 1], torch.zeros(NODES, CLASSES)) / (hops + 1)
        torch.testing.assert_close(predict(student, inputs, hops), expected, atol=1e-6, rtol=0)
    if student.hops:
        assert not torch.allclose(scales[0], scales[3], atol=1e-3)


@every_student
@both_kinds
def test_shapes_and_one_embedding_per_block(name: str, kind: str) -> None:
    field = "layers" if name == "mlp" else "blocks"
    for count in (1, 3):
        student = student_called(name, kind, **{field: count})
        output = call(student, ready(student, kind), torch.tensor([4, 2, 2, 0]))
        assert output.logits_BC.shape == (4, CLASSES)
        assert [block.shape for block in output.blocks] == [(4, 16)] * count
        assert output.head(2).logits_BC.shape == (2, CLASSES)
        assert [block.shape for block in output.head(2).blocks] == [(2, 16)] * count


@every_student
@both_kinds
def test_evaluation_is_deterministic_and_training_is_not(name: str, kind: str) -> None:
    student = student_called(name, kind, input_dropout=0.5, dropout=0.5)
    inputs = ready(student, kind)
    assert torch.equal(predict(student, inputs), predict(student, inputs))
    student.train()
    every_N = torch.arange(NODES)
    first, second = (call(student, inputs, every_N).logits_BC for _ in range(2))
    assert not torch.equal(first, second)


@every_student
@both_kinds
def test_every_weight_takes_part_in_training(name: str, kind: str) -> None:
    student = student_called(name, kind).train()
    index_B = torch.arange(NODES)
    output: Output = student(
        student.embed(ready(student, kind), index_B), student.draw_hops(index_B)
    )
    torch.autograd.backward(output.logits_BC.square().sum())
    for weight, parameter in student.named_parameters():
        assert parameter.grad is not None, weight
        assert parameter.grad.isfinite().all(), weight
        # A softmax over keys does not see what all of them have in common.
        assert weight.endswith(("key.bias", "choose.bias")) or parameter.grad.abs().max() > 1e-7, (
            weight
        )


@every_student
@both_kinds
def test_an_edge_free_student_does_not_look_at_edges(name: str, kind: str) -> None:
    student = student_called(name, kind)
    with_edges, alone = (predict(student, ready(student, kind, e)) for e in (None, no_edges()))
    assert torch.equal(with_edges, alone) == (student.hops == 0)


@pytest.mark.parametrize("hops", [0, 1, 2])
@both_kinds
def test_hop_tokens_beyond_those_at_hand_do_not_matter(kind: str, hops: int) -> None:
    student = student_called("hop", kind, blocks=2)
    with torch.inference_mode():
        tokens_BTD = student.embed(ready(student, kind), torch.arange(NODES))
        other_BTD = tokens_BTD.clone()
        other_BTD[:, hops + 1 :] = 1e3 * torch.randn_like(other_BTD[:, hops + 1 :])
        hops_B = torch.full((NODES,), hops)
        ours, theirs = student(tokens_BTD, hops_B), student(other_BTD, hops_B)
        assert torch.equal(ours.logits_BC, theirs.logits_BC)
        assert not torch.allclose(student(tokens_BTD).logits_BC, student(other_BTD).logits_BC)


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
@both_kinds
def test_hop_sees_exactly_as_far_as_its_hops(kind: str, hops: int) -> None:
    student = student_called("hop", kind)
    features = features_of(kind)
    dense = features.dense() if isinstance(features, Csr) else features.clone()
    for far in range(1, 4):
        dense_changed = dense.clone()
        dense_changed[far] += 1  # node `far` of the path is that many hops from node 0
        changed: Features = dense_changed
        if kind == "csr":
            import scipy.sparse as sp

            changed = from_scipy(sp.csr_matrix(dense_changed.numpy()))
        inputs = student.prepare(changed, edges_of(), None)
        before = predict(student, ready(student, kind), hops)[0]
        after = predict(student, inputs, hops)[0]
        assert torch.allclose(before, after, atol=1e-7) == (far > hops)


@both_kinds
def test_no_hop_at_hand_equals_no_edge_at_all_and_none_means_all_hops(kind: str) -> None:
    student = student_called("hop", kind)
    inputs, alone = ready(student, kind), ready(student, kind, no_edges())
    torch.testing.assert_close(predict(student, inputs, 0), predict(student, alone, 0))
    torch.testing.assert_close(predict(student, inputs), predict(student, inputs, student.hops))
    assert not torch.allclose(predict(student, inputs, 0), predict(student, inputs, 3))


@both_kinds
def test_stored_tokens_and_tokens_made_from_edges_give_the_same_logits(kind: str) -> None:
    student = student_called("hop", kind)
    features = features_of(kind)
    tokens = project_dense(features, propagation(edges_of()), student.hops)
    stored = ready(student, kind, no_edges(), tokens)
    for hops in (None, 0, 1, 2, 3):
        expected = predict(student, ready(student, kind), hops)
        torch.testing.assert_close(predict(student, stored, hops), expected, atol=1e-5, rtol=0)
    other = student_called("hop", kind)
    other.fit(features, no_edges(), tokens)
    for ours, theirs in zip(student.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("votes", [False, True])
def test_rows_of_a_batch_may_have_different_hops_at_hand(votes: bool) -> None:
    student = student_called("hop", "dense")
    student.votes = votes
    inputs = ready(student, "dense")
    hops_B = torch.arange(NODES) % 4
    with torch.inference_mode():
        mixed = student.answer(student.embed(inputs, torch.arange(NODES)), hops_B).logits_BC
    for hops in range(4):
        expected = predict(student, inputs, hops)[hops_B == hops]
        torch.testing.assert_close(mixed[hops_B == hops], expected, atol=1e-5, rtol=0)
