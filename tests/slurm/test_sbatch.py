"""The sbatch files in `examples/slurm`: what can be said of them without a cluster."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
SCRIPTS = sorted([*(TOP / "examples/slurm").iterdir(), *(TOP / "tests/slurm").glob("*.sh")])
SBATCH = [path for path in SCRIPTS if path.suffix == ".sbatch"]

#: Options of sbatch (SLURM 20 and newer), and what a value of each looks like.
OPTIONS = {
    "array": r"[\d,%-]+",
    "cpus-per-task": r"\d+",
    "dependency": r"after\w*:.+",
    "gres": r"gpu(:\w+)?:\d+",
    "job-name": r"[\w-]+",
    "mem": r"\d+[KMGT]?",
    "nodes": r"\d+",
    "ntasks": r"\d+",
    "ntasks-per-node": r"\d+",
    "open-mode": r"append",  # truncate would lose what a job said before it was requeued
    "output": r"\S*%[jA]\S*",  # else two jobs write to one file
    "requeue": r"",
    "signal": r"B:USR1@\d+",  # B: only the shell hears it, and tells the command
    "time": r"(\d+-)?\d\d:\d\d:\d\d",
}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_good_shell(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("#!/bin/bash\n")
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)


@pytest.mark.parametrize("path", SBATCH, ids=lambda path: path.name)
def test_sbatch_options_are_known_and_stand_where_sbatch_reads_them(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("#SBATCH")]
    assert lines[1 : 1 + len(head)] == head  # after the first command they would be ignored
    seen = {}
    for line in head:
        found = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line)
        assert found, line
        assert re.fullmatch(OPTIONS[found[1]], found[2] or ""), line
        seen[found[1]] = found[2]
    assert {"requeue", "signal", "open-mode", "output"} <= seen.keys()


def test_both_jobs_leave_and_come_back_in_the_same_way() -> None:
    """A batch script is copied away from its neighbours, so it cannot read them."""
    bodies = []
    for path in SBATCH:
        body = path.read_text(encoding="utf-8").partition('child=""\n')[2]
        started = r'("\$@"|sh -c "exec \$line") &'  # what alone may differ
        bodies.append(re.sub(started, "", re.sub(r" *#.*", "", body)))
    assert len(bodies) == 2
    assert bodies[0] == bodies[1] != ""


def run_job(tmp_path: Path, command: str) -> tuple[int, str]:
    """Run job.sbatch by hand on a shell command, with a `scontrol` that only says so."""
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" >> "$0.said"\n', encoding="utf-8")
    (tmp_path / "scontrol").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    script = TOP / "examples" / "slurm" / "job.sbatch"
    ended = subprocess.run(["bash", script, "bash", "-c", command], env=environment, check=False)
    said = tmp_path / "scontrol.said"
    return ended.returncode, said.read_text(encoding="utf-8") if said.exists() else ""


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("exit 0", 0, ""),
        ("exit 4", 4, ""),
        ("exit 75", 75, "requeue 7\n"),
        ("kill -KILL $$", 137, ""),
        # The signal goes to the shell alone, as that of --signal=B: does.
        (
            "trap 'sleep 0.2; exit 75' USR1; sleep 0.3; kill -USR1 $PPID; sleep 5 & wait",
            75,
            "requeue 7\n",
        ),
        ("trap 'exit 75' USR1; sleep 0.3; kill -USR1 $PPID; sleep 5 & wait", 75, "requeue 7\n"),
        ("sleep 0.3; kill -TERM $PPID; sleep 0.2; exit 75", 75, "requeue 7\n"),
        ("sleep 0.3; kill -TERM $PPID; sleep 0.2", 0, ""),
    ],
)
def test_a_job_goes_back_exactly_after_75(
    tmp_path: Path, command: str, code: int, said: str
) -> None:
    assert run_job(tmp_path, command) == (code, said)
