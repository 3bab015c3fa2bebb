"""The parts that students are made of, by hand and by two routes."""

import pytest
import torch
from torch import Tensor

from g2t.graph.csr import from_scipy
from g2t.student import STUDENTS
from g2t.student.base import DENSE_DROPOUT, Student, input_dropout, predict
from g2t.student.block import Block, start_landmarks
from g2t.student.hop import Hop
from g2t.student.landmark import Landmark
from g2t.student.normalize import Kind, Normalize
from g2t.student.settled import Settled
from tests.contract.students import NODES, both_kinds, call, ready, settings_of, student_called


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
