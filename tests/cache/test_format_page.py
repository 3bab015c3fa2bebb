"""The page that another engine is written from: its example runs, and its tables are the code's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2t.cache.check import open_cache
from g2t.cache.format import (
    DTYPES,
    DtypeName,
    Manifest,
    MemberEntry,
    ShardEntry,
    Temperature,
    TensorEntry,
)
from g2t.cache.rules import TYPES
from g2t.cache.verify import verify
from g2t.config import Settings
from g2t.distill.train import distill
from g2t_cli.app import app

PAGE = (Path(__file__).parents[2] / "data" / "CACHE_FORMAT.md").read_text(encoding="utf-8")


def example() -> str:
    found = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def section(title: str) -> str:
    return re.split(r"^#{2,3} ", PAGE.split(f" {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "writer.py").write_text(example(), encoding="utf-8")
    command = [sys.executable, "-W", "error", "writer.py", "my-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "my-cache"


def test_the_example_is_short_and_needs_no_g2t() -> None:
    assert len(example().splitlines()) <= 60
    imported = set(re.findall(r"^(?:from|import) (.+)$", example(), flags=re.MULTILINE))
    assert imported == {
        "hashlib, json, sys",
        "pathlib import Path",
        "numpy as np, xxhash",
        "safetensors.numpy import save_file",
    }


def test_the_example_writes_a_cache(written: Path) -> None:
    cache = open_cache(written)
    found = verify(cache)
    assert (found["rows"], found["files"]) == (300, 11)
    assert [shard.stop for shard in cache.manifest.shards_of("features")] == [128, 256, 300]
    assert 0 < cache.entry("teacher-h1").relative_error < 1e-3
    answers = cache.logits().float().argmax(1)
    seen = cache.labels >= 0
    assert int(seen.sum()) == 120
    assert bool((answers[seen] == cache.labels[seen]).all())


@pytest.mark.parametrize("student", ["mlp", "landmark", "hop"])
def test_a_student_learns_from_the_example(written: Path, tmp_path: Path, student: str) -> None:
    values = {"student": student, "model": {"hidden": 8}, "train": {"epochs": 2}}
    made = distill(written, tmp_path / "student", values, device="cpu")
    assert (made.path / "model.safetensors").is_file()
    assert made.inputs["cache/teacher-logits"] == open_cache(written).manifest.digest_of(
        "teacher-logits"
    )


def test_the_page_names_every_field_and_no_other() -> None:
    text = section("`manifest.json`")
    rows = re.findall(r"^\| (`[^|]*`) \|", text, flags=re.MULTILINE)
    tabled = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert tabled == set(Manifest.model_fields) - {"schema_"} | {"schema"}
    titles: dict[str, type[Settings]] = {
        "tensor entry": TensorEntry,
        "shard": ShardEntry,
        "member": MemberEntry,
        "temperature": Temperature,
    }
    for title, model in titles.items():
        paragraph = next(p for p in text.split("\n\n") if f"**{title}**" in p)
        assert set(model.model_fields) <= set(re.findall(r"`(\w+)`", paragraph))


def test_the_command_verifies_the_example(written: Path) -> None:
    result = CliRunner().invoke(app, ["cache", "verify", str(written), "--quiet"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{written}: sound: 3 tensors of 300 rows in 11 files")


def test_the_page_names_every_type_and_kind() -> None:
    types = set(re.findall(r"`(fp\d+|bf16|int\d+)`", section("Types")))
    assert types == set(DTYPES)
    kinds = re.findall(r"^\| `(\w+)` \|", PAGE.split("### Kinds")[1].split("###")[0], re.MULTILINE)
    assert set(kinds) == set(TYPES)
    assert set(DtypeName.__args__) < types  # type: ignore[attr-defined]
