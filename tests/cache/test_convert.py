"""Conversion changes the type of what the teacher says, bounds its error, and nothing else."""

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from g2t.artifact import open_artifact
from g2t.cache.check import open_cache
from g2t.cache.convert import ConvertSettings, convert
from g2t.cache.format import CLUSTERS, CODES, EDGE_SCORES, RELIABILITY, Manifest, shard_name
from g2t.cache.reader import Cache
from g2t.cache.writer import CacheWriter
from g2t.errors import InputError, IntegrityError, Stopped, UsageError
from g2t.runtime import Silent
from g2t_cli.app import app

#: See `make_cache` in conftest.py: where a cache lies, and what was written into it.
MakeCache = Callable[..., Any]
TAUGHT = ("teacher-h1", "teacher-h2", "teacher-logits")


class Notes(Silent):
    """A progress that keeps its notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def converted(made: Any, out: Path, **settings: Any) -> Cache:
    convert(made.path, out, ConvertSettings.model_validate(settings))
    return open_cache(out)


def read(cache: Cache, name: str) -> Tensor:
    return cache.whole(name).float()


def files_of(cache: Cache, name: str) -> list[bytes]:
    shards = cache.manifest.shards_of(name)
    return [(cache.artifact.path / shard.file).read_bytes() for shard in shards]


def error_of(cache: Cache, name: str) -> float:
    return cache.entry(name).relative_error


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int8"])
def test_what_the_teacher_says_changes_its_type_and_errs_as_recorded(
    make_cache: MakeCache, tmp_path: Path, dtype: str
) -> None:
    made = make_cache()
    cache = converted(made, tmp_path / "out", dtype=dtype)
    for name in TAUGHT:
        assert (cache.entry(name).dtype, cache.entry(name).kind) == (dtype, "dense")
        wanted, found = made.values[name], read(cache, name)
        # Each shard's error is over its own largest magnitude, and the recorded is their largest.
        errors = [
            float((f - w).abs().max() / w.abs().max())
            for f, w in zip(torch.split(found, 20), torch.split(wanted, 20), strict=True)
        ]
        assert error_of(cache, name) == pytest.approx(max(errors))
        assert (error_of(cache, name) > 0) == (dtype != "fp32")


@pytest.mark.parametrize(("sparse", "projected"), [(False, False), (True, False), (True, True)])
def test_all_else_is_the_same_bytes(
    make_cache: MakeCache, tmp_path: Path, sparse: bool, projected: bool
) -> None:
    made = make_cache(sparse=sparse, projected=projected)
    source, cache = made.open(), converted(made, tmp_path / "out", dtype="int8")
    kept = ["features", CODES, CLUSTERS, EDGE_SCORES, RELIABILITY]
    if not sparse or projected:
        kept += ["tokens-1", "tokens-2"]
    else:  # as in an export, which stores no tokens as int8
        assert cache.entry("tokens-1").dtype == "fp16"
    for name in kept:
        assert files_of(cache, name) == files_of(source, name)
        assert cache.entry(name) == source.entry(name)
        assert cache.manifest.digest_of(name) == source.manifest.digest_of(name)
    for file in ("graph.safetensors", *(["projection.safetensors"] if projected else [])):
        assert (cache.artifact.path / file).read_bytes() == (made.path / file).read_bytes()
        assert not (cache.artifact.path / file).is_symlink()
        assert (cache.artifact.path / file).stat().st_nlink == 1
    for field in Manifest.model_fields.keys() - {"tensors", "shards"}:
        assert getattr(cache.manifest, field) == getattr(source.manifest, field)


def test_the_record_names_the_source_by_digest(make_cache: MakeCache, tmp_path: Path) -> None:
    made = make_cache()
    cache = converted(made, tmp_path / "out", dtype="fp16", topk=2)
    record = open_artifact(tmp_path / "out", "cache").record
    assert record["inputs"] == {"cache": open_artifact(made.path, "cache").digest}
    assert record["config"] == {"dtype": "fp16", "topk": 2}
    assert record["summary"]["rows"] == 50
    assert record["summary"]["relative_error"]["teacher-h1"] == error_of(cache, "teacher-h1")


def test_topk_is_for_logits_alone(make_cache: MakeCache, tmp_path: Path) -> None:
    made = make_cache()
    cache = converted(made, tmp_path / "out", dtype="fp32", topk=2)
    logits, wanted = cache.entry("teacher-logits"), made.values["teacher-logits"]
    assert (logits.kind, logits.topk, logits.width) == ("topk", 2, 5)
    assert {cache.entry(name).kind for name in ("teacher-h1", "teacher-h2")} == {"dense"}
    found = read(cache, "teacher-logits")
    best = wanted.topk(2, 1).indices
    assert torch.equal(found.gather(1, best), wanted.gather(1, best))
    torch.testing.assert_close(found.logsumexp(1), wanted.logsumexp(1))


def test_topk_again_keeps_fewer_of_the_kept(make_cache: MakeCache, tmp_path: Path) -> None:
    made = make_cache(dtype="fp16", topk=3)
    same = converted(made, tmp_path / "same", dtype="fp16")
    assert files_of(same, "teacher-logits") == files_of(made.open(), "teacher-logits")
    fewer = converted(made, tmp_path / "fewer", dtype="fp32", topk=1)
    before, after = read(made.open(), "teacher-logits"), read(fewer, "teacher-logits")
    assert torch.equal(after.max(1).values, before.max(1).values)
    torch.testing.assert_close(after.logsumexp(1), before.logsumexp(1), rtol=1e-5, atol=1e-5)
    assert fewer.entry("teacher-logits").topk == 1
    for settings, said in (
        ({"dtype": "fp16", "topk": 4}, "--topk 4 is more than the 3 logits that a row"),
        ({"dtype": "int8"}, "top-k logits are not stored as int8"),
    ):
        with pytest.raises(UsageError, match=said):
            converted(made, tmp_path / "none", **settings)
    assert not (tmp_path / "none").exists()


def test_errors_of_two_conversions_bound_the_distance_from_the_teacher(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    made = make_cache(dtype="bf16")
    cache = converted(made, tmp_path / "out", dtype="int8")
    source = made.open()
    for name in TAUGHT:
        first, second = error_of(source, name), error_of(cache, name)
        own = max(
            float((f - w).abs().max() / w.abs().max())
            for f, w in zip(
                torch.split(read(cache, name), 20), torch.split(read(source, name), 20), strict=True
            )
        )
        assert second == pytest.approx(first + own * (1 + first))
        wanted = made.values[name]
        assert float((read(cache, name) - wanted).abs().max() / wanted.abs().max()) <= second


def test_a_wider_type_regains_nothing_and_says_so(make_cache: MakeCache, tmp_path: Path) -> None:
    made, notes = make_cache(sparse=True, dtype="fp16"), Notes()
    convert(made.path, tmp_path / "out", ConvertSettings(dtype="fp32"), progress=notes)
    cache, source = open_cache(tmp_path / "out"), made.open()
    for name in (*TAUGHT, "tokens-1"):
        assert torch.equal(read(cache, name), read(source, name))
        assert error_of(cache, name) == error_of(source, name) > 0
    assert len(notes.texts) == 1
    assert "regains nothing" in notes.texts[0]
    assert "teacher-h1" in notes.texts[0]
    narrow = Notes()
    convert(made.path, tmp_path / "narrow", ConvertSettings(dtype="int8"), progress=narrow)
    assert narrow.texts == []


def test_the_same_type_is_the_same_cache(make_cache: MakeCache, tmp_path: Path) -> None:
    made = make_cache(dtype="fp16")
    cache = converted(made, tmp_path / "out", dtype="fp16")
    source = made.open()
    assert cache.manifest == source.manifest
    assert cache.artifact.digest == source.artifact.digest


def test_a_cache_of_another_writer_is_converted(make_cache: MakeCache, tmp_path: Path) -> None:
    """Shards need neither our file names nor our headers."""
    from safetensors.torch import load_file, save_file

    from g2t.artifact import file_identity, outputs_digest

    made = make_cache()
    manifest = json.loads((made.path / "manifest.json").read_text())
    for shard in manifest["shards"]:
        old, shard["file"] = made.path / shard["file"], f"x.{shard['file'][:-12]}.st"
        save_file(load_file(old), made.path / shard["file"])
        old.unlink()
        shard.update(file_identity(made.path / shard["file"]))
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    record = json.loads((made.path / "run.json").read_text())
    files = [f for f in made.path.iterdir() if f.name not in ("run.json", "metrics.jsonl")]
    record["outputs"] = {f.name: file_identity(f) for f in files}
    record["digest"] = outputs_digest(record["outputs"])
    (made.path / "run.json").write_text(json.dumps(record))
    cache = converted(made, tmp_path / "out", dtype="fp16")
    assert torch.equal(read(cache, "features"), made.values["features"])
    assert torch.equal(read(cache, "teacher-h1"), made.values["teacher-h1"].half().float())
    assert {shard.file for shard in cache.manifest.shards_of("features")} == {
        shard_name("features", index) for index in range(3)
    }


def test_an_interrupted_conversion_goes_on_where_it_stopped(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_cache()
    whole = converted(made, tmp_path / "whole", dtype="fp16")
    adopt = CacheWriter.adopt
    finished: list[str] = []

    def interrupted(writer: CacheWriter, temporary: Path, file: str, error: float = 0.0) -> None:
        if len(finished) == 12:
            raise KeyboardInterrupt
        adopt(writer, temporary, file, error)
        finished.append(file)

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "adopt", interrupted)
        with pytest.raises(KeyboardInterrupt):
            converted(made, tmp_path / "out", dtype="fp16")
    assert not (tmp_path / "out").exists()
    stamps = {name: (tmp_path / "out.partial" / name).stat().st_mtime_ns for name in finished}
    cache = converted(made, tmp_path / "out", dtype="fp16")
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in finished} == stamps
    assert cache.artifact.digest == whole.artifact.digest


def test_a_signal_ends_it_after_a_shard(make_cache: MakeCache, tmp_path: Path) -> None:
    made = make_cache()
    whole = converted(made, tmp_path / "whole", dtype="fp16")

    class Impatient(Silent):
        def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
            if done == 8:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match="stopped by SIGTERM") as caught:
        convert(made.path, tmp_path / "out", ConvertSettings(dtype="fp16"), progress=Impatient())
    assert caught.value.code == 75
    shards = list((tmp_path / "out.partial").glob("*-0*.safetensors"))
    assert len(shards) == 8
    again = converted(made, tmp_path / "out", dtype="fp16")
    assert again.artifact.digest == whole.artifact.digest


def test_a_type_that_cannot_hold_a_value_is_refused(make_cache: MakeCache, tmp_path: Path) -> None:
    made = make_cache(loud=True)
    with pytest.raises(InputError, match="teacher-h2 does not fit fp16") as caught:
        converted(made, tmp_path / "out", dtype="fp16")
    assert "--dtype bf16" in caught.value.hint
    assert list(tmp_path.iterdir()) == [made.path]
    assert 0 < error_of(converted(made, tmp_path / "out", dtype="bf16"), "teacher-h2") < 2**-8


def test_a_source_that_changes_is_noticed(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    made = make_cache()

    def copy_wrongly(source: Path, target: Path) -> None:
        data = bytearray(Path(source).read_bytes())
        data[-1] ^= 1
        Path(target).write_bytes(data)

    monkeypatch.setattr(shutil, "copyfile", copy_wrongly)
    with pytest.raises(IntegrityError, match=r"graph.safetensors changed while it was copied"):
        converted(made, tmp_path / "out", dtype="fp16")
    assert not (tmp_path / "out").exists()


def test_the_same_conversion_is_done_and_another_refused(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    made, notes = make_cache(), Notes()
    first = converted(made, tmp_path / "out", dtype="fp16").artifact
    settings = ConvertSettings(dtype="fp16")
    assert convert(made.path, tmp_path / "out", settings, progress=notes).digest == first.digest
    assert notes.texts == [f"{tmp_path / 'out'} is done already"]
    with pytest.raises(InputError, match="dtype is 'fp16', now 'bf16'"):
        converted(made, tmp_path / "out", dtype="bf16")
    other = make_cache(sparse=True)
    with pytest.raises(InputError, match=r"inputs\.cache is"):
        converted(other, tmp_path / "out", dtype="fp16")
    forced = convert(other.path, tmp_path / "out", settings, force=True)
    assert forced.digest != first.digest


def g2t(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_its_path_or_its_record(make_cache: MakeCache, tmp_path: Path) -> None:
    start = ("cache", "convert", make_cache().path, "--dtype", "int8", "--out")
    result = g2t(*start, tmp_path / "a")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'a'}\n")
    record = json.loads(g2t(*start, tmp_path / "b", "--json", "--quiet").stdout)
    assert (record["kind"], record["path"]) == ("cache", str(tmp_path / "b"))
    plan = json.loads(g2t(*start, tmp_path / "c", "--dry-run").stdout)
    assert (plan["schema"], plan["standing"]) == ("g2t.plan/1", "new")
    assert plan["tensors"]["teacher-h1"]["dtype"] == "int8"
    assert plan["tensors"]["features"]["dtype"] == "fp32"
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--out", "OUT"), 2, "--dtype is missing"),
        (("--dtype", "fp8", "--out", "OUT"), 2, "setting dtype"),
        (("--dtype", "fp16"), 2, "--out DIR is missing"),
        (("--dtype", "int8", "--topk", "2", "--out", "OUT"), 2, "not stored as int8"),
        (("--dtype", "fp16", "--topk", "6", "--out", "OUT"), 2, "more than the 5 classes"),
    ],
)
def test_wrong_options_leave_with_two_and_nothing_behind(
    make_cache: MakeCache, tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    made, out = make_cache(), tmp_path / "out"
    result = g2t("cache", "convert", made.path, *[str(out) if o == "OUT" else o for o in options])
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == [made.path]
