"""Wide bags of words stay sparse from the file to the artefact."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

WIDE = """
import sys
from pathlib import Path
from g2t.graph.importing import import_graph
from g2t.runtime import Silent
folder = Path(sys.argv[1])
names = {"nodes": "nodes.csv", "edges": "edges.csv", "features": "f.npz"}
values = {role: str(folder / name) for role, name in names.items()}
import_graph("table:", folder / "g", values, None, Silent(), False)
# Not ru_maxrss: a child inherits it from the process that forked it.
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc for the peak memory")
def test_a_wide_bag_of_words_stays_sparse(tmp_path: Path) -> None:
    nodes, width = 34_000, 8_415  # dense: 1.1 GB
    random = np.random.default_rng(0)
    start = np.arange(nodes + 1) * 30
    columns = random.integers(0, width, nodes * 30)
    matrix = sp.csr_matrix((np.ones(nodes * 30, np.float32), columns, start), (nodes, width))
    sp.save_npz(tmp_path / "f.npz", matrix, compressed=False)
    rows = "\n".join(f"{i},{i % 5}" for i in range(nodes))
    (tmp_path / "nodes.csv").write_text(f"id,label\n{rows}\n")
    pairs = "\n".join(f"{u},{v}" for u, v in random.integers(0, nodes, (200_000, 2)))
    (tmp_path / "edges.csv").write_text(f"source,target\n{pairs}\n")
    command = [sys.executable, "-c", WIDE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 700 * 1024
