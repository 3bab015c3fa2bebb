"""Ranks that train together: they learn what one process learns, and none waits for a dead one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from g2t.cache.check import open_cache
from g2t.ranks import Ranks, first_host, ranks_of_launcher
from g2t.student.base import predict
from g2t.student.store import read_student
from tests.export.graphs import odd_graph, store
from tests.survival.conftest import Made
from tests.survival.forks import ROOT, Ended, Forks, How, Job, names

#: Every loss that ranks can share, so that none of them sees less than the whole batch.
LOSSES = (
    *("hard", "soft", "pseudo", "edge_low", "edge_high", "reliable_edge", "hardness_edge"),
    *("lsp", "gram", "cka", "contrast", "cluster", "codebook", "align"),
)
#: 1200 rows: four batches, or twelve of which the last has a single row, for some ranks none.
FOUR, TWELVE = "train.batch=300", "train.batch=109"
BLOCKS = ("train.buffer=40KiB", "train.block=16")
STUDENTS = {
    "landmark": ("--student=landmark", "--preset=paper", FOUR),
    "hop": ("--student=hop", "--preset=paper", TWELVE, "model.hops=2"),
    "mlp": ("--student=mlp", "--preset=soft", "train.batch=64", *BLOCKS),
    "before the activation": ("--student=mlp", "loss.align.activation=pre", FOUR),
    "labels alone": ("--student=mlp", "--preset=none", "train.batch=64"),
    "every loss": (
        *("--student=landmark", TWELVE, "loss.align.map=attention", "loss.gram.share=0.1"),
        *(f"loss.{name}.weight=0.5" for name in LOSSES if name != "gram"),
    ),
}
TEACHERS = {
    "sage": ("--teacher=sage", "train.clip=0.5", "train.ema=0.9", "features=auto"),
    "gcn2": ("--teacher=gcn2", "train.fanouts=[3,2,2]", "train.class_weights=balanced"),
}


def words(arguments: Sequence[object], chosen: Sequence[str], out: Path) -> list[object]:
    """Return a command; what is no option is a setting."""
    options = [word if word.startswith("--") else f"--set={word}" for word in chosen]
    return [*arguments, *options, "--device=cpu", "--out", out]


def distilling(made: Made, out: Path, *chosen: str) -> list[object]:
    few = ("train.epochs=3", '--set=size="tiny"', *chosen)
    return words(["distill", made.cache("all")], few, out)


def teaching(made: Made, out: Path, *chosen: str) -> list[object]:
    few = ("--split=random:40/20/40:0", "train.epochs=4", "model.hidden=8", *chosen)
    return words(["teach", made.folder / "g"], few, out)


def start(forks: Forks, command: list[object], count: int) -> list[Job]:
    """Start a command as so many ranks."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    every = [{**meeting, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(count)]
    return [forks.start(command, How(env=env)) for env in every]


def run(forks: Forks, command: list[object], count: int) -> list[Ended]:
    return [forks.end(job, 120) for job in start(forks, command, count)]


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def check_same_log(found: Path, wanted: Path) -> None:
    """Every figure of every epoch is the same but for the rounding of sums."""
    ours, theirs = log(found), log(wanted)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        figures = [{k: v for k, v in line.items() if k != "features"} for line in (one, other)]
        assert figures[0] == pytest.approx(figures[1], rel=2e-4, abs=2e-5)


def check_same_answers(made: Made, found: Path, wanted: Path) -> None:
    """Not the weights: a key's bias changes nothing, has no gradient, and takes noise for one."""
    cache, answers = open_cache(made.cache("all")), []
    for path in (found, wanted):
        student = read_student(path).model
        features, tokens = cache.features(), cache.tokens(student.hops)
        answers.append(predict(student, student.prepare(features, cache.edges, tokens)))
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-3)


