"""The report as an artefact, and its three files."""

import json
import re
import shutil
from html import unescape
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from g2t.artifact import open_artifact
from g2t.errors import IntegrityError, MissingExtra
from g2t.report import report
from made import g2t


@pytest.fixture(scope="session")
def page(small: Path) -> Path:
    """A report with all that this version's evaluations can say."""
    out = small / "report"
    made = g2t("report", small / "run", small / "later", "--out", out)
    assert made.exit_code == 0, made.stderr
    assert made.stdout.splitlines() == [str(out / "index.html"), str(out)]
    return out


def test_it_is_an_artefact_of_three_files(page: Path) -> None:
    artifact = open_artifact(page, "report")
    assert set(artifact.record["outputs"]) == {"index.html", "report.md", "report.json"}
    assert artifact.record["summary"] == {"tables": 1, "students": 2}


def test_the_same_runs_again_are_done_and_others_refused(page: Path, small: Path) -> None:
    before = (page / "index.html").stat().st_mtime_ns
    again = g2t("report", small / "run", small / "later", "--out", page, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == json.loads((page / "report.json").read_text())
    assert (page / "index.html").stat().st_mtime_ns == before
    other = g2t("report", small / "run", "--out", page)
    assert (other.exit_code, "other settings or inputs" in other.stderr) == (3, True)


def test_moved_runs_give_the_same_bytes_and_force_replaces(
    page: Path, small: Path, tmp_path: Path
) -> None:
    shutil.copytree(small / "run", tmp_path / "moved")
    shutil.copytree(small / "later", tmp_path / "later")
    moved = report([tmp_path / "moved", tmp_path / "later"], tmp_path / "out")
    assert open_artifact(tmp_path / "out", "report").digest == open_artifact(page, "report").digest
    one = report([tmp_path / "moved"], tmp_path / "out", force=True)
    assert moved["cells"][0]["degree"] is not None
    assert one["cells"][0]["degree"] is None


def test_the_page_asks_for_nothing_and_needs_no_script(page: Path) -> None:
    text = (page / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|<iframe|@import|javascript:|\son\w+=", text)
    assert set(re.findall(r"https?://[^\s\"<]*", text)) <= {"http://www.w3.org/1999/xlink"}
    used = re.findall(r'(?:href="#|url\(#)([^")]*)', text)
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert used
    assert set(used) <= set(ids)
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= set(re.findall(r"--(\w+):", text))
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.S):
        root = ElementTree.fromstring(svg)
        assert root.get("aria-hidden") or (root.get("role") == "img" and root.get("aria-label"))


def test_no_figure_has_a_fixed_colour_or_is_empty(page: Path) -> None:
    text = (page / "index.html").read_text(encoding="utf-8")
    panels = re.findall(r'<div class="panel">.*?</svg>', text, flags=re.S)
    assert len(panels) >= 10
    for panel in panels:
        assert not re.search(r"#[0-9a-f]{6}\b", panel)
        assert panel.count("<path") + panel.count("<use") > 2
        assert "nan" not in panel.lower()


def test_all_three_say_the_same(page: Path) -> None:
    content = json.loads((page / "report.json").read_text())
    (cell,), lineage = content["cells"], content["lineage"]
    html, markdown = ((page / name).read_text("utf-8") for name in ("index.html", "report.md"))
    for row in cell["headline"]["rows"]:
        mean, std = (f"{100 * row['test'][part]:.2f}" for part in ("mean", "std"))
        assert re.search(rf"<td class=\"num main\">{mean} <span class=\"pm\">± {std}</span>", html)
        assert re.search(rf"^\| {row['label']} \|.* {mean} ± {std} \|", markdown, flags=re.M)
    for part, command in cell["absent"].items():
        assert part in ("latency", "robust")
        assert command in html
        assert command in markdown
    for digest in [split["digest"] for split in cell["splits"]]:
        assert digest[7:19] in html
        assert digest[7:19] in markdown
    for line in lineage:
        assert line["command"] in unescape(html)
        assert line["command"] in markdown


def test_every_table_of_the_markdown_is_even(page: Path) -> None:
    lines = (page / "report.md").read_text("utf-8").splitlines()
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    for before, width in pairwise(widths):
        assert width == before or 0 in (width, before)
    assert max(widths) > 4


def test_embeddings_need_the_graph_of_the_students(small: Path, tmp_path: Path) -> None:
    student = tmp_path / "alone/evaluation-mlp"
    shutil.copytree(small / "run/seed-0/evaluation-mlp", student)
    shutil.copytree(small / "run/seed-0/student-mlp", tmp_path / "alone/student-mlp")
    (cell,) = report([student], tmp_path / "without")["cells"]
    assert "--graph" in cell["absent"]["projection"]
    (cell,) = report([student], tmp_path / "with", graph=small / "run/graph")["cells"]
    panel = cell["projection"]["panels"][0]
    assert (panel["label"], panel["method"], len(panel["points"])) == ("mlp", "pca", 120)
    made = g2t("import", "synthetic:csbm", "--set", "nodes=50", "--out", tmp_path / "other")
    assert made.exit_code == 0
    with pytest.raises(IntegrityError, match="no student of this report"):
        report([student], tmp_path / "foreign", graph=tmp_path / "other")


def test_without_the_extra_it_says_what_to_install(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("g2t.report.run.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="matplotlib and jinja2") as caught:
        report([small / "run"], tmp_path / "out")
    assert caught.value.hint == "pip install 'g2t[report]'"
    result = g2t("report", small / "run", "--out", tmp_path / "out")
    assert result.exit_code == 69
    assert not (tmp_path / "out").exists()


def test_nothing_to_report_leaves_nothing_behind(small: Path, tmp_path: Path) -> None:
    for words, code in (((small / "run",), 2), ((tmp_path, "--out", tmp_path / "out"), 3)):
        assert g2t("report", *words).exit_code == code
    assert list(tmp_path.iterdir()) == []
