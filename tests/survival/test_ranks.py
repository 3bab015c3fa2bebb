"""Workers that share an export: together, one after the other, killed and started again."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from g2t.errors import InputError, UsageError
from g2t.export.share import Share, share_of, wait_for
from tests.survival.conftest import ALL, BOTH, Made
from tests.survival.forks import (
    PANELS,
    ROOT,
    SMALL_PANELS,
    Ended,
    Fault,
    Forks,
    How,
    Job,
    content,
    digest,
    finished,
    names,
)

HOW = How(patches=SMALL_PANELS)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "f").mkdir()
    return tmp_path / "f" / "c"


def worker(made: Made, out: Path, number: int, of: int) -> list[object]:
    return [*made.export(out), "--worker", number, "--workers", of]


def check_whole(ended: Sequence[Ended], made: Made, out: Path) -> None:
    """Everyone is content, one of them says where the cache is, and it is that of one process."""
    assert {one.code for one in ended} == {0}, ended
    assert sorted(one.out for one in ended) == [""] * (len(ended) - 1) + [f"{out}\n"], ended
    check_same(made, out)


def check_same(made: Made, out: Path) -> None:
    assert content(out) == content(made.cache("all"))
    assert digest(out) == digest(made.cache("all"))
    assert names(out.parent) == ["c"]


@pytest.mark.parametrize("count", [2, 5])
def test_several_teachers_are_shared_as_well(
    forks: Forks, made: Made, out: Path, count: int
) -> None:
    words = [
        [*made.export(out, ALL, BOTH), "--worker", number, "--workers", count]
        for number in range(count)
    ]
    jobs = [forks.start(command, HOW) for command in words]
    ended = [forks.end(job) for job in jobs]
    assert {one.code for one in ended} == {0}, ended
    assert content(out) == content(made.cache("mean"))
    assert digest(out) == digest(made.cache("mean"))
    assert names(out.parent) == ["c"]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_started_together(forks: Forks, made: Made, out: Path, count: int) -> None:
    """Four shards: with five workers, one has nothing to do."""
    jobs = [forks.start(worker(made, out, number, count), HOW) for number in range(count)]
    check_whole([forks.end(job) for job in jobs], made, out)


@pytest.mark.parametrize("order", [(1, 0), (2, 0, 1)])
def test_one_after_the_other(forks: Forks, made: Made, out: Path, order: tuple[int, ...]) -> None:
    """Who comes early waits for the others' shards."""
    jobs: list[Job] = []
    for number in order:
        assert all(forks.is_running(job) for job in jobs)
        assert not out.exists()
        jobs.append(forks.start(worker(made, out, number, len(order)), HOW))
        time.sleep(0.3)
    check_whole([forks.end(job) for job in jobs], made, out)


def test_what_was_done_is_not_computed_twice(forks: Forks, made: Made, out: Path) -> None:
    """Every worker writes its own shards and no others."""
    logs = [out.with_name(f"{number}.log").parent.parent / f"{number}.log" for number in range(2)]
    faults = [Fault(out.parent, log) for log in logs]
    jobs = [
        forks.start(worker(made, out, number, 2), How(patches=SMALL_PANELS, fault=fault))
        for number, fault in enumerate(faults)
    ]
    check_whole([forks.end(job) for job in jobs], made, out)
    for number, fault in enumerate(faults):
        renamed = [Path(path).name for event, path in fault.heard() if event == "os.rename"]
        shards = [name.split(".")[0] for name in renamed if name.endswith(".safetensors")]
        own = [name for name in shards if name[-5:].isdigit()]
        assert {int(name[-5:]) % 2 for name in own} == {number}
        assert len(own) == len(set(own)) == 2 * (12 + 6)  # of the cache, and of the scratch folder