def await_lines(path: Path, lines: int, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not (path.exists() and path.read_bytes().count(b"\n") >= lines):
        assert time.monotonic() < until, "it never came there"
        time.sleep(0.01)


@pytest.mark.parametrize(("name", "count"), [*zip(STUDENTS, (2, 3, 2, 2, 2, 3), strict=True)])
def test_ranks_learn_what_one_process_learns(
    forks: Forks, made: Made, tmp_path: Path, name: str, count: int
) -> None:
    alone, out = tmp_path / "alone", tmp_path / "f" / "s"
    assert forks.run(distilling(made, alone, *STUDENTS[name])).code == 0
    ended = run(forks, distilling(made, out, *STUDENTS[name]), count)
    assert [one.code for one in ended] == [0] * count, ended
    assert [one.out for one in ended] == [f"{out}\n"] + [""] * (count - 1)
    assert [bool(one.err) for one in ended] == [True] + [False] * (count - 1)
    assert names(out.parent) == ["s"]
    check_same_log(out, alone)
    check_same_answers(made, out, alone)


@pytest.mark.parametrize("name", TEACHERS)
def test_ranks_teach_what_one_process_teaches(
    forks: Forks, made: Made, tmp_path: Path, name: str
) -> None:
    layers = 3 if name == "gcn2" else 2
    batches = (*TEACHERS[name], "train.batch=100", f"model.layers={layers}")
    alone, out = tmp_path / "alone", tmp_path / "t"
    assert forks.run(teaching(made, alone, *batches), How()).code == 0
    ended = run(forks, teaching(made, out, *batches), 2)
    assert [one.code for one in ended] == [0, 0], ended
    check_same_log(out, alone)


def test_sparse_features(forks: Forks, tmp_path: Path) -> None:
    """Of sparse rows single entries are dropped, and `hop` drops those of the whole graph."""
    graph, cache = store(odd_graph(kind="sparse"), tmp_path / "g"), tmp_path / "c"
    batches = ("train.batch=50", "train.fanouts=[3,3]", "train.epochs=3")
    taught = ["teach", graph, "--split=random:40/20/40:0"]
    commands = {"t": words(taught, ("--teacher=sage", *batches), tmp_path / "t")}
    few = ("--preset=paper", "train.epochs=2", "train.batch=64")
    for name in ("landmark", "hop"):
        commands[name] = words(["distill", cache], (f"--student={name}", *few), tmp_path / name)
    for name, command in commands.items():
        assert forks.run(command).code == 0
        alone = (tmp_path / name).rename(tmp_path / f"{name}-alone")
        assert [one.code for one in run(forks, command, 2)] == [0, 0]
        check_same_log(tmp_path / name, alone)
        if name == "t":
            exported = ["export-features", alone, "--graph", graph, "--for=paper", "--out", cache]
            assert forks.run(exported).code == 0


def test_a_signal_to_one_stops_all_and_others_go_on(
    forks: Forks, made: Made, tmp_path: Path
) -> None:
    """From a checkpoint of two ranks, three learn on; then one alone."""
    long = (*STUDENTS["landmark"], "train.epochs=40", "train.patience=40")
    alone, out = tmp_path / "alone", tmp_path / "s"
    partial = tmp_path / "s.partial"
    command = distilling(made, out, *long)
    assert forks.run(distilling(made, alone, *long)).code == 0
    for count, lines, who in ((2, 2, 1), (3, 8, 0)):
        jobs = start(forks, command, count)
        await_lines(partial / "metrics.jsonl", lines)
        os.kill(jobs[who].pid, signal.SIGUSR1)
        ended = [forks.end(job) for job in jobs]
        assert [one.code for one in ended] == [75] * count, ended
        assert "stopped by SIGUSR1 after a checkpoint" in ended[who].err
        assert "stopped by a signal to another rank" in ended[who - 1].err
    done = forks.run(command)
    assert (done.code, done.out) == (0, f"{out}\n"), done
    check_same_log(out, alone)


@pytest.mark.parametrize("dead", [0, 1])
def test_nobody_waits_for_a_dead_rank(forks: Forks, made: Made, tmp_path: Path, dead: int) -> None:
    long = (*STUDENTS["landmark"], "train.epochs=400", "train.checkpoint_seconds=0")
    command, partial = distilling(made, tmp_path / "s", *long), tmp_path / "s.partial"
    jobs = start(forks, command, 2)
    await_lines(partial / "metrics.jsonl", 1)
    os.kill(jobs[dead].pid, signal.SIGKILL)
    left = forks.end(jobs[1 - dead], 20)
    assert forks.end(jobs[dead]).code == -9
    assert (left.code, left.out) == (75, ""), left
    assert f"error: rank {1 - dead} of 2 has lost another one" in left.err
    assert "the same command goes on" in left.err
    stood = len(log(partial))
    assert (partial / "scratch/checkpoint.safetensors").is_file()
    again = start(forks, command, 2)
    await_lines(partial / "metrics.jsonl", stood + 2)
    for job in again:
        os.kill(job.pid, signal.SIGTERM)
    ended = [forks.end(job) for job in again]
    assert [one.code for one in ended] == [75, 75], ended
    assert "going on after epoch" in ended[0].err


REFUSED = {
    "loss.adversarial.weight=1": "loss.adversarial has the student read the batch again",
    "loss.hop_consistency.weight=1": "loss.hop_consistency has the student read the batch again",
    "loss.align.map=hop": "loss.align.map=hop compares the tokens of every hop",
    "model.neighbours=2": "model.neighbours reads rows that ranks cannot share out",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_would_not_be_the_same_is_refused(
    forks: Forks, made: Made, tmp_path: Path, setting: str
) -> None:
    more = ("model.hops=2", "model.neighbour_hops=0", "loss.align.weight=1")
    ended = run(forks, distilling(made, tmp_path / "s", "--student=hop", *more, setting), 2)
    for one in ended:
        assert (one.code, one.out) == (2, ""), one
        assert f"error: {REFUSED[setting]}" in one.err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ((), "train.batch is not set"),
        (("train.batch=50", "model.norm=batch"), "model.norm=batch takes means over rows"),
        (("train.batch=50", "--teacher=gat"), "model.attention_dropout draws for every edge"),
    ],
)
def test_teachers_that_would_not_be_the_same_are_refused(
    forks: Forks, made: Made, tmp_path: Path, chosen: tuple[str, ...], said: str
) -> None:
    for one in run(forks, teaching(made, tmp_path / "t", *chosen), 2):
        assert (one.code, one.out) == (2, ""), one
        assert f"error: {said}" in one.err
    assert names(tmp_path) == []


