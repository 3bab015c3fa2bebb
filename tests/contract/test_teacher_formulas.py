"""Each teacher against the formula, or the plain convolution, that it stands for."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import GATConv, GATv2Conv, PNAConv, SAGEConv

from g2t.teacher.frame import GNN
from g2t.teacher.store import told_by
from tests.before_relu import before_relu
from tests.contract.test_teachers import (
    CLASSES,
    FEATURES,
    HIDDEN,
    NODES,
    build,
    edges,
    features,
    run,
    structure,
)


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
    model = build("sage", "all", layers=1, jk="none")
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


def first_of(model: GNN) -> dict[str, Tensor]:
    """The tensors of a stack's first convolution."""
    prefix = "convolutions.0."
    state = model.state_dict()
    return {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}


def pairs() -> Tensor:
    graph = edges()
    return torch.stack([graph.column_E.long(), graph.row_E])


@torch.no_grad()
def test_sage_equals_plain_sageconv() -> None:
    model = build("sage", "one")
    plain = SAGEConv(FEATURES, CLASSES)
    state = first_of(model)
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
    state = first_of(model)
    plain.lin.weight.copy_(state["linear.weight"])
    for key in ("att_src", "att_dst", "bias"):
        getattr(plain, key).copy_(state[f"aggregate.{key}"])
    wanted = plain(features(), pairs())
    torch.testing.assert_close(model.step(0, features(), structure(edges()), None), wanted)
    torch.testing.assert_close(run(model, features(), edges()).layers[0], F.relu(wanted))


def test_gat_gives_logits_with_one_head() -> None:
    model = build("gat")
    assert [c.aggregate.heads for c in model.convolutions] == [8, 1]  # type: ignore[union-attr]


def propagator() -> Any:
    """Â in float64."""
    adjacency = dense_adjacency()
    np.fill_diagonal(adjacency, 1.0)
    scale = adjacency.sum(1) ** -0.5
    return scale[:, None] * adjacency * scale[None, :]


def test_appnp_is_the_dense_formula() -> None:
    """Gasteiger et al. 2017, eq. 5, on the hidden width; then the head."""
    model = build("appnp", "all")
    w, operator = weights(model), propagator()
    first = np.maximum(features().numpy() @ w["pre.weight"].T + w["pre.bias"], 0)
    trace, state = run(model, features(), edges()), first
    for layer in trace.layers:
        state = 0.6 * operator @ state + 0.4 * first
        close(layer, state)
    assert len(trace.layers) == 5
    close(trace.logits_NC, state @ w["post.weight"].T + w["post.bias"])


def test_appnp_is_classic_but_for_the_bias_of_its_head() -> None:
    """Head first, then z_k = (1 - α) Â z + α z_0, K = 5: the same logits where the bias is zero."""
    model = build("appnp", "all")
    with torch.no_grad():
        model.get_parameter("post.bias").zero_()
    w, operator = weights(model), propagator()
    hidden = np.maximum(features().numpy() @ w["pre.weight"].T + w["pre.bias"], 0)
    first = state = hidden @ w["post.weight"].T
    for _ in range(5):
        state = 0.6 * operator @ state + 0.4 * first
    close(run(model, features(), edges()).logits_NC, state)


def test_gcn2_is_the_dense_formula() -> None:
    """Chen et al. 2020, eq. 5, β_l = log(θ / l + 1)."""
    model = build("gcn2", "all", theta=0.7)
    w, operator = weights(model), propagator()
    first = np.maximum(features().numpy() @ w["pre.weight"].T + w["pre.bias"], 0)
    trace, state = run(model, features(), edges()), first
    before = before_relu(model, features(), structure(edges()))
    for index, layer in enumerate(trace.layers):
        beta = np.log(0.7 / (index + 1) + 1)
        mixed = 0.6 * operator @ state + 0.4 * first
        map_DD = (1 - beta) * np.eye(HIDDEN) + beta * w[f"convolutions.{index}.weight1"]
        close(before[index], mixed @ map_DD)
        state = np.maximum(mixed @ map_DD, 0)
        close(layer, state)
    assert len(trace.layers) == len(before) == 5
    close(trace.logits_NC, state @ w["post.weight"].T + w["post.bias"])


