"""The sbatch files on a real SLURM: slow, and only where it is installed and may be started.

tests/slurm/cluster.sh install
python -m pytest -m slow tests/slurm
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from g2t.artifact import open_artifact

TOP = Path(__file__).parents[2]
JOBS = TOP / "examples" / "slurm"
CLUSTER = TOP / "tests" / "slurm" / "cluster.sh"
PATIENCE = 900.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("sbatch") is None or os.geteuid() != 0,
        reason="needs SLURM and root: tests/slurm/cluster.sh install",
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running cluster; jobs find this g2t."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "g2t").write_text(f'#!/bin/sh\nexec {sys.executable} -m g2t_cli "$@"\n')
    (folder / "g2t").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", f"{TOP}:{TOP / 'cli'}")
        patch.chdir(folder)
        try:
            subprocess.run([CLUSTER, "start", folder], check=True)
            yield folder
        finally:
            subprocess.run(["scancel", "--user=root"], check=False)
            subprocess.run([CLUSTER, "stop", folder], check=True)


def ask(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def wait_for(what: str, arrived: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not arrived():
        assert time.monotonic() < end, f"{what}: {ask('squeue')}"
        time.sleep(0.5)


def state(job: str) -> set[str]:
    """Return the states of a job, or of all tasks of an array."""
    lines = ask("scontrol", "show", "job", job).split()
    return {word.partition("=")[2] for word in lines if word.startswith("JobState=")}


def finish(job: str) -> None:
    alive = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"}
    wait_for(f"job {job}", lambda: not state(job) & alive)
    assert state(job) == {"COMPLETED"}, [path.read_text() for path in Path().glob("*.out")]


@pytest.fixture(scope="module")
def evaluated(cluster: Path) -> Path:
    """A pipeline that ran as dependent jobs."""
    job = ask(JOBS / "pipeline.sh", f"folder:{TOP}/data/demo", "random:10/20/70:0", "runs")
    finish(job)
    return cluster / "runs"


def test_a_pipeline_of_dependent_jobs_ends_in_scores(evaluated: Path) -> None:
    scores = json.loads((evaluated / "evaluation" / "evaluation.json").read_text())
    assert scores["student"]["test"] > 0.8


def test_an_array_makes_the_students_of_a_sweep(evaluated: Path) -> None:
    spec = f'cache = "{evaluated}/cache"\nout = "sweep"\nfixed.student = "mlp"\n'
    Path("sweep.toml").write_text(spec + "vary.train.epochs = [2, 3, 4]\n", encoding="utf-8")
    lines = ask("g2t", "sweep", "sweep.toml").splitlines()
    Path("lines").write_text("\n".join(lines) + "\n", encoding="utf-8")
    job = ask("sbatch", "--parsable", "--array=1-3%2", JOBS / "sweep.sbatch", "lines")
    finish(job)
    for line in lines:
        open_artifact(Path(shlex.split(line)[-1]), "student")
    assert ask("g2t", "sweep", "sweep.toml") == ""


@pytest.mark.parametrize("way", ["requeue", "signal"])
def test_a_job_that_is_put_back_goes_on_and_ends_as_if_it_had_not_been(
    evaluated: Path, way: str
) -> None:
    """`scontrol requeue` by someone, and the signal that comes before the time is up."""
    words = ["g2t", "distill", evaluated / "cache", "--set", "train.epochs=300", "--out"]
    words[3:3] = ["--set", "train.patience=300", "--student", "mlp", "--device", "cpu"]
    whole = Path("whole")
    if not whole.exists():
        finish(ask("sbatch", "--parsable", JOBS / "job.sbatch", *words, whole))
    job = ask("sbatch", "--parsable", JOBS / "job.sbatch", *words, way)
    log = Path(f"g2t-{job}.out")
    wait_for("a step", lambda: log.exists() and "distill step=" in log.read_text())
    stop = ["scontrol", "requeue", job]
    ask(*(stop if way == "requeue" else ["scancel", "--batch", "--signal=USR1", job]))
    finish(job)
    said = log.read_text()
    assert "after a checkpoint" in said
    assert "going on after epoch" in said
    assert "Restarts=1" in ask("scontrol", "show", "job", job)
    assert open_artifact(Path(way), "student").digest == open_artifact(whole, "student").digest
