"""Exported models answer as their student does, on any batch, and say what they take."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from g2t import load_student
from g2t.artifact import write_json
from g2t.errors import CheckFailed
from g2t.serve import export
from g2t.serve.portable import OUTPUTS, feeds
from g2t.stage import Stage
from g2t_cli.app import app
from tests.serve.conftest import NAMES, Make

ENDS = np.array([[0, 1, 2, 3, 3], [1, 2, 3, 0, 9]])


def g2t(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize(
    ("student", "kind", "to", "options"),
    [
        ("landmark", "csr", "onnx", {}),
        ("mlp", "dense", "torch-export", {"task": "multilabel", "names": NAMES}),
        ("hop", "csr", "onnx", {"high_pass": True}),
        ("hop", "dense", "torch-export", {"high_pass": True, "hops": 2}),
    ],
)
def test_an_exported_model_answers_as_its_student(
    make: Make, tmp_path: Path, student: str, kind: str, to: str, options: dict[str, Any]
) -> None:
    path = make(student, kind=kind, width=4 if "names" in options else 7, **options)
    done = g2t("model", "export", path, "--to", to, "--out", tmp_path / "out")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'out'}\n"), done.stderr
    told = json.loads((tmp_path / "out" / "serving.json").read_text())
    served = load_student(path)
    assert told["classes"] == list(served.classes)
    assert tuple(told["preprocessing"]["names"] or ()) == options.get("names", ())
    run = export.open_exported(tmp_path / "out" / told["file"], list(told["inputs"]))
    rows = np.random.default_rng(0).normal(size=(10, served.width)).astype(np.float32)
    rows[np.abs(rows) < 0.8] = 0
    for hops in range(served.hops + 1):
        fed = feeds(served, rows, ENDS, hops=hops)
        assert {k: str(v.dtype) for k, v in fed.items()} == {
            k: v["dtype"] for k, v in told["inputs"].items()
        }
        answer = served.predict(rows, ENDS, hops=hops)
        expected = answer.logits_NC, answer.probabilities_NC, answer.embeddings_ND
        for name, mine, theirs in zip(OUTPUTS, expected, run(fed), strict=True):
            assert list(theirs.shape) == [10, told["outputs"][name]["shape"][1]]
            assert np.allclose(mine.numpy(), theirs, atol=1e-4), name


def test_a_model_that_answers_otherwise_is_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_one = export.open_exported

    def wrong(path: Path, names: list[str]) -> Callable[[dict[str, Any]], list[Any]]:
        run = true_one(path, names)
        return lambda fed: [output + np.float32(3e-3) for output in run(fed)]

    monkeypatch.setattr(export, "open_exported", wrong)
    with pytest.raises(CheckFailed, match="logits differ from the student's by 3"):
        export.export_model(load_student(make("mlp")), tmp_path / "out", "torch-export")
    assert [path.name for path in tmp_path.iterdir()] == ["student-mlp-dense-multiclass"]


def test_what_cannot_be_exported_and_what_is_in_the_way(make: Make, tmp_path: Path) -> None:
    near = g2t(
        "model", "export", make("hop", neighbours=2), "--to", "onnx", "--out", tmp_path / "o"
    )
    assert (near.exit_code, "single neighbours" in near.stderr) == (3, True)
    student, foreign = make("mlp"), tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    for out in (foreign, student):
        taken = g2t("model", "export", student, "--to", "hf", "--out", out, "--force")
        assert (taken.exit_code, "no exported model" in taken.stderr) == (3, True)
    assert (foreign / "thesis.tex").exists()
    assert load_student(student).name == "mlp"
    usage = g2t("model", "export", student, "--to", "onnx", "--push", "me/it", "--out", foreign)
    assert usage.exit_code == 2


def test_without_its_package_onnx_names_the_extra(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = g2t("model", "export", make("mlp"), "--to", "onnx", "--out", tmp_path / "out")
    assert (done.exit_code, "pip install 'g2t[onnx]'" in done.stderr) == (69, True)


def test_a_hub_folder_is_a_student(make: Make, tmp_path: Path) -> None:
    path, hub = make("hop", names=NAMES), tmp_path / "hub"
    assert g2t("model", "export", path, "--to", "hf", "--out", hub).exit_code == 0
    files = sorted(file.name for file in hub.iterdir())
    assert files == ["README.md", "config.json", "model.safetensors"]
    mine, theirs = load_student(path), load_student(hub)
    assert theirs.digest == mine.digest
    assert theirs.feature_names == NAMES
    rows = np.random.default_rng(0).normal(size=(3, 4))
    assert torch.equal(mine.predict(rows).logits_NC, theirs.predict(rows).logits_NC)
    again = g2t("model", "export", hub, "--to", "hf", "--out", tmp_path / "again")
    assert again.exit_code == 0
    assert (tmp_path / "again" / "config.json").read_bytes() == (hub / "config.json").read_bytes()
    config = json.loads((hub / "config.json").read_text())
    config["student"]["classes"].reverse()
    newer = {**config, "schema": "g2t.hub/2"}
    for content, said in ((config, "was changed"), (newer, "'g2t.hub/2'"), ({}, "schema None")):
        write_json(hub / "config.json", content)
        done = g2t("predict", hub, "-")
        assert (done.exit_code, said in done.stderr) == (4, True), done.stderr


def test_pushing_sends_three_files_and_only_when_asked(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any]] = []

    class HfApi:
        def create_repo(self, repository: str, exist_ok: bool) -> str:
            calls.append(("create", repository))
            return f"https://hub/{repository}"

        def upload_folder(self, repo_id: str, folder_path: Path, allow_patterns: list[str]) -> None:
            calls.append((repo_id, sorted(allow_patterns)))

    hub = ModuleType("huggingface_hub")
    hub.HfApi = HfApi  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    path, asked = make("mlp"), ["--to", "hf", "--out", tmp_path / "out"]
    assert g2t("model", "export", path, *asked).exit_code == 0
    assert calls == []
    done = g2t("model", "export", path, *asked, "--force", "--push", "me/it")
    assert (done.exit_code, "https://hub/me/it" in done.stderr) == (0, True)
    files = ["README.md", "config.json", "model.safetensors"]
    assert calls == [("create", "me/it"), ("me/it", files)]


def evaluation(folder: Path, student: str, graph: str, test: float, name: str = "hop") -> Path:
    content = {
        "schema": "g2t.evaluation/1",
        "task": "multiclass",
        "metric": "accuracy",
        "split": {"name": "public", "digest": "sha256:1"},
        "student": {"name": name, "val": 0.5, "test": test, "by_hops": {}},
        "teacher": {"name": "gcn", "val": 0.5, "test": 0.75},
        "agreement": 0.9,
        "card": {
            "students": [
                {"role": "student", "inheritance": {"edge": {"value": 0.2}, "core": {"value": 0.9}}}
            ]
        },
    }
    with Stage(folder, "evaluation", {}, {"student": student, "graph": graph}, 0) as stage:
        write_json(stage.path / "evaluation.json", content)
        stage.commit({})
    return folder


def test_the_card_tells_lineage_figures_and_weaknesses(make: Make, tmp_path: Path) -> None:
    path = make("hop", names=NAMES)
    own = evaluation(tmp_path / "own", load_student(path).digest, "sha256:0", 0.8)
    other = evaluation(tmp_path / "other", "sha256:9", "sha256:0", 0.7)
    done = g2t("model", "card", path, "--evaluation", own, "--evaluation", other)
    assert done.exit_code == 0, done.stderr
    for said in (
        "toy (`sha256:0`)",
        "public, transductive",
        "gcn, 2 hidden layers",
        "soft (weight 1.0)",
        "| this student | 50.00 ± 0.00 | 75.00 ± 7.07 |",
        "on 90.00 ± 0.00 % of the test nodes",
        "inherits little of edge 20%.",
        "age, height, income, clicks",
        "within 3 hops",
        "2503.01888",
    ):
        assert said in done.stdout, said
    alone = g2t("model", "card", path, "--evaluation", other)
    assert (alone.exit_code, "none of these is an evaluation of" in alone.stderr) == (4, True)
    foreign = evaluation(tmp_path / "foreign", "sha256:9", "sha256:7", 0.7)
    assert g2t("model", "card", path, "--evaluation", foreign).exit_code == 4
