"""What every student of the table keeps, with dense and with sparse features."""

from typing import Any

import pytest
import torch
from torch import Tensor

from g2t.config import look_up
from g2t.graph.csr import Csr, Features, compact, from_pairs, from_scipy
from g2t.graph.structure import project_dense, propagation
from g2t.student import STUDENTS
from g2t.student.base import (
    DENSE_DROPOUT,
    Inputs,
    ModelSettings,
    Output,
    Student,
    input_dropout,
    predict,
)
from g2t.student.block import Block, start_landmarks
from g2t.student.hop import Hop
from g2t.student.landmark import Landmark
from g2t.student.normalize import Kind, Normalize
from g2t.student.settled import Settled

NODES, WIDTH, CLASSES = 23, 12, 3

every_student = pytest.mark.parametrize("name", STUDENTS)
both_kinds = pytest.mark.parametrize("kind", ["dense", "csr"])


def features_of(kind: str, nodes: int = NODES) -> Features:
    draw = torch.Generator().manual_seed(0)
    if kind == "dense":
        return torch.randn(nodes, WIDTH, generator=draw)
    words = (torch.rand(nodes, WIDTH, generator=draw) < 0.2).float()
    words *= torch.rand(nodes, WIDTH, generator=draw) + 0.5
    words[3] = 0
    features = compact(words)
    assert isinstance(features, Csr)
    return features


def edges_of(nodes: int = NODES) -> Csr:
    """Return a path 0 - 1 - … with a chord, so that nodes differ in degree."""
    one = torch.arange(nodes - 1)
    source, target = (
        torch.cat([one, one + 1, torch.tensor([5, 9])]),
        torch.cat([one + 1, one, torch.tensor([9, 5])]),
    )
    return from_pairs(source, target, nodes)


def no_edges(nodes: int = NODES) -> Csr:
    empty = torch.empty(0, dtype=torch.int64)
    return from_pairs(empty, empty, nodes)


def settings_of(name: str, **values: Any) -> ModelSettings:
    settings: ModelSettings = look_up(STUDENTS, name, "student").Settings.model_validate(
        {"hidden": 16, "input_dropout": 0.2} | values
    )
    return settings


def student_called(name: str, kind: str, **values: Any) -> Student:
    torch.manual_seed(0)
    found = look_up(STUDENTS, name, "student")
    student: Student = found(WIDTH, kind == "csr", CLASSES, settings_of(name, **values))
    student.fit(features_of(kind), edges_of(), None)
    return student.eval()


def ready(
    student: Student, kind: str, edges: Csr | None = None, tokens: Tensor | None = None
) -> Inputs:
    return student.prepare(features_of(kind), edges_of() if edges is None else edges, tokens)


def call(student: Student, inputs: Inputs, index_B: Tensor) -> Output:
    output: Output = student(student.embed(inputs, index_B))
    return output


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


def test_hop_dropout_draws_none_for_its_share_and_else_all_alike() -> None:
    index_B = torch.arange(20_000)
    for share in (0.0, 0.4, 1.0):
        student = student_called("hop", "dense", zero_hop=share)
        drawn_B = student.draw_hops(index_B)
        assert drawn_B is not None
        counts = drawn_B.bincount(minlength=4) / len(index_B)
        assert counts.tolist() == pytest.approx([share] + [(1 - share) / 3] * 3, abs=0.02)
    assert student_called("mlp", "dense").draw_hops(index_B) is None


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("none", [[3, 4], [0, 0]], [[3, 4], [0, 0]]),
        # Norms 5 and 10 and none: the mean of those that exist is 7.5.
        ("l2", [[3, 4], [0, 0], [6, 8]], [[4.5, 6], [0, 0], [4.5, 6]]),
        ("standard", [[1, 7], [3, 7]], [[-1, 0], [1, 0]]),
    ],
)
def test_normalisation_by_hand(
    kind: Kind, given: list[list[float]], expected: list[list[float]]
) -> None:
    rows = torch.tensor(given).float()
    normalize = Normalize(kind, (rows.shape[1],))
    normalize.fit(rows)
    result = normalize(rows)
    assert torch.allclose(result, torch.tensor(expected).float())
    if kind != "standard":
        import scipy.sparse as sp

        again = normalize(from_scipy(sp.csr_matrix(rows.numpy())))
        assert torch.allclose(again.dense(), result)


