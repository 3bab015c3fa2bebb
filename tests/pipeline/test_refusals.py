"""What is refused before any work, and what a score means where there is none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import g2t.config
from g2t.distill.settings import as_values, distill_settings
from g2t.errors import G2TError, InputError, IntegrityError, UsageError
from g2t.evaluate import Sources, evaluate
from g2t.graph.bundle import Graph, Parts, write_graph
from g2t.graph.csr import from_pairs
from g2t.graph.importing import import_graph
from g2t.graph.sources.labels import ClassColumn
from g2t.graph.sources.tabular import Chunk, Table
from g2t.graph.splits import make_split
from g2t.metrics import Metric
from g2t.pipeline import check_recipe, run, tabulate
from g2t.recipe import read_recipe
from g2t.runtime import Silent
from g2t.stage import Stage
from g2t.teacher.train import teach
from g2t_cli.settings import gather

CSBM = {"nodes": 120, "classes": 2, "features": 4, "degree": 6.0}


def ring(metric: Metric = "accuracy") -> Graph:
    """Twenty nodes in a ring, two classes in turn, one stored split."""
    ids = torch.arange(20)
    edges = from_pairs(torch.cat([ids, (ids + 1) % 20]), torch.cat([(ids + 1) % 20, ids]), 20)
    graph = Graph("ring", torch.randn(20, 3), edges, ids % 2, ("a", "b"), "accuracy", False)
    parts = Parts(ids[:8], ids[8:12], ids[12:])
    return replace(graph, metric=metric, splits={"public": parts})


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"split": "cpff"}, "no split is called"),
        ({"split": "random:1/2"}, "no split is called"),
        ({"teach": {"split": "cpf"}}, "split or setting of its own"),
        ({"teach": {"seed": 3}}, "seed"),
        ({"students": {"hop": {"seed": 3}}}, "seed"),
        ({"students": {"../up": {"student": "mlp"}}}, "students"),
        ({"students": {"a/b": {"student": "mlp"}}}, "students"),
        ({"teach": {"teacher": 5}}, "no name of a teacher"),
        ({"teach": {"preset": []}}, "preset"),
        ({"students": {"x": {"student": 5}}}, "no name of a student"),
        ({"students": {"x": {"student": "mlp", "preset": []}}}, "no preset"),
    ],
)
def test_a_wrong_recipe_is_refused_before_any_work(recipe: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_recipe(read_recipe({"source": "synthetic:csbm", "import": CSBM, **recipe}))


def test_a_wrong_device_is_refused_before_the_import(tmp_path: Path) -> None:
    recipe = read_recipe({"source": "synthetic:csbm", "import": CSBM, "split": "cpf"})
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="quantum"):
        run(recipe, [0], out, root=None, device="quantum", force=False, progress=Silent())
    assert not out.exists()


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_split_without_nodes_or_labels_is_refused(part: str) -> None:
    graph = ring()
    empty = replace(graph.splits["public"], **{part: torch.empty(0, dtype=torch.int64)})
    with pytest.raises(InputError, match=f"no {part} nodes"):
        make_split(replace(graph, splits={"public": empty}), "public")
    labels = graph.labels.clone()
    labels[getattr(graph.splits["public"], part)[0]] = -1
    with pytest.raises(InputError, match=f"a {part} node has no label"):
        make_split(replace(graph, labels=labels), "public")


def test_roc_auc_needs_both_classes_in_validation() -> None:
    graph = ring("roc_auc")
    make_split(graph, "public")
    labels = graph.labels.clone()
    labels[graph.splits["public"].val] = 1
    with pytest.raises(InputError, match="both classes"):
        make_split(replace(graph, labels=labels), "public")


def test_losses_and_presets_of_the_wrong_type_are_usage_errors() -> None:
    wrong: list[dict[str, Any]] = [
        {"student": 5},
        {"preset": []},
        {"loss": 3},
        {"loss": {"soft": 3}},
    ]
    for values in wrong:
        with pytest.raises(UsageError):
            distill_settings(values)


def test_a_missing_score_is_null_and_has_no_mean() -> None:
    def result(test: float | None) -> dict[str, object]:
        student = {"name": "mlp", "val": 0.5, "test": test, "by_hops": {}}
        split = {"name": "public", "digest": "sha256:0"}
        teacher = {"name": "gcn", "val": 0.5, "test": 0.5}
        facts = {"graph": "ring", "metric": "roc_auc", "split": split}
        return {**facts, "student": student, "teacher": teacher}

    results = [result(0.5), result(None)]
    table = tabulate({"teacher": results, "mlp": results}, [0, 1], "public")
    assert table["rows"][1]["values"] == [0.5, None]
    assert table["rows"][1]["mean"] is None
    json.dumps(table, allow_nan=False)


def test_a_teacher_of_another_split_is_refused(tmp_path: Path) -> None:
    from g2t.distill.train import distill
    from g2t.export import ExportSettings, export

    graph = tmp_path / "graph"
    with Stage(graph, "graph", {}, {}, 0) as stage:
        write_graph(ring(), stage.path)
        stage.commit({})
    few = {"train": {"epochs": 2}}
    teach(graph, tmp_path / "ours", {"split": "public", **few})
    teach(graph, tmp_path / "theirs", {"split": "random:40/20/40:0", **few})
    export(tmp_path / "ours", graph, tmp_path / "cache", ExportSettings())
    distill(tmp_path / "cache", tmp_path / "alone", {"student": "mlp", "preset": "none", **few})
    with pytest.raises(IntegrityError, match="may have learned from test nodes"):
        evaluate(Sources(tmp_path / "alone", graph, None, tmp_path / "theirs"))
    evaluate(Sources(tmp_path / "alone", graph, None, tmp_path / "ours"))


def test_a_refused_stage_leaves_nothing_and_blocks_nothing(tmp_path: Path) -> None:
    graph = tmp_path / "graph"
    with Stage(graph, "graph", {}, {}, 0) as stage:
        write_graph(ring(), stage.path)
        stage.commit({})
    with pytest.raises(G2TError):
        teach(graph, tmp_path / "t", {"train": {"epochs": 2}}, device="cuda:99")
    teach(graph, tmp_path / "t", {"train": {"epochs": 1}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "t"]


def stored(graph: Graph, path: Path) -> Path:
    with Stage(path, "graph", {}, {}, 0) as stage:
        write_graph(graph, stage.path)
        stage.commit({})
    return path


def test_large_columns_mean_the_same_in_cache_and_graph(tmp_path: Path) -> None:
    """40,000 + i loses its i in fp16; what a student learns must hold on the exact graph."""
    from g2t.distill.train import distill
    from g2t.export import ExportSettings, export

    graph = ring()
    features = torch.stack([40_000 + graph.labels.float(), torch.full((20,), 40_000.1)], 1)
    place = stored(replace(graph, features=features), tmp_path / "graph")
    teach(place, tmp_path / "t", {"train": {"epochs": 2}})
    export(tmp_path / "t", place, tmp_path / "c", ExportSettings())
    values = {"student": "mlp", "preset": "none", "train": {"epochs": 60, "ema": 0.0}}
    made = distill(tmp_path / "c", tmp_path / "s", values)
    result = evaluate(Sources(made.path, place))
    assert result["student"]["val"] == made.record["summary"]["val"] == 1.0


def test_run_leaves_other_folders_alone(tmp_path: Path) -> None:
    place = stored(ring(), tmp_path / "graph")
    before = (place / "run.json").read_bytes()
    recipe = read_recipe({"source": "synthetic:csbm", "import": CSBM, "split": "cpf"})
    with pytest.raises(InputError, match="holds something else"):
        run(recipe, [0], place, root=None, device="cpu", force=True, progress=Silent())
    assert (place / "run.json").read_bytes() == before


def test_a_linked_out_is_written_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    stored(ring(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "graph.json").is_file()


def test_an_artefact_is_called_as_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        made = import_graph("synthetic:csbm", Path("runs/g"), CSBM, None, Silent(), False)
        assert str(made.path) == "runs/g"


def test_a_share_needs_something_to_be_a_share_of() -> None:
    with pytest.raises(UsageError, match="every loss has a share"):
        distill_settings({"loss": {"soft": {"share": 0.1}}})


def test_a_recipe_student_is_found_by_its_own_name() -> None:
    values = gather("distill", "recipe:cora", [], {"student": "landmark-no-teacher"})
    assert values == {"student": "landmark", "preset": "none"}
    values = gather("distill", "recipe:cora", ["student=hop", "train.epochs=2"], {})
    assert values == {"student": "hop", "train": {"epochs": 2}}


def test_a_printed_config_follows_another_preset() -> None:
    changed = {"preset": "paper", "loss": {"gram": {"share": 0.2}}}
    printed = as_values(distill_settings(changed))
    assert printed["loss"] == {"gram": {"share": 0.2}}
    assert distill_settings(printed).model_dump() == distill_settings(changed).model_dump()
    none = distill_settings({**as_values(distill_settings({})), "preset": "none"})
    assert list(none.losses()) == ["hard"]


def test_a_printed_config_follows_another_size() -> None:
    changed = {"student": "hop", "size": "base", "model": {"hidden": 96, "heads": 2}}
    printed = as_values(distill_settings(changed))
    assert distill_settings(printed).model_dump() == distill_settings(changed).model_dump()
    tiny = distill_settings({**printed, "size": "tiny"}).model
    assert (tiny.hidden, tiny.heads, tiny.landmarks) == (96, 2, 16)
    base = distill_settings({**as_values(distill_settings({})), "size": "base"}).model
    assert (base.hidden, base.landmarks) == (128, 64)


def test_the_log_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    with Stage(tmp_path / "a", "thing", {}, {}, 0) as stage:
        for epoch in range(3):
            stage.log({"epoch": epoch})
        log = stage.path / "metrics.jsonl"
        log.write_text(log.read_text() + '{"epoch": 3, "tor')
        stage.rewind(2)
        stage.log({"epoch": 2})
        lines = log.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]


@pytest.mark.parametrize(
    ("texts", "classes", "labels"),
    [
        (["2", "nan", "10", "1"], ("1", "2", "10"), [1, -1, 2, 0]),
        (["1_0", "10", "", "N/A"], ("10", "1_0"), [1, 0, -1, -1]),
        (["1152921504606846976", "1152921504606846977"], None, [0, 1]),
        (["1.0", "-1", "0"], ("0", "1"), [1, -1, 0]),
    ],
)
def test_labels_are_whole_numbers_or_names(
    texts: list[str], classes: tuple[str, ...] | None, labels: list[int]
) -> None:
    column = ClassColumn(Table(Path("nodes.csv"), ("id", "y")), "y")
    column.take(Chunk({"y": texts}, range(2, len(texts) + 2)))
    label_N, names = column.labels(len(texts))
    assert label_N.tolist() == labels
    assert names == (classes or tuple(texts))


def test_entry_points_are_sought_in_the_documented_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def none(group: str, name: str) -> list[object]:
        asked.append(group)
        return []

    monkeypatch.setattr(g2t.config, "entry_points", none)
    for what in ("teacher", "student", "loss", "source"):
        with pytest.raises(UsageError):
            g2t.config.look_up({}, "x", what)
    assert asked == ["g2t.teachers", "g2t.students", "g2t.losses", "g2t.sources"]
