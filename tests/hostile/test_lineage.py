"""Caches that g2t itself wrote, put together wrongly: another graph, another teacher."""

import shutil
from pathlib import Path

import pytest

from g2t.artifact import outputs_digest
from g2t.cache.check import open_cache
from g2t.distill.train import distill, plan_student
from g2t.errors import InputError, IntegrityError
from g2t.evaluate import Sources, evaluate
from g2t.export import ExportSettings, export
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
from g2t.stored import read_header
from g2t.teacher.train import teach
from judging import DISTIL, g2t, refused
from spoiling import LOGITS, file_of, identity, sign, write_cache


def walk(folder: Path, seed: int) -> Path:
    """Make graph, teacher, cache and student in a folder."""
    csbm = {"nodes": 60, "degree": 4.0, "classes": 3, "features": 8, "seed": seed}
    graph = import_graph("synthetic:csbm", folder / "graph", csbm, None, Silent(), False).path
    values = {"split": "random:40/20/40:0", "model": {"hidden": 8}, "train": {"epochs": 3}}
    teacher = teach(graph, folder / "teacher", values, device="cpu").path
    export(teacher, graph, folder / "cache", ExportSettings(shard_rows=20, hops=1))
    student = {"student": "mlp", "model": {"hidden": 8}, "train": {"epochs": 2}}
    distill(folder / "cache", folder / "student", student, device="cpu")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walk(tmp_path_factory.mktemp("home"), 0)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walk(tmp_path_factory.mktemp("foreign"), 1)


@pytest.fixture
def cache(home: Path, tmp_path: Path) -> Path:
    """A copy of a sound cache, to be spoilt."""
    return shutil.copytree(home / "cache", tmp_path / "cache")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("cache", "was not distilled from cache .*: graph differs"),
        ("graph", "learned from graph csbm .* this graph is csbm"),
        ("teacher", "cache .* was not made from this teacher"),
    ],
)
def test_a_part_of_another_lineage_is_refused(
    home: Path, foreign: Path, part: str, said: str
) -> None:
    sources = {name: home / name for name in ("student", "graph", "cache", "teacher")}
    assert evaluate(Sources(**sources))["student"]["name"] == "mlp"
    with pytest.raises(IntegrityError, match=said) as caught:
        evaluate(Sources(**{**sources, part: foreign / part}))
    assert caught.value.code == 4


def test_another_graphs_cache_with_a_student_at_the_command_line(
    home: Path, foreign: Path, tmp_path: Path
) -> None:
    outcome = g2t(
        "eval", home / "student", "--graph", home / "graph", "--cache", foreign / "cache",
        "--out", tmp_path / "evaluation",
    )  # fmt: skip
    refused(outcome, 4, "was not distilled from cache", foreign / "cache")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_of_the_wrong_kind_at_the_command_line(home: Path, tmp_path: Path) -> None:
    outcome = g2t("distill", home / "teacher", *DISTIL, "--out", tmp_path / "student")
    refused(outcome, 3, "is a teacher, not a cache", home / "teacher")
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_teacher_is_refused_without_a_cache_too(home: Path, foreign: Path) -> None:
    sources = Sources(home / "student", home / "graph", None, foreign / "teacher")
    with pytest.raises(IntegrityError, match="did not learn from teacher"):
        evaluate(sources)


def test_a_teacher_exports_only_its_own_graph(home: Path, foreign: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="learned from graph csbm"):
        export(foreign / "teacher", home / "graph", tmp_path / "cache", ExportSettings())
    assert list(tmp_path.iterdir()) == []


def test_another_teachers_shards_of_the_same_graph(home: Path, cache: Path, foreign: Path) -> None:
    """The shard is sound and of the same rows, and even signed: the student knows another one."""
    for index in range(3):
        shutil.copy(foreign / "cache" / file_of(LOGITS, index), cache / file_of(LOGITS, index))
    with pytest.raises(IntegrityError, match=r"teacher-logits-0000\d.safetensors"):
        open_cache(cache)
    sign(cache)
    open_cache(cache)
    with pytest.raises(IntegrityError, match="teacher-logits differs"):
        evaluate(Sources(home / "student", home / "graph", cache, home / "teacher"))


def test_a_moved_cache_is_the_same_cache(home: Path, cache: Path) -> None:
    sources = Sources(home / "student", home / "graph", cache, home / "teacher")
    assert evaluate(sources)["agreement"] is not None


def test_a_cache_of_another_kind_is_an_input_error(home: Path) -> None:
    with pytest.raises(InputError, match="is a teacher, not a cache"):
        open_cache(home / "teacher")
    with pytest.raises(InputError, match="there is no cache at"):
        open_cache(home / "nothing")


def test_opening_a_cache_writes_nothing_into_it(cache: Path) -> None:
    before = {file: (file.stat().st_mtime_ns, identity(file)) for file in cache.iterdir()}
    stamp = cache.stat().st_mtime_ns
    plan_student(cache, {"student": "mlp"})
    for remembered in (True, False):
        opened = open_cache(cache, remembered)
        for entry in opened.manifest.tensors:
            opened.whole(entry.name)
    assert {f: (f.stat().st_mtime_ns, identity(f)) for f in cache.iterdir()} == before
    assert cache.stat().st_mtime_ns == stamp


def test_the_caches_of_these_tests_look_like_those_of_g2t(cache: Path, tmp_path: Path) -> None:
    """Both writers fill the same fields, or the hostile cases would spoil another format."""
    ours = open_cache(write_cache(tmp_path / "ours"))
    theirs = open_cache(cache)
    assert set(ours.graph) == set(theirs.graph)
    for name in (LOGITS, "features", "tokens-1"):
        for mine, other in zip(ours.shards[name], theirs.shards[name], strict=True):
            assert (mine[0].file, mine[0].start, mine[0].stop) == (
                (other[0].file, other[0].start, other[0].stop)
            )
            assert [stored.shape for stored in mine[1].values()] == [
                stored.shape for stored in other[1].values()
            ]
            folders = (tmp_path / "ours", cache)
            first, second = (read_header(folder / mine[0].file)[1] for folder in folders)
            assert first == second
    digest = theirs.artifact.digest
    sign(cache)
    assert open_cache(cache).artifact.digest != digest  # its manifest is formatted otherwise
    assert outputs_digest(theirs.artifact.record["outputs"]) == digest
