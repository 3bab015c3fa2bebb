"""What `hop` keeps with more kinds of tokens: high-pass ones, and single neighbours'."""

from typing import Any

import pytest
import torch
from torch import Tensor

from g2t.config import look_up
from g2t.distill.settings import distill_settings
from g2t.errors import UsageError
from g2t.graph.csr import Csr, Features, compact, from_pairs
from g2t.graph.structure import project_dense, propagation
from g2t.student import STUDENTS
from g2t.student.base import Inputs, predict
from g2t.student.hop import Hop

NODES, WIDTH, CLASSES, WORDS = 40, 6, 3, 40

HIGH = {"high_pass": True}
NEAR = {"neighbours": 3, "neighbour_hops": 1}

every_kind = pytest.mark.parametrize("chosen", [HIGH, NEAR, {**HIGH, **NEAR, "neighbour_hops": 2}])
both_kinds = pytest.mark.parametrize("kind", ["dense", "csr"])


def edges_of() -> Csr:
    """Return a random graph: some nodes have no neighbour, some more than three."""
    draw = torch.Generator().manual_seed(1)
    ends = torch.randint(0, NODES - 2, (2, 45), generator=draw)
    return from_pairs(torch.cat([ends[0], ends[1]]), torch.cat([ends[1], ends[0]]), NODES)


def features_of(kind: str) -> Features:
    draw = torch.Generator().manual_seed(0)
    if kind == "dense":
        return torch.randn(NODES, WIDTH, generator=draw)
    words = (torch.rand(NODES, WORDS, generator=draw) < 0.1).float()
    words[:, 0] = 1
    features = compact(words)
    assert isinstance(features, Csr)
    return features


def student_with(kind: str, chosen: dict[str, Any], **values: Any) -> Hop:
    torch.manual_seed(0)
    found = look_up(STUDENTS, "hop", "student")
    settings = found.Settings.model_validate({"hidden": 16, "blocks": 2} | chosen | values)
    features = features_of(kind)
    student = found(features.shape[1], kind == "csr", CLASSES, settings)
    assert isinstance(student, Hop)
    student.fit(features, edges_of(), None)
    return student.eval()


def ready(student: Hop, kind: str, tokens: Tensor | None = None) -> Inputs:
    return student.prepare(features_of(kind), edges_of(), tokens)