def test_normalisation_is_learned_once_and_kept_for_other_rows() -> None:
    normalize = Normalize("standard", (1,))
    normalize.fit(torch.tensor([[1.0], [3.0]]))
    assert normalize(torch.tensor([[5.0]])).item() == pytest.approx(3)
    assert set(normalize.state_dict()) == {"shift", "scale"}


def test_input_dropout_fits_the_kind_of_features_unless_chosen() -> None:
    import scipy.sparse as sp

    words = from_scipy(sp.random(50, 200, density=0.05, random_state=0))
    crowded = from_scipy(sp.random(50, 200, density=0.2, random_state=0))
    narrow, wide = torch.ones(4, 99), torch.ones(4, 100)
    rates = [input_dropout(None, 0.8, f) for f in (words, crowded, narrow, wide)]
    assert rates == [0.8, DENSE_DROPOUT, 0.0, DENSE_DROPOUT]
    assert [input_dropout(rate, 0.8, words) for rate in (0.0, 0.1)] == [0.0, 0.1]


def landmarks_of(student: Student) -> list[Tensor]:
    blocks = [block for block in student.blocks if isinstance(block, Block)]
    return [block.landmarks.detach().clone() for block in blocks]


@pytest.mark.parametrize(
    "name", [n for n in STUDENTS if "landmarks" in type(settings_of(n)).model_fields]
)
def test_landmarks_start_at_centres_turned_and_scaled(name: str) -> None:
    student = student_called(name, "dense", blocks=2, landmarks=8)
    before = landmarks_of(student)
    centres = [torch.randn(8, 9), torch.randn(5, 7)]
    start_landmarks(student.blocks, centres)
    for old, placed, wanted in zip(before, landmarks_of(student), centres, strict=True):
        count = len(wanted)
        ratio = torch.pdist(placed[:count]) / torch.pdist(wanted)
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
        assert torch.equal(placed[count:], old[count:])
        assert placed[:count].std().item() == pytest.approx(1, rel=1e-4)
        torch.testing.assert_close(placed[:count].mean(0), torch.zeros(16))


def test_hop_shares_one_projection_over_hops_of_sparse_features_only() -> None:
    assert [len(project_of(kind)) for kind in ("csr", "dense")] == [1, 4]


def project_of(kind: str) -> torch.nn.ModuleList:
    student = student_called("hop", kind)
    assert isinstance(student, Hop)
    return student.project


def test_attention_to_tokens_and_landmarks_is_that_of_one_sequence() -> None:
    """Two routes: torch's own attention over the tokens with a copy of the landmarks per node."""
    torch.manual_seed(0)
    block = Block(16, 4, 5, 0.0, own_tokens=True)
    tokens_BTD, known_BT = (
        torch.randn(6, 3, 16),
        torch.arange(3) <= torch.tensor([0, 1, 2])[:, None],
    )
    known_BT = known_BT.repeat(2, 1)
    global_MD = block.norm_landmarks(block.landmarks)
    for known in (None, known_BT):
        both = torch.cat([tokens_BTD, global_MD.expand(6, -1, -1)], 1)
        mask = None
        if known is not None:
            mask = torch.cat([known, torch.ones(6, 5, dtype=torch.bool)], 1)[:, None, None]
        wanted = torch.nn.functional.scaled_dot_product_attention(
            block._split(block.query(tokens_BTD)),
            block._split(block.key(both)),
            block._split(block.value(both)),
            attn_mask=mask,
        )
        found = block._attend_both(tokens_BTD, *block.landmark_pairs(), known)
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


@both_kinds
def test_a_settled_landmark_answers_as_the_student_does(kind: str) -> None:
    student = student_called("landmark", kind).eval()
    assert isinstance(student, Landmark)
    with torch.no_grad():
        for parameter in student.parameters():  # norms and biases that do something
            parameter.add_(0.3 * torch.randn_like(parameter))
    inputs = ready(student, kind)
    logits_BC, embedding_BD = Settled(student)(inputs.features)
    torch.testing.assert_close(logits_BC, predict(student, inputs), atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        wanted_BD = call(student, inputs, torch.arange(NODES)).blocks[-1]
    torch.testing.assert_close(embedding_BD, wanted_BD, atol=1e-4, rtol=1e-4)
