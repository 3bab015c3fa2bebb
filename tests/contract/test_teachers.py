"""What every teacher keeps, and each against the formula or the plain convolution it stands for."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import GATConv, SAGEConv

from g2t.config import look_up
from g2t.graph.csr import Csr, compact, from_pairs
from g2t.teacher import TEACHERS
from g2t.teacher.frame import GNN, Structure, Trace, structure_of

NODES, FEATURES, CLASSES, HIDDEN = 14, 10, 3, 16
ISOLATED = 13
VARIATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one": {"layers": 1},
    "one-post": {"layers": 1, "post": True},
    "pre-post": {"pre": True, "post": True},
    "residual": {"residual": True, "layers": 3},
    "layer-norm": {"norm": "layer", "layers": 3},
    "all": {"pre": True, "post": True, "residual": True, "norm": "batch", "layers": 3},
}

every_teacher = pytest.mark.parametrize("name", TEACHERS)
every_variation = pytest.mark.parametrize("variation", VARIATIONS)


def edges() -> Csr:
    """A directed graph with one self-loop; the last node stands alone."""
    generator = torch.Generator().manual_seed(1)
    source, target = torch.randint(0, NODES - 1, (2, 40), generator=generator)
    extra = torch.tensor([[0, 2], [1, 2]])
    return from_pairs(torch.cat([source, extra[0]]), torch.cat([target, extra[1]]), NODES)


def features() -> Tensor:
    """Rows of which few entries are set, one of them none; not all are one."""
    generator = torch.Generator().manual_seed(2)
    dense = torch.rand(NODES, FEATURES, generator=generator)
    dense[torch.rand(NODES, FEATURES, generator=generator) > 0.2] = 0
    dense[4] = 0
    return dense


def structure(graph: Csr) -> Structure:
    return structure_of(graph, torch.device("cpu"))


def build(name: str, variation: str = "plain", **more: Any) -> GNN:
    kind = look_up(TEACHERS, name, "teacher")
    torch.manual_seed(3)
    values = {"hidden": HIDDEN, **VARIATIONS[variation], **more}
    model: GNN = kind(FEATURES, CLASSES, kind.Settings.model_validate(values))
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):  # statistics as after some training
            norm.load_state_dict(
                norm.state_dict()
                | {"running_mean": torch.rand(HIDDEN), "running_var": torch.rand(HIDDEN) + 0.5}
            )
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):  # zero biases would hide a forgotten one
            torch.nn.init.normal_(parameter)
    return model.eval()


@torch.no_grad()
def run(model: GNN, given: Tensor | Csr, graph: Csr) -> Trace:
    result: Trace = model(given, structure(graph))
    return result


def parts(trace: Trace) -> list[Tensor]:
    return [*trace.layers, trace.logits_NC]


@every_teacher
@every_variation
def test_a_trace_has_every_hidden_layer_after_its_activation(name: str, variation: str) -> None:
    model = build(name, variation)
    trace = run(model, features(), edges())
    chosen = VARIATIONS[variation]
    depth = chosen.get("layers", 2)
    assert len(trace.layers) == model.hidden == (depth if chosen.get("post") else depth - 1)
    for layer in trace.layers:
        assert layer.shape == (NODES, HIDDEN)
        assert bool((layer >= 0).all())
        assert bool((layer > 0).any())
    assert trace.logits_NC.shape == (NODES, CLASSES)
    assert all(part.dtype == torch.float32 for part in parts(trace))
    assert all(bool(part.isfinite().all()) for part in parts(trace))  # the lone node too


@every_teacher
@every_variation
def test_the_order_of_nodes_does_not_matter(name: str, variation: str) -> None:
    model, graph = build(name, variation), edges()
    order = torch.randperm(NODES, generator=torch.Generator().manual_seed(5))
    place = torch.argsort(order)
    permuted = from_pairs(place[graph.column_E.long()], place[graph.row_E], NODES)
    before, after = run(model, features(), graph), run(model, features()[order], permuted)
    for one, other in zip(parts(before), parts(after), strict=True):
        torch.testing.assert_close(one[order], other)


@every_teacher
@every_variation
def test_dense_and_sparse_features_give_the_same(name: str, variation: str) -> None:
    model, sparse = build(name, variation), compact(features())
    assert isinstance(sparse, Csr)
    traces = run(model, features(), edges()), run(model, sparse, edges())
    for one, other in zip(*map(parts, traces), strict=True):
        torch.testing.assert_close(one, other)


@every_teacher
def test_sparse_and_dense_features_give_the_same_gradients(name: str) -> None:
    gradients = []
    for given in (features(), compact(features())):
        model = build(name, "all")
        logits = model(given, structure(edges())).logits_NC
        F.cross_entropy(logits, torch.arange(NODES) % CLASSES).backward()  # type: ignore[no-untyped-call]
        gradients.append({k: p.grad for k, p in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])
    assert all(gradient is not None for gradient in gradients[0].values())


@every_teacher
def test_evaluation_draws_no_random_number_and_training_does(name: str) -> None:
    model = build(name, "all")
    state = torch.get_rng_state()
    first, second = run(model, features(), edges()), run(model, features(), edges())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, parts(first), parts(second)))
    model.train()
    noisy = [run(model, features(), edges()).logits_NC for _ in range(2)]
    assert not torch.equal(*noisy)


@every_teacher
def test_a_lone_node_hears_nobody_and_a_neighbour_is_heard(name: str) -> None:
    model, changed = build(name), features()
    before = run(model, changed, edges()).logits_NC
    changed[0] += 1
    after = run(model, changed, edges()).logits_NC
    assert torch.equal(before[ISOLATED], after[ISOLATED])
    assert not torch.allclose(before[1], after[1])  # 0 -> 1 is an edge


@every_teacher
def test_the_same_seed_builds_the_same_network(name: str) -> None:
    first, second = build(name).state_dict(), build(name).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def dense_adjacency() -> Any:
    return edges().dense().numpy().astype(np.float64)


def weights(model: GNN) -> dict[str, Any]:
    return {k: v.numpy().astype(np.float64) for k, v in model.state_dict().items()}


def close(found: Tensor, wanted: Any) -> None:
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_gcn_is_the_dense_formula() -> None:
    """Kipf & Welling 2017: relu(Â X W1 + b1), then Â H W2 + b2, in float64 numpy."""
    model = build("gcn")
    adjacency = dense_adjacency()
    np.fill_diagonal(adjacency, 1.0)
    scale = adjacency.sum(1) ** -0.5
    operator = scale[:, None] * adjacency * scale[None, :]
    w = weights(model)
    state = features().numpy().astype(np.float64)
    for layer in range(2):
        prefix = f"convolutions.{layer}."
        state = operator @ (state @ w[prefix + "linear.weight"].T) + w[prefix + "aggregate.bias"]
        if layer == 0:
            state = np.maximum(state, 0)
            first = state
    trace = run(model, features(), edges())
    close(trace.layers[0], first)
    close(trace.logits_NC, state)


def test_sage_is_the_dense_formula() -> None:
    """Hamilton et al. 2017, mean: W_n D^-1 A X + W_r X + b, zero where there is no neighbour."""
    model = build("sage", "one")
    adjacency, w = dense_adjacency(), weights(model)
    mean = adjacency / np.maximum(adjacency.sum(1, keepdims=True), 1)
    x = features().numpy().astype(np.float64)
    own = x @ w["convolutions.0.root.weight"].T + w["convolutions.0.root.bias"]
    wanted = mean @ x @ w["convolutions.0.neighbour.weight"].T + own
    close(run(model, features(), edges()).logits_NC, wanted)


def test_the_whole_frame_is_the_dense_formula() -> None:
    """pre, convolution + residual, batch norm, relu, post: as the docstring of the frame says."""
    model = build("sage", "all", layers=1)
    adjacency, w = dense_adjacency(), weights(model)
    mean = adjacency / np.maximum(adjacency.sum(1, keepdims=True), 1)
    x = np.maximum(features().numpy() @ w["pre.weight"].T + w["pre.bias"], 0)
    state = mean @ x @ w["convolutions.0.neighbour.weight"].T
    state += x @ w["convolutions.0.root.weight"].T + w["convolutions.0.root.bias"]
    state += x @ w["shortcuts.0.weight"].T
    spread = np.sqrt(w["norms.0.running_var"] + 1e-5)
    state = (state - w["norms.0.running_mean"]) / spread
    state = np.maximum(state * w["norms.0.weight"] + w["norms.0.bias"], 0)
    trace = run(model, features(), edges())
    close(trace.layers[0], state)
    close(trace.logits_NC, state @ w["post.weight"].T + w["post.bias"])


def pairs() -> Tensor:
    graph = edges()
    return torch.stack([graph.column_E.long(), graph.row_E])


@torch.no_grad()
def test_sage_equals_plain_sageconv() -> None:
    model = build("sage", "one")
    plain = SAGEConv(FEATURES, CLASSES)
    state = model.convolutions[0].state_dict()
    plain.lin_l.weight.copy_(state["neighbour.weight"])
    plain.lin_l.bias.copy_(state["root.bias"])
    plain.lin_r.weight.copy_(state["root.weight"])
    wanted = plain(features(), pairs())
    torch.testing.assert_close(run(model, features(), edges()).logits_NC, wanted)


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 4])
def test_gat_equals_plain_gatconv(heads: int) -> None:
    model = build("gat", "one-post", heads=heads)
    plain = GATConv(FEATURES, HIDDEN // heads, heads=heads)
    state = model.convolutions[0].state_dict()
    plain.lin.weight.copy_(state["linear.weight"])
    for key in ("att_src", "att_dst", "bias"):
        getattr(plain, key).copy_(state[f"aggregate.{key}"])
    wanted = F.relu(plain(features(), pairs()))
    torch.testing.assert_close(run(model, features(), edges()).layers[0], wanted)


def test_gat_gives_logits_with_one_head() -> None:
    model = build("gat")
    assert [c.aggregate.heads for c in model.convolutions] == [8, 1]  # type: ignore[union-attr]
