"""Sweeps: which commands a file asks for, which of them are done, and what optuna is told."""

import json
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from g2t.errors import InputError, UsageError
from g2t.stage import flat
from g2t.sweep import Finding, Spec, Trial, inspect, rank, read_spec, search, trials_of
from g2t_cli.app import app

GRID = """
cache = "{home}/cache"
out = "{home}/sweep"
seeds = [0, 1]
[fixed]
student = "mlp"
train.epochs = 2
[vary]
train.lr = [1e-3, 3e-2]
"""


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stdout


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(values)


def spec_of(text: str) -> Spec:
    return read_spec(tomllib.loads(text))


def vary(text: str, more: str = "") -> list[Trial]:
    return trials_of(spec_of(f'cache = "c"\nout = "o"\n{more}\n[vary]\n{text}'), plain)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, and the file of a sweep of four students, none of which is made."""
    home = tmp_path_factory.mktemp("home")
    csbm = ("--set", "nodes=60", "--set", "classes=3", "--set", "degree=4.0")
    run("import", "synthetic:csbm", *csbm, "--out", home / "graph")
    small = ("--split", "random:40/20/40:0", "--set", "train.epochs=2", "--device", "cpu")
    run("teach", home / "graph", *small, "--out", home / "teacher")
    run("export-features", home / "teacher", "--graph", home / "graph", "--out", home / "cache")
    (home / "sweep.toml").write_text(GRID.format(home=home), encoding="utf-8")
    return home


def test_a_grid_is_every_value_with_every_other_and_every_seed() -> None:
    trials = vary("train.lr = [0.1, 0.2]\nmodel.dropout = [0.0, 0.5, 0.9]", "seeds = [3, 4]")
    asked = [(t.chosen["train.lr"], t.chosen["model.dropout"], t.seed) for t in trials]
    expected = [(a, b, s) for a in (0.1, 0.2) for b in (0.0, 0.5, 0.9) for s in (3, 4)]
    assert asked == expected
    assert len({trial.out for trial in trials}) == 12


def test_names_tell_what_varies_and_all_else_by_a_digest() -> None:
    twice = vary("loss.lsp.weight = [1]\nloss.align.weight = [2]")[0]
    assert twice.out.name.startswith("lsp.weight=1_align.weight=2_seed=0_")
    first = vary("train.lr = [0.1]")[0]
    other = vary("train.lr = [0.1]", "fixed.train.epochs = 7")[0]
    assert first.out.name.rpartition("_")[0] == other.out.name.rpartition("_")[0] == "lr=0.1_seed=0"
    assert first.out != other.out


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("train.lr = [1e-5]", {"train": {"lr": 1e-5}}),
        ("train.hold_out_val = [true]", {"train": {"hold_out_val": True}}),
        ('loss.align.map = ["depth"]', {"loss": {"align": {"map": "depth"}}}),
    ],
)
def test_a_command_means_to_distill_what_the_file_said(text: str, values: dict[str, Any]) -> None:
    """What the shell makes of the line is read by `g2t distill` itself."""
    trial = vary(text, "fixed.student = 'mlp'\nfixed.size = 'tiny'")[0]
    words = shlex.split(trial.command)
    assert words[:2] == ["g2t", "distill"]
    assert words[-2:] == ["--out", str(trial.out)]
    read = tomllib.loads(run(*words[1:], "--print-config"))
    wanted = flat({"student": "mlp", "size": "tiny", "seed": 0, **values})
    assert wanted.items() <= flat(read).items()


def test_paths_with_blanks_and_quotes_survive_the_shell() -> None:
    trial = trials_of(Spec(cache="my cache", out="it's here"), plain)[0]
    words = shlex.split(trial.command)
    assert words[2] == "my cache"
    assert words[-1].startswith("it's here/seed=0_")
    with pytest.raises(UsageError, match="more than one line"):
        trials_of(Spec(cache="a\nrm -r b", out="o"), plain)


def test_more_draws_begin_with_the_same_and_stay_in_their_ranges() -> None:
    text = """
    model.hidden = { low = 16, high = 64, step = 16 }
    model.dropout = { low = 0.1, high = 0.3 }
    train.lr = { low = 1e-4, high = 1e-1, log = true }
    train.epochs = { low = 3, high = 5 }
    """
    few, many = (vary(text, f"random.trials = {n}\nrandom.seed = 1") for n in (5, 40))
    assert [t.out for t in few] == [t.out for t in many[:5]]
    assert {t.chosen["model.hidden"] for t in many} == {16, 32, 48, 64}
    assert {t.chosen["train.epochs"] for t in many} == {3, 4, 5}
    assert all(0.1 <= t.chosen["model.dropout"] <= 0.3 for t in many)
    rates = [t.chosen["train.lr"] for t in many]
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert sum(rate < 10**-2.5 for rate in rates) in range(10, 31)  # half of a range of logarithms


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.lr = 0.1", "vary.train.lr is neither a list"),
        ("train.lr = []", "vary.train.lr is neither a list"),
        ("train.lr = [0.1, 0.1]", "vary.train.lr is neither a list"),
        ("train.lr = { low = 1, high = 2 }", "a grid needs a list"),
        ("train.lr = { low = 2, high = 1 }", "2 is not below 1"),
        ("train.lr = { low = 0, high = 1, log = true }", "0 has no logarithm"),
        ("train.lr = { low = 0, hgih = 1 }", "setting high is missing"),
        ("train.rl = [0.1]", "unknown setting train.rl"),
        ("train.lr = [-1.0]", "train.lr"),
        ("seed = [0, 1]", "seed is no setting to fix or vary"),
    ],
)
def test_what_is_wrong_is_told_before_any_command_is(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        vary(text)


def test_students_that_are_done_are_left_out_and_ranked_by_validation(home: Path) -> None:
    spec = read_spec(tomllib.loads((home / "sweep.toml").read_text(encoding="utf-8")))
    lines = run("sweep", home / "sweep.toml").splitlines()
    assert len(lines) == 4
    for line in lines[:3]:
        run(*shlex.split(line)[1:])
    assert run("sweep", home / "sweep.toml").splitlines() == lines[3:]
    content = json.loads(run("sweep", home / "sweep.toml", "--json"))
    assert [trial["standing"] for trial in content["trials"]] == ["done"] * 3 + ["new"]
    assert [row["settings"] for row in content["ranking"]] == [{"train.lr": 1e-3}]  # both seeds
    known = [json.loads((Path(t["out"]) / "run.json").read_text()) for t in content["trials"][:2]]
    mean = sum(record["summary"]["val"] for record in known) / 2
    assert content["ranking"][0]["val"] == pytest.approx(mean)

    other = spec.model_copy(update={"cache": str(home / "other")})
    run("teach", home / "graph", "--split", "random:40/20/40:0", "--set", "train.epochs=1",
        "--seed", 9, "--out", home / "other-teacher")  # fmt: skip
    run("export-features", home / "other-teacher", "--graph", home / "graph", "--out", other.cache)
    with pytest.raises(InputError, match="other settings or inputs"):
        inspect(other, trials_of(other, plain))


def test_the_best_settings_are_those_of_the_highest_mean() -> None:
    spec = spec_of('cache = "c"\nout = "o"\nseeds = [0, 1]\n[vary]\ntrain.lr = [0.1, 0.2, 0.3]')
    scores = [(0.5, 1.0), (0.7, 1.0), (0.6, 0.2), (0.6, 0.4), (0.9, 0.1), (None, None)]
    found = [
        Finding(trial, "done", *score)
        for trial, score in zip(trials_of(spec, plain), scores, strict=True)
    ]
    rows = rank(spec, found)
    assert [row["settings"]["train.lr"] for row in rows] == [0.2, 0.1]  # equal: the lower loss
    assert rows[0]["std"] == 0


def test_optuna_is_told_what_is_done_and_asked_for_no_more_than_wanted(home: Path) -> None:
    optuna = pytest.importorskip("optuna")
    text = (home / "sweep.toml").read_text(encoding="utf-8").replace('/sweep"', '/search"')
    text = text.replace("[1e-3, 3e-2]", "{ low = 1e-3, high = 1e-1, log = true }")
    spec = spec_of(text)
    first = search(spec, plain, 3)
    assert len({trial.chosen["train.lr"] for trial in first}) == 3  # not thrice the same
    assert [trial.command for trial in search(spec, plain, 3)] == [t.command for t in first]
    for trial in first[:2]:
        run(*shlex.split(trial.command)[1:])
    assert [t.command for t in search(spec, plain, 4)][:6] == [t.command for t in first]
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(home / "search/optuna.log"))
    )
    told = optuna.load_study(study_name="g2t", storage=storage).get_trials()
    assert [trial.state.name for trial in told] == ["COMPLETE", *["RUNNING"] * 3]
    assert told[0].value == rank(spec, inspect(spec, first))[0]["val"]

    with pytest.raises(InputError, match="other settings"):
        search(spec_of(text.replace("epochs = 2", "epochs = 3")), plain, 4)


def test_settings_that_no_student_can_have_do_not_block_the_search(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    text = f'cache = "c"\nout = "{tmp_path}"\n[vary]\nmodel.hidden = {{ low = 17, high = 19 }}'
    with pytest.raises(UsageError, match=r"no multiple of model\.heads"):
        search(spec_of(text), plain, 1)
    mended = text.replace("low = 17, high = 19", "low = 16, high = 32, step = 16")
    assert search(spec_of(mended), plain, 1)[0].chosen["model.hidden"] in (16, 32)