@pytest.mark.parametrize("where", [r"write .*teacher-h2-00001", r"open .*noisy-h1-sums-00008-0000"])
def test_one_is_killed_and_started_again(
    forks: Forks, made: Made, out: Path, tmp_path: Path, where: str
) -> None:
    fault = Fault(out.parent, tmp_path / "log", 1, "kill", where)
    others = [forks.start(worker(made, out, number, 3), HOW) for number in (0, 2)]
    killed = forks.run(worker(made, out, 1, 3), How(patches=SMALL_PANELS, fault=fault))
    assert killed.code == -9
    assert all(forks.is_running(job) for job in others)
    stood = finished(out.with_name("c.partial"))
    again = forks.run(worker(made, out, 1, 3), HOW)
    check_whole([again, *(forks.end(job) for job in others)], made, out)
    now = finished(out)
    assert all(now[name] == stamp for name, stamp in stood.items() if name in now)


@pytest.mark.parametrize(
    "where", [r"open .*partial/manifest", r"os\.rename .*/c$", r"remove .*lock"]
)
def test_the_one_that_commits_is_killed(
    forks: Forks, made: Made, out: Path, tmp_path: Path, where: str
) -> None:
    """Whoever it is; both are started again."""
    at = 2 if "lock" in where else 1  # the lock is released once to begin
    faults = [Fault(out.parent, tmp_path / f"log{i}", at, "kill", where) for i in range(2)]
    jobs = [
        forks.start(worker(made, out, i, 2), How(patches=SMALL_PANELS, fault=fault))
        for i, fault in enumerate(faults)
    ]
    codes = {forks.end(job).code for job in jobs}
    assert -9 in codes
    assert codes <= {-9, 0}
    again = [forks.run(worker(made, out, number, 2), HOW) for number in (1, 0)]
    assert [one.code for one in again] == [0, 0], again
    assert again[-1].out == f"{out}\n"
    check_same(made, out)


def test_one_process_ends_what_workers_began(forks: Forks, made: Made, out: Path) -> None:
    job = forks.start(worker(made, out, 1, 2), HOW)
    time.sleep(0.3)
    os.kill(job.pid, 9)
    assert forks.end(job).code == -9
    check_whole([forks.run(made.export(out), How(patches=PANELS))], made, out)


def test_the_partner_never_comes(forks: Forks, made: Made, out: Path) -> None:
    patches = {**SMALL_PANELS, "g2t.export.share.PATIENCE": 0.3}
    ended = forks.run(worker(made, out, 0, 2), How(patches=patches))
    assert (ended.code, ended.out) == (75, ""), ended
    assert "error: no other worker has written " in ended.err
    assert "start the workers that are missing" in ended.err
    stood = finished(out.with_name("c.partial"))
    assert {int(name.split(".")[0][-1]) % 2 for name in stood} == {0}
    assert len(stood) > 3
    jobs = [forks.start(worker(made, out, number, 2), HOW) for number in range(2)]
    check_whole([forks.end(job) for job in jobs], made, out)
    now = finished(out)
    assert all(now[name] == stamp for name, stamp in stood.items() if name in now)


def test_done_already(forks: Forks, made: Made) -> None:
    """Then the first says so, as a single process would."""
    jobs = [forks.start(worker(made, made.cache("all"), i, 3), HOW) for i in range(3)]
    ended = [forks.end(job) for job in jobs]
    assert [one.code for one in ended] == [0, 0, 0]
    assert [one.out for one in ended] == [f"{made.cache('all')}\n", "", ""]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--worker", 0), "--worker and --workers go together"),
        (("--workers", 2), "--worker and --workers go together"),
        (("--worker", 2, "--workers", 2), "worker 2 of 2 cannot be"),
        (("--worker", 0, "--workers", 2, "--force"), "--force and several workers do not go"),
    ],
)
def test_bad_usage(
    forks: Forks, made: Made, out: Path, options: tuple[object, ...], said: str
) -> None:
    ended = forks.run([*made.export(out), *options], HOW)
    assert (ended.code, ended.out) == (2, ""), ended
    assert f"error: {said}" in ended.err
    assert names(out.parent) == []


