"""What every teacher keeps: the contract between a network and all who run it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from g2t.config import look_up
from g2t.errors import UsageError
from g2t.graph.csr import Csr, compact, from_pairs
from g2t.graph.structure import without_self_loops
from g2t.teacher import TEACHERS
from g2t.teacher.frame import GNN, Structure, Trace, structure_of
from g2t.teacher.settings import teach_settings
from g2t.teacher.stack import Stack
from g2t.teacher.store import told_by
from tests.before_relu import before_relu

NODES, FEATURES, CLASSES, HIDDEN = 14, 10, 3, 16
ISOLATED = 13

#: Settings of the stacks of convolutions.
STACK: dict[str, dict[str, Any]] = {
    "plain": {},
    "one": {"layers": 1},
    "one-post": {"layers": 1, "post": True},
    "pre-post": {"pre": True, "post": True},
    "residual": {"residual": True, "layers": 3},
    "layer-norm": {"norm": "layer", "layers": 3},
    "max": {"jk": "max", "post": True, "layers": 3},
    "sum": {"jk": "sum", "post": True, "norm": "layer"},
    "all": {
        "pre": True, "post": True, "residual": True, "norm": "batch", "layers": 3, "jk": "cat",
    },
}  # fmt: skip
#: Settings of teachers that are no such stack.
DEEP: dict[str, dict[str, Any]] = {
    "plain": {"layers": 2},
    "one": {"layers": 1},
    "all": {"layers": 5, "alpha": 0.4},
}
OWN = {"appnp": DEEP, "gcn2": DEEP, "sgc": {"plain": {}, "one": {"layers": 1}, "all": {}}}

every_teacher = pytest.mark.parametrize("name", TEACHERS)
every_variation = pytest.mark.parametrize(
    ("name", "variation"),
    [(name, variation) for name in TEACHERS for variation in OWN.get(name, STACK)],
)


def settings_of(name: str, variation: str) -> dict[str, Any]:
    """Settings of a teacher; none that it does not have."""
    width = {} if name == "sgc" else {"hidden": HIDDEN}
    dropout = {"dropout": 0.5} if variation == "all" else {}
    return {**width, **dropout, **OWN.get(name, STACK)[variation]}


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
    values = {**settings_of(name, variation), **more}
    model: GNN = kind(FEATURES, CLASSES, kind.Settings.model_validate(values))
    model.observe(structure(edges()))
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):  # statistics as after some training
            norm.load_state_dict(
                norm.state_dict()
                | {"running_mean": torch.rand(HIDDEN), "running_var": torch.rand(HIDDEN) + 0.5}
            )
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith(("bias", "eps")):  # zeros would hide a forgotten one
            torch.nn.init.normal_(parameter)
    return model.eval()


@torch.no_grad()
def run(model: GNN, given: Tensor | Csr, graph: Csr) -> Trace:
    result: Trace = model(given, structure(graph))
    return result


def parts(trace: Trace) -> list[Tensor]:
    return [*trace.layers, trace.logits_NC]


def same(name: str, found: Tensor, wanted: Tensor) -> None:
    """Fail where two results differ by more than the order of sums explains.

    PNA's standard deviation is the root of a difference of means: it loses half of the digits.
    """
    if name == "pna":
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3)
    else:
        torch.testing.assert_close(found, wanted)


@every_variation
def test_a_trace_has_every_hidden_layer_after_its_activation(name: str, variation: str) -> None:
    model = build(name, variation)
    trace = run(model, features(), edges())
    chosen = settings_of(name, variation)
    depth = chosen.get("layers", 2)
    lacks_head = isinstance(model, Stack) and not chosen.get("post")
    count = 0 if name == "sgc" else depth - lacks_head
    assert len(trace.layers) == model.hidden == count
    assert len(model.widths) == depth
    assert told_by(model)["hidden"] == {"layers": count, "width": HIDDEN if count else 0}
    for layer in trace.layers:
        assert layer.shape == (NODES, HIDDEN)
        assert bool((layer >= 0).all())
        assert bool((layer > 0).any())
    assert trace.logits_NC.shape == (NODES, CLASSES)
    assert all(part.dtype == torch.float32 for part in parts(trace))
    assert all(bool(part.isfinite().all()) for part in parts(trace))  # the lone node too


@every_variation
@torch.no_grad()
def test_a_step_ends_where_its_activation_begins(name: str, variation: str) -> None:
    model, given = build(name, variation), structure(edges())
    wanted, trace = before_relu(model, features(), given), run(model, features(), edges())
    first = state = model.begin(features())
    for index, layer in enumerate(trace.layers):
        raw = model.step(index, state, given, first)
        state = model.activate(index, raw)
        assert torch.equal(raw, wanted[index])
        assert torch.equal(state, layer)
        if name == "appnp":  # propagation alone is linear
            assert state is raw
        else:
            assert torch.equal(raw.relu(), layer)
            assert bool((raw < 0).any())


@every_teacher
@torch.no_grad()
def test_logits_have_no_activation(name: str) -> None:
    model, given = build(name), structure(edges())
    first = state = model.begin(features())
    for index in range(len(model.widths)):
        raw = model.step(index, state, given, first)
        state = model.activate(index, raw)
        assert index < model.hidden or state is raw


@every_variation
def test_the_order_of_nodes_does_not_matter(name: str, variation: str) -> None:
    model, graph = build(name, variation), edges()
    order = torch.randperm(NODES, generator=torch.Generator().manual_seed(5))
    place = torch.argsort(order)
    permuted = from_pairs(place[graph.column_E.long()], place[graph.row_E], NODES)
    before, after = run(model, features(), graph), run(model, features()[order], permuted)
    for one, other in zip(parts(before), parts(after), strict=True):
        same(name, one[order], other)


@every_variation
def test_dense_and_sparse_features_give_the_same(name: str, variation: str) -> None:
    model, sparse = build(name, variation), compact(features())
    assert isinstance(sparse, Csr)
    traces = run(model, features(), edges()), run(model, sparse, edges())
    for one, other in zip(*map(parts, traces), strict=True):
        same(name, one, other)


@every_teacher
def test_sparse_and_dense_features_give_the_same_gradients(name: str) -> None:
    gradients = []
    for given in (features(), compact(features())):
        model = build(name, "all")
        logits = model(given, structure(edges())).logits_NC
        F.cross_entropy(logits, torch.arange(NODES) % CLASSES).backward()  # type: ignore[no-untyped-call]
        gradients.append({k: p.grad for k, p in model.named_parameters()})
    for one, other in zip(*(found.values() for found in gradients), strict=True):
        assert one is not None
        assert other is not None
        same(name, one, other)


@every_variation
def test_gradients_reach_every_parameter(name: str, variation: str) -> None:
    model = build(name, variation)  # in eval mode, as a batch's own statistics hide biases
    logits = model(features(), structure(edges())).logits_NC
    draw = torch.Generator().manual_seed(7)
    (logits * torch.randn(NODES, CLASSES, generator=draw)).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.any()), key


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


def part_around(graph: Csr, rows: Tensor, hops: int) -> tuple[Tensor, Structure]:
    """All nodes within some hops of rows, ascending, and the edges that rows hear of them by."""
    source, target = structure(graph).pairs
    near, used = rows, torch.zeros(len(source), dtype=torch.bool)
    for _ in range(hops):
        used = torch.isin(target, near)
        near = torch.cat([near, source[used]]).unique()  # type: ignore[no-untyped-call]
    place = torch.full((NODES,), -1)
    place[near] = torch.arange(len(near))
    part = from_pairs(place[source[used]], place[target[used]], len(near))
    degree = without_self_loops(graph).counts_N[near]
    return near, Structure(part, degree, torch.device("cpu"))


@every_variation
def test_rows_with_all_that_they_hear_of_say_what_the_whole_graph_says(
    name: str, variation: str
) -> None:
    """Degrees are those of the whole graph, so the rim of a part is no edge of the world."""
    model, rows = build(name, variation), torch.tensor([2, 5, ISOLATED])
    near, part = part_around(edges(), rows, len(model.widths))
    assert len(model.widths) > 2 or len(near) < NODES
    with torch.no_grad():
        found: Trace = model(features()[near], part)
    wanted, own = run(model, features(), edges()), torch.searchsorted(near, rows)
    for one, other in zip(parts(found), parts(wanted), strict=True):
        same(name, one[own], other[rows])


def test_a_total_counts_what_a_sampled_row_left_out() -> None:
    """Node 0 holds two of its six neighbours and its self-loop, node 1 its only neighbour."""
    part = from_pairs(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 0, 1]), 3)
    found = Structure(part, torch.tensor([6, 1, 4]), torch.device("cpu"))
    assert found.total.to_dense().tolist() == [[1, 3, 3], [1, 0, 0], [0, 0, 0]]
    assert found.others.tolist() == [[1, 2, 0], [0, 0, 1]]
    whole = structure(edges())
    assert torch.equal(whole.total.to_dense(), edges().dense())  # exactly


@pytest.mark.parametrize("name", ["gcn", "gat", "gin"])
@pytest.mark.parametrize("kind", ["max", "sum", "cat"])
def test_jumping_knowledge_reads_every_layer(name: str, kind: str) -> None:
    model = build(name, jk=kind, post=True, layers=3)
    trace = run(model, features(), edges())
    stacked = torch.stack(trace.layers)
    read = {"max": stacked.amax(0), "sum": stacked.sum(0), "cat": torch.cat(trace.layers, 1)}[kind]
    weights = model.state_dict()
    wanted = read @ weights["post.weight"].T + weights["post.bias"]
    torch.testing.assert_close(trace.logits_NC, wanted)


@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        ("gcn", {"jk": "max"}, "model.jk max needs a head"),
        ("gcn", {"jk": "last", "post": True}, "setting model.jk"),
        ("gcn", {"alpha": 0.1}, "unknown setting model.alpha"),
        ("gin", {"heads": 2}, "unknown setting model.heads"),
        ("gatv2", {"hidden": 30}, "model.hidden 30 is no multiple of model.heads 8"),
        ("gat-sep", {"hidden": 30}, "model.hidden 30 is no multiple of model.heads 8"),
        ("pna", {"pre": False}, "setting model.pre"),
        *(("appnp", {key: 1}, f"unknown setting model.{key}") for key in ("norm", "post", "theta")),
        *(("gcn2", {key: 1}, f"unknown setting model.{key}") for key in ("norm", "pre", "jk")),
        *(("sgc", {key: 1}, f"unknown setting model.{key}") for key in ("hidden", "alpha", "norm")),
        ("appnp", {"alpha": 1.0}, "setting model.alpha"),
        ("gcn2", {"theta": 0.0}, "setting model.theta"),
        *((name, {"layers": 0}, "setting model.layers") for name in TEACHERS),
        *((name, {"dropout": 1.0}, "setting model.dropout") for name in TEACHERS),
    ],
)
def test_what_a_teacher_cannot_honour_is_refused(
    name: str, model: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        teach_settings({"teacher": name, "model": model})


@pytest.mark.parametrize("variation", ["plain", "pre-post"])
def test_features_may_have_a_dropout_of_their_own(variation: str) -> None:
    """What follows has none here, so only the features can make two passes differ."""
    quiet = build("gcn", variation, dropout=0.0, input_dropout=0.0).train()
    loud = build("gcn", variation, dropout=0.0, input_dropout=0.5).train()
    for model, differs in ((quiet, False), (loud, True)):
        passes = [run(model, features(), edges()).logits_NC for _ in range(2)]
        assert torch.equal(*passes) is not differs