def test_sgc_is_the_dense_formula() -> None:
    """Wu et al. 2019: Â Â Â X W + b; no layer is handed out."""
    model = build("sgc", layers=3)
    w, operator = weights(model), propagator()
    wanted = operator @ operator @ operator @ features().numpy() @ w["linear.weight"].T + w["bias"]
    trace = run(model, features(), edges())
    assert trace.layers == ()
    close(trace.logits_NC, wanted)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_gin_is_the_dense_formula(norm: str) -> None:
    """Xu et al. 2019, eq. 4.1: MLP((1 + ε) h_v + Σ h_u), the MLP with a norm inside."""
    model = build("gin", "one", norm=norm)
    w = {key.removeprefix("convolutions.0."): value for key, value in weights(model).items()}
    assert abs(w["aggregate.eps"]) > 1e-3
    x = features().numpy().astype(np.float64)
    state = ((1 + w["aggregate.eps"]) * x + dense_adjacency() @ x) @ w["linear.weight"].T
    state += w["bias"]
    if norm == "batch":
        state = (state - w["norm.running_mean"]) / np.sqrt(w["norm.running_var"] + 1e-5)
        state = state * w["norm.weight"] + w["norm.bias"]
    state = np.maximum(state, 0) @ w["last.weight"].T + w["last.bias"]
    close(run(model, features(), edges()).logits_NC, state)


def test_gat_sep_is_the_dense_formula() -> None:
    """A softmax over the in-neighbours alone, per head; the node itself in a channel of its own."""
    model = build("gat-sep", "one-post", heads=2)
    w = {key.removeprefix("convolutions.0."): value for key, value in weights(model).items()}
    adjacency = dense_adjacency()
    assert np.trace(adjacency) > 0  # a self-loop of the graph is left out too
    np.fill_diagonal(adjacency, 0)
    x = features().numpy().astype(np.float64)
    message, heard = (x @ w["neighbour.weight"].T).reshape(NODES, 2, -1), []
    for head in range(2):
        source = message[:, head] @ w["aggregate.att_src"][0, head]
        target = message[:, head] @ w["aggregate.att_dst"][0, head]
        score = source[None, :] + target[:, None]
        weight = np.exp(np.where(score > 0, score, 0.2 * score)) * adjacency
        weight /= np.maximum(weight.sum(1, keepdims=True), 1e-12)
        heard.append(weight @ message[:, head])
    state = np.concatenate(heard, 1) + x @ w["own.weight"].T + w["own.bias"]
    close(run(model, features(), edges()).layers[0], np.maximum(state, 0))


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 4])
def test_gatv2_equals_plain_gatv2conv(heads: int) -> None:
    model = build("gatv2", "one-post", heads=heads)
    plain = GATv2Conv(FEATURES, HIDDEN // heads, heads=heads)
    state = first_of(model)
    for linear, name in ((plain.lin_l, "source"), (plain.lin_r, "target")):
        linear.weight.copy_(state[f"{name}.weight"])
        linear.bias.copy_(state[f"{name}.bias"])
    for key in ("att", "bias"):
        getattr(plain, key).copy_(state[f"aggregate.{key}"])
    wanted = F.relu(plain(features(), pairs()))
    torch.testing.assert_close(run(model, features(), edges()).layers[0], wanted)


@torch.no_grad()
def test_pna_equals_plain_pnaconv_that_knows_the_degrees() -> None:
    model = build("pna", "one")
    given = model.begin(features())
    degrees = torch.bincount(pairs()[1], minlength=NODES)
    plain = PNAConv(
        HIDDEN,
        CLASSES,
        ["mean", "min", "max", "std"],
        ["identity", "amplification", "attenuation"],
        degrees.bincount(),
    )
    state = {key.removeprefix("aggregate."): value for key, value in first_of(model).items()}
    for key in ("avg_deg_lin", "avg_deg_log"):  # what `observe` took of the graph
        torch.testing.assert_close(
            state[f"aggr_module.{key}"], plain.get_buffer(f"aggr_module.{key}")
        )
    plain.load_state_dict(state)
    wanted = plain(given, pairs())
    torch.testing.assert_close(run(model, features(), edges()).logits_NC, wanted)


def test_pna_keeps_what_it_saw_with_its_weights() -> None:
    seen, fresh = build("pna"), build("pna")
    fresh.observe(structure(type(edges())(torch.arange(3), torch.tensor([0, 1]).int(), None, 2)))
    assert not torch.equal(
        run(seen, features(), edges()).logits_NC, run(fresh, features(), edges()).logits_NC
    )
    fresh.load_state_dict(seen.state_dict())
    assert torch.equal(
        run(seen, features(), edges()).logits_NC, run(fresh, features(), edges()).logits_NC
    )


@pytest.mark.parametrize("name", ["gatv2", "gat-sep"])
def test_attention_gives_logits_with_one_head(name: str) -> None:
    state = build(name).state_dict()
    heads = [v.shape[1] for key, v in state.items() if key.endswith(("att", "att_src"))]
    assert heads == [8, 1]


def test_only_what_fits_is_described() -> None:
    described = {name for name in ("gcn", "sage", "gat", "gin") if told_by(build(name))["layers"]}
    assert described == {"gcn", "sage", "gat"}
    assert told_by(build("gcn", "max"))["layers"]["join"] == "max"