@every_kind
@both_kinds
@torch.inference_mode()
def test_a_node_gets_the_same_answer_in_any_batch(
    kind: str, chosen: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = student_with(kind, chosen)
    inputs = ready(student, kind)
    for hops in (None, 1):
        whole = predict(student, inputs, hops)
        for size in (1, 7):
            monkeypatch.setattr("g2t.student.base.CHUNK", size)
            torch.testing.assert_close(predict(student, inputs, hops), whole, atol=1e-5, rtol=0)


@every_kind
@both_kinds
def test_tokens_of_hops_come_first_and_every_weight_takes_part(
    kind: str, chosen: dict[str, Any]
) -> None:
    student, plain = student_with(kind, chosen), student_with(kind, {})
    index_B = torch.arange(NODES)
    with torch.no_grad():
        plain.place.copy_(student.place[:4])
        for mine, theirs in zip(plain.project, student.project, strict=False):
            mine.load_state_dict(theirs.state_dict())
    ours = student.embed(ready(student, kind), index_B)
    torch.testing.assert_close(ours[:, :4], plain.embed(ready(plain, kind), index_B))
    output = student.train()(student.embed(ready(student, kind), index_B))
    tokens = 4 + 3 * ("high_pass" in chosen) + 3 * ("neighbours" in chosen)
    assert [tuple(state.shape) for state in output.states] == [(NODES, tokens, 16)] * 2
    torch.autograd.backward(output.logits_BC.square().sum())
    for weight, parameter in student.named_parameters():
        assert parameter.grad is not None, weight
        # A softmax does not see what shifts all of its scores.
        assert bool(parameter.grad.any()) or weight.endswith(("key.bias", "choose.bias")), weight


def distances() -> Tensor:
    """Return the length of the shortest path between all nodes, by powers of the adjacency."""
    near = (edges_of().dense() + torch.eye(NODES) > 0).float()
    far, reached = torch.full((NODES, NODES), 99), torch.eye(NODES)
    for length in range(8):
        far = torch.where((reached > 0) & (far == 99), length, far)
        reached = reached @ near
    return far


@every_kind
@both_kinds
@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_hop_sees_exactly_as_far_as_its_hops(kind: str, chosen: dict[str, Any], hops: int) -> None:
    student, far_NN = student_with(kind, chosen), distances()
    features = features_of(kind)
    dense = features.dense() if isinstance(features, Csr) else features
    before = predict(student, ready(student, kind), hops)
    for source in range(0, NODES, 5):
        changed = dense.clone()
        changed[source] = 1 - changed[source]
        given = compact(changed) if kind == "csr" else changed
        after = predict(student, student.prepare(given, edges_of(), None), hops)
        moved_N = (after - before).abs().amax(1)
        within_N = far_NN[:, source] <= hops
        assert bool((moved_N[within_N] > 1e-6).all())
        assert torch.equal(after[~within_N], before[~within_N])


@every_kind
@both_kinds
def test_stored_tokens_and_tokens_made_from_edges_give_the_same_logits(
    kind: str, chosen: dict[str, Any]
) -> None:
    student = student_with(kind, chosen)
    tokens = project_dense(features_of(kind), propagation(edges_of()), student.hops)
    for hops in (None, 0, 1, 2, 3):
        found = predict(student, ready(student, kind, tokens), hops)
        expected = predict(student, ready(student, kind), hops)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_high_pass_tokens_are_what_a_hop_takes_away() -> None:
    index_B = torch.tensor([3, 0, 3])
    sparse = student_with("csr", HIGH)
    tokens = sparse.embed(ready(sparse, "csr"), index_B) - sparse.place
    torch.testing.assert_close(tokens[:, 4:], tokens[:, :3] - tokens[:, 1:4])
    dense = student_with("dense", HIGH)
    features, stored = features_of("dense"), ready(dense, "dense").tokens
    assert isinstance(features, Tensor)
    assert stored is not None
    smoothed = propagation(edges_of())(features)
    raw = features - smoothed
    torch.testing.assert_close(stored[:, 4], (raw - raw.mean(0)) / raw.std(0, unbiased=False))


@both_kinds
@torch.inference_mode()
def test_neighbours_are_a_set_and_only_their_own_tokens_count(kind: str) -> None:
    student = student_with(kind, NEAR)
    inputs = ready(student, kind)
    assert inputs.neighbours is not None
    turned = Inputs(
        inputs.features, inputs.tokens, inputs.operator, inputs.neighbours.flip(1).contiguous()
    )
    expected = predict(student, inputs)
    torch.testing.assert_close(predict(student, turned), expected, atol=1e-5, rtol=0)
    other = inputs.neighbours.clone()
    other[0] = torch.where(other[0] >= 0, (other[0] + 1) % NODES, 1)
    moved = predict(student, Inputs(inputs.features, inputs.tokens, inputs.operator, other))
    assert not torch.allclose(moved[0], expected[0])
    torch.testing.assert_close(moved[1:], expected[1:], atol=1e-6, rtol=0)


@both_kinds
def test_a_graph_without_edges_has_only_missing_neighbours(kind: str) -> None:
    student = student_with(kind, NEAR)
    none = torch.empty(0, dtype=torch.int64)
    alone = student.prepare(features_of(kind), from_pairs(none, none, NODES), None)
    assert alone.neighbours is not None
    assert bool((alone.neighbours == -1).all())
    assert predict(student, alone).isfinite().all()
    torch.testing.assert_close(
        predict(student, alone, 0), predict(student, ready(student, kind), 0)
    )


def test_neighbours_that_reach_beyond_the_hops_are_refused() -> None:
    model = {"neighbours": 4, "neighbour_hops": 2, "hops": 2}
    with pytest.raises(UsageError, match=r"model\.neighbour_hops 2 .* model\.hops 2 hops"):
        distill_settings({"student": "hop", "model": model})
    distill_settings({"student": "hop", "model": {**model, "hops": 3}})
