"""A run to report on: two students, two seeds, a card, and a breakdown made later."""

from pathlib import Path

import pytest

from made import g2t

RECIPE = """
source = "synthetic:csbm"
split = "random:20/20/60"
[import]
nodes = 120
degree = 6.0
classes = 3
features = 6
noise = 2.0
[teach]
features = "raw"
train = { epochs = 8 }
model = { hidden = 16 }
[students.mlp]
train = { epochs = 3 }
[students.hop]
preset = "paper"
train = { epochs = 3 }
model = { hops = 2 }
"""


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two seeds, and evaluations of the same students beside it."""
    home = tmp_path_factory.mktemp("reported")
    recipe = home / "small.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    made = g2t("run", recipe, "--seeds", "0:2", "--card", "-q", "--out", home / "run")
    assert made.exit_code == 0, made.stderr
    for seed in (0, 1):
        folder = home / f"run/seed-{seed}"
        for name in ("mlp", "hop"):
            out = home / f"later/seed-{seed}/evaluation-{name}"
            beside = ("--graph", home / "run/graph", "--cache", folder / "cache")
            words = ("--teacher", folder / "teacher", "--breakdown", "--out", out)
            made = g2t("eval", folder / f"student-{name}", *beside, *words)
            assert made.exit_code == 0, made.stderr
    return home