def test_the_first_says_what_is_wrong_and_all_leave(
    forks: Forks, made: Made, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine").touch()
    first, second = run(forks, distilling(made, tmp_path / "s"), 2)
    assert (first.code, second.code) == (3, 3)
    assert f"error: {tmp_path / 's'} exists and is no g2t student" in first.err
    assert "error: the first rank could not go on, and says why" in second.err
    assert names(tmp_path / "s") == ["mine"]


def torchrun(command: list[object]) -> "subprocess.Popen[str]":
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m")
    told = [str(word) for word in (sys.executable, *launcher, "g2t_cli", *command)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        told, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_torchrun_itself(forks: Forks, made: Made, tmp_path: Path) -> None:
    """Real processes; then one of two is killed, and torchrun ends with an error."""
    out, alone = tmp_path / "s", tmp_path / "alone"
    with torchrun(distilling(made, out, *STUDENTS["landmark"])) as launched:
        said, told = launched.communicate(timeout=120)
    assert (launched.returncode, said) == (0, f"{out}\n"), told
    assert forks.run(distilling(made, alone, *STUDENTS["landmark"])).code == 0
    check_same_log(out, alone)
    long = distilling(made, tmp_path / "l", *STUDENTS["landmark"], "train.epochs=9999")
    with torchrun(long) as launched:
        await_lines(tmp_path / "l.partial" / "metrics.jsonl", 1)
        killed = [pid for pid in children(launched.pid) if rank_of(pid) == "1"]
        os.kill(killed[0], signal.SIGKILL)
        said, told = launched.communicate(timeout=60)
    assert (launched.returncode, said) == (1, ""), told
    assert "signal 9" in told.lower() or "SIGKILL" in told


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def rank_of(pid: int) -> str:
    found = re.search(rb"(?:^|\0)RANK=(\d+)", Path(f"/proc/{pid}/environ").read_bytes())
    return found[1].decode() if found else ""


def test_where_slurm_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host of a list as SLURM writes it."""
    assert [first_host(h) for h in ("n1", "n1,n2", "node[03-05,8],x", "a[7]-ib,b", "c2[1,3]")] == [
        *("n1", "n1", "node03", "a7-ib", "c21")
    ]
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("PROCID", "3"), ("STEP_NUM_TASKS", "4"), ("LOCALID", "1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert ranks_of_launcher() == Ranks(3, 4, 1)