def test_an_error_of_one_leaves_the_others_their_work(
    forks: Forks, made: Made, out: Path, tmp_path: Path
) -> None:
    fault = Fault(out.parent, tmp_path / "log", 1, "full", r".*teacher-h1-00001")
    other = forks.start(worker(made, out, 0, 2), HOW)
    full = forks.run(worker(made, out, 1, 2), How(patches=SMALL_PANELS, fault=fault))
    assert (full.code, full.out) == (3, ""), full
    assert "No space left on device" in full.err
    assert forks.is_running(other)
    again = forks.run(worker(made, out, 1, 2), HOW)
    check_whole([again, forks.end(other)], made, out)


RANKS = {
    "torchrun": [{"RANK": str(i), "WORLD_SIZE": "2", "LOCAL_RANK": str(i)} for i in range(2)],
    "srun": [
        {"SLURM_PROCID": str(i), "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"} for i in range(2)
    ],
}


@pytest.mark.parametrize("launcher", RANKS)
def test_ranks_of_a_launcher(forks: Forks, made: Made, out: Path, launcher: str) -> None:
    jobs = [forks.start(made.export(out), How(env, SMALL_PANELS)) for env in RANKS[launcher]]
    check_whole([forks.end(job) for job in jobs], made, out)


def test_a_batch_script_is_not_the_first_of_many(forks: Forks, made: Made, out: Path) -> None:
    """`sbatch --ntasks=4` runs it once, with the number of tasks that its `srun` would start."""
    batch = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    check_whole([forks.run(made.export(out), How(batch, SMALL_PANELS))], made, out)


@pytest.mark.parametrize(
    ("env", "worker", "workers", "share"),
    [
        ({}, None, None, Share()),
        ({"RANK": "1", "WORLD_SIZE": "3"}, None, None, Share(1, 3)),
        ({"RANK": "1", "WORLD_SIZE": "3"}, 4, 5, Share(4, 5)),
        ({"RANK": "1"}, None, None, Share()),
        ({"RANK": "", "WORLD_SIZE": ""}, None, None, Share()),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4"}, None, None, Share(2, 4)),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None, None, Share()),
        # torchrun, started by srun once per host, counts all of its processes.
        (
            {"RANK": "5", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"},
            *(None, None),
            Share(5, 8),
        ),
    ],
)
def test_whose_share(
    monkeypatch: pytest.MonkeyPatch,
    env: Mapping[str, str],
    worker: int | None,
    workers: int | None,
    share: Share,
) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert share_of(worker, workers) == share


def test_a_rank_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="rank 2 of 2 cannot be"):
        share_of(None, None)


def test_there_is_nothing_to_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others have finished, OUT.partial is gone, and what was in it does not come."""
    monkeypatch.setattr("g2t.export.share.PATIENCE", 0.2)
    (tmp_path / "there").touch()
    wait_for([tmp_path / "there"], tmp_path)
    with pytest.raises(InputError, match=r"c\.partial is gone"):
        wait_for([tmp_path / "c.partial" / "x"], tmp_path / "c.partial")


def test_shares_part_the_shards() -> None:
    for workers in (1, 2, 3, 7):
        parts = [list(Share(worker, workers).mine(6)) for worker in range(workers)]
        assert sorted(shard for part in parts for shard in part) == list(range(6))


@pytest.mark.slow
def test_torchrun_itself(made: Made, out: Path) -> None:
    """Real processes, so the panels are as wide as they always are."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2),
        *("-m", "g2t_cli", *made.export(out, "layers,logits,edge_scores")),
    ]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}", "OMP_NUM_THREADS": "1"}
    told = [str(word) for word in command]
    ended = subprocess.run(told, env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{out}\n"
    assert names(out.parent) == ["c"]
