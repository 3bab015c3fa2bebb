"""What every measure of the table keeps, what is drawn, and some values by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import networkx
import pytest
import scipy.sparse.csgraph
import torch

from g2t.evaluate.card.card import cka_matrix, marks, measure_ends
from g2t.evaluate.card.draws import DRAWS, FAR, Scene, make_scene
from g2t.evaluate.card.measures import MEASURES, dirichlet, homophily, recall
from g2t.evaluate.card.space import Space
from g2t.evaluate.card.view import View
from g2t.graph.csr import Csr, compact, from_pairs

NODES, WIDTH = 240, 12
every_measure = pytest.mark.parametrize("name", MEASURES)


def ring(nodes: int = NODES) -> Csr:
    """A ring with chords to the second next node, a clique of ten, and a hub."""
    node = torch.arange(nodes)
    near = [(node + step) % nodes for step in (1, 2)]
    clique_2P, hub = 100 + torch.combinations(torch.arange(10)).T, 20 * torch.arange(1, 7)
    ends = [*near, clique_2P[1], torch.zeros_like(hub)]
    return from_pairs(torch.cat([node, node, clique_2P[0], hub]), torch.cat(ends), nodes)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(ring(), torch.arange(NODES) // 40)


def rows(seed: int = 0, width: int = WIDTH) -> torch.Tensor:
    return torch.randn(NODES, width, generator=torch.Generator().manual_seed(seed))


def circle() -> torch.Tensor:
    """An embedding that knows the ring: angles as places."""
    angle = torch.arange(NODES) * 2 * math.pi / NODES
    return torch.stack([angle.cos(), angle.sin()], 1)


def marked(scene: Scene, embedding: torch.Tensor, name: str) -> torch.Tensor:
    return marks(Space(embedding), Space(rows(7)), scene)[name]


@every_measure
def test_a_measure_is_finite_and_has_a_value_per_draw(scene: Scene, name: str) -> None:
    values = marked(scene, rows(), name)
    assert values.shape == (DRAWS,)
    assert bool(values.isfinite().all())


@every_measure
def test_turning_and_scaling_the_space_changes_nothing(scene: Scene, name: str) -> None:
    turn = torch.linalg.qr(rows(3)[:WIDTH].double())[0]
    turned = 40 * (rows().double() @ turn)
    torch.testing.assert_close(
        marked(scene, turned.float(), name), marked(scene, rows(), name), atol=2e-3, rtol=1e-3
    )


@every_measure
def test_sparse_rows_are_measured_as_dense_ones(scene: Scene, name: str) -> None:
    dense = (rows(1, 40) > 1).float()
    sparse = compact(dense)
    assert isinstance(sparse, Csr)
    ideal = Space(rows(7))
    torch.testing.assert_close(
        marks(Space(sparse), ideal, scene)[name], marks(Space(dense), ideal, scene)[name]
    )


@every_measure
def test_the_teacher_inherits_all_of_itself_and_raw_features_nothing(
    scene: Scene, name: str
) -> None:
    features, layers = rows(), [rows(2), torch.cat([circle(), rows(5, 2) / 5], 1)]
    ends = measure_ends(scene, features, layers)
    teacher, raw = ends.row("teacher", layers), ends.row("raw", [features])
    if teacher["inheritance"][name]["value"] is not None:
        assert teacher["inheritance"][name]["value"] == pytest.approx(1)
        assert raw["inheritance"][name]["value"] == pytest.approx(0, abs=1e-9)
    else:
        assert raw["inheritance"][name]["reason"]
    assert teacher["values"][name] == ends.facts["ceiling"][name]


def test_most_measures_tell_a_circle_from_chance(scene: Scene) -> None:
    shares = measure_ends(scene, rows(), [circle()]).row("circle", [circle()])["inheritance"]
    told = {name for name, share in shares.items() if share["value"] is not None}
    assert told >= {"edge", "edge-matched", "edge-second", "recall", "distance", "dirichlet"}
    assert told >= {"homophily", "cka", "gap"}


def test_a_circle_knows_its_ring(scene: Scene) -> None:
    known = {name: values.mean().item() for name, values in marked_all(scene, circle()).items()}
    assert known["edge"] > 0.97
    assert known["recall"] > 0.9  # nearest ten are five to each side; neighbours are two of them
    assert known["distance"] > 0.5
    assert known["homophily"] > 0.9
    assert known["dirichlet"] < 0.05
    chance = {name: values.mean().item() for name, values in marked_all(scene, rows()).items()}
    assert chance["edge"] == pytest.approx(0.5, abs=0.06)
    assert chance["recall"] < 0.15
    assert chance["distance"] == pytest.approx(0, abs=0.06)


def test_degrees_alone_say_nothing_of_matched_distances() -> None:
    """Hubs are near to all: who knows degrees seems to know paths, and does not."""
    star = networkx.barabasi_albert_graph(600, 3, seed=4)
    ends = torch.tensor(list(star.edges)).T
    scene = make_scene(from_pairs(ends[0], ends[1], 600), torch.zeros(600, dtype=torch.int64))
    size = scene.edges.counts_N.double().log()
    noise = torch.randn(600, 12, generator=torch.Generator().manual_seed(5))
    hubs = marked_all(scene, torch.cat([2 * size[:, None].float(), noise], 1))
    assert hubs["distance"].mean() > 0.12
    assert hubs["distance-matched"].mean().abs() < 0.06
    landmarks = scene.edges.scipy()
    near = scipy.sparse.csgraph.shortest_path(landmarks, indices=range(0, 600, 20), unweighted=True)
    known = torch.from_numpy(near.T).float()
    assert marked_all(scene, known - known.mean(0))["distance-matched"].mean() > 0.15


def marked_all(scene: Scene, embedding: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(marks(Space(embedding), Space(embedding), scene))


def test_traits_that_stand_in_the_embedding_are_found() -> None:
    random = networkx.gnp_random_graph(300, 0.03, seed=1)
    ends = torch.tensor(list(random.edges)).T
    scene = make_scene(from_pairs(ends[0], ends[1], 300), torch.zeros(300, dtype=torch.int64))
    embedding = torch.zeros(300, 5)
    embedding[scene.probed_B, :4] = (scene.traits / scene.traits.std(0)).float()
    found = marked_all(scene, embedding)
    for name in ("degree", "pagerank", "clustering", "core"):
        assert found[name].min() > 0.99
    lost = marked_all(scene, torch.randn(300, 5, generator=torch.Generator().manual_seed(2)))
    assert lost["degree"].mean() < 0.05


def test_draws_are_what_they_are_called(scene: Scene) -> None:
    other = networkx.Graph(torch.stack([scene.edges.row_E, scene.edges.column_E]).T.tolist())
    lengths = dict(networkx.all_pairs_shortest_path_length(other))
    for draw in scene.draws:
        assert all(other.has_edge(a, b) for a, b in draw.linked.T.tolist())
        for pairs in (draw.random, draw.matched, draw.second):
            assert pairs.shape[1] > 0.8 * draw.linked.shape[1]
            assert not any(other.has_edge(a, b) or a == b for a, b in pairs.T.tolist())
        assert all(lengths[a][b] == 2 for a, b in draw.second.T.tolist())
        assert [lengths[a][b] for a, b in draw.apart.T.tolist()] == draw.length_P.tolist()
        assert 1 <= int(draw.length_P.min()) <= int(draw.length_P.max()) <= FAR
        assert not set(draw.fit_B.tolist()) & set(draw.score_B.tolist())
    groups = torch.cat([draw.group_B for draw in scene.draws])
    assert sorted(groups.tolist()) == list(range(NODES))
    edges = torch.cat([draw.linked.sort(0).values for draw in scene.draws], 1)
    assert len({tuple(pair) for pair in edges.T.tolist()}) == edges.shape[1]


def test_matched_pairs_have_the_degrees_of_linked_ones() -> None:
    star = networkx.barabasi_albert_graph(2000, 3, seed=0)
    ends = torch.tensor(list(star.edges)).T
    scene = make_scene(from_pairs(ends[0], ends[1], 2000), torch.zeros(2000, dtype=torch.int64))
    degree_N = scene.edges.counts_N.double()

    def typical(pairs: torch.Tensor) -> float:
        return float(degree_N[pairs[1]].log().mean())

    draw = scene.draws[0]
    assert typical(draw.matched) == pytest.approx(typical(draw.linked), rel=0.05)
    assert typical(draw.random) < 0.8 * typical(draw.linked)


@pytest.fixture
def path_view() -> Callable[[torch.Tensor, torch.Tensor], View]:
    """A view of all nodes of the path 0-1-2-3, whatever was drawn."""

    def view(embedding: torch.Tensor, labels: torch.Tensor) -> View:
        edges = from_pairs(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3]), 4)
        scene = make_scene(edges, labels)
        draw = replace(scene.draws[0], group_B=torch.arange(4))
        space = Space(embedding)
        return View(space, embedding.double(), scene, draw, space)

    return view


def test_dirichlet_ratio_by_hand(
    path_view: Callable[[torch.Tensor, torch.Tensor], View],
) -> None:
    labels, embedding = torch.zeros(4, dtype=torch.int64), torch.tensor([[1.0], [2], [3], [5]])
    loops = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]])
    scale = loops.sum(1).rsqrt().diag()
    whole = torch.eye(4) - scale @ loops @ scale
    expected = (embedding.T @ whole @ embedding).item() / embedding.square().sum().item()
    assert dirichlet(path_view(embedding, labels)) == pytest.approx(expected, rel=1e-5)
    # D^½ 1 is what the Laplacian does not see.
    smooth = torch.tensor([[2.0], [3], [3], [2]]).sqrt()
    assert dirichlet(path_view(smooth, labels)) == pytest.approx(0, abs=1e-6)


def test_recall_and_homophily_by_hand(
    monkeypatch: pytest.MonkeyPatch, path_view: Callable[[torch.Tensor, torch.Tensor], View]
) -> None:
    monkeypatch.setattr("g2t.evaluate.card.view.NEAREST", 1)
    # Angles 0, 10, 50, 55 degrees: nearest are 1, 0, 3, 2. All are neighbours on the path.
    angle = torch.tensor([0.0, 10, 50, 55]).deg2rad()
    embedding = torch.stack([angle.cos(), angle.sin()], 1)
    view = path_view(embedding, torch.tensor([0, 1, 2, 2]))
    assert view.nearest.flatten().tolist() == [1, 0, 3, 2]
    assert recall(view) == 1.0
    assert homophily(view) == 0.5
    # With the label of node 3 unknown only 0-1 and 1-0 are left, and both differ.
    assert homophily(path_view(embedding, torch.tensor([0, 1, 2, -1]))) == 0.0
    # Angles 0, 90, 5, 95: nearest are 2, 3, 0, 1; none is a neighbour.
    angle = torch.tensor([0.0, 90, 5, 95]).deg2rad()
    apart = torch.stack([angle.cos(), angle.sin()], 1)
    assert recall(path_view(apart, torch.tensor([0, 1, 2, 2]))) == 0.0


def test_ties_do_not_favour_near_ids(scene: Scene) -> None:
    # All cosines are 1: by ids, the nearest of a node would be nodes 0 to 9.
    blind = marked_all(scene, torch.ones(NODES, 1))
    assert blind["recall"].mean() < 0.12
    assert blind["edge"].tolist() == [0.5] * DRAWS


def test_cka_matrix_has_a_row_per_block_and_knows_its_own_layer(scene: Scene) -> None:
    layers = [rows(seed) for seed in range(3)]
    blocks = [3 * layers[2], layers[0]]
    matrix = cka_matrix([Space(block) for block in blocks], [Space(at) for at in layers], scene)
    assert matrix[0][2] == pytest.approx(1, abs=1e-5)
    assert matrix[1][0] == pytest.approx(1, abs=1e-5)
    assert abs(matrix[0][1] or 0) < 0.1


def test_wide_rows_are_probed_by_their_principal_directions() -> None:
    draw = torch.Generator().manual_seed(3)
    wide = torch.randn(500, 20, generator=draw) @ torch.randn(20, 600, generator=draw)
    probed = Space(wide).probed(torch.arange(len(wide)))
    assert probed.shape == (500, 256)
    # Rank 20 is kept whole, so inner products are.
    torch.testing.assert_close(probed @ probed.T, (wide @ wide.T).double(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("nodes", [2, 3, 7])
def test_tiny_graphs_have_a_card_with_gaps(nodes: int) -> None:
    edges = from_pairs(torch.arange(nodes - 1), torch.arange(1, nodes), nodes)
    scene = make_scene(edges, torch.zeros(nodes, dtype=torch.int64))
    embedding = torch.randn(nodes, 4, generator=torch.Generator().manual_seed(0))
    ends = measure_ends(scene, embedding, [embedding])
    row = ends.row("student", [embedding])
    assert row["values"]["cka"]["value"] is None
    assert row["values"]["cka"]["reason"]


def test_sampled_work_does_not_grow_with_the_graph() -> None:
    """Nodes, pairs and sources that are compared are counted, not timed."""

    def work(nodes: int) -> tuple[int, ...]:
        scene = make_scene(ring(nodes), torch.zeros(nodes, dtype=torch.int64))
        return (
            len(scene.probed_B),
            *(len(draw.group_B) for draw in scene.draws),
            *(draw.linked.shape[1] for draw in scene.draws),
            *(len(set(draw.apart[0].tolist())) for draw in scene.draws),
        )

    assert work(30_000) == work(6_000) == (5000, *[400] * 5, *[2000] * 5, *[32] * 5)
