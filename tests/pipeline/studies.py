"""A small study, and what tests of studies do with it."""

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

STUDY = """
[study]
title = "A small study"
rivals = ["soft", "none"]

[variants]
none = { preset = "none" }
soft = {}
"soft+gram" = { loss.gram.share = 0.1 }
"soft+lsp" = { loss.lsp.share = 0.1, students = ["hop"] }

[recipes.small]
source = "synthetic:csbm"
split = "random:20/20/60"
import = { nodes = 120, degree = 6.0, classes = 3, features = 6, noise = 2.0 }
teach = { features = "raw", train = { epochs = 8 }, model = { hidden = 16 } }
[recipes.small.students]
mlp = { train = { epochs = 2 } }
hop = { train = { epochs = 2 }, model = { hops = 2 } }

[tiers.a]
recipes = ["small"]
settings = ["transductive", "production"]
students = ["mlp", "hop"]
seeds = [0, 1]
variants = ["none", "soft", "soft+gram", "soft+lsp"]

[tiers.b]
recipes = ["small"]
students = ["hop"]
seeds = [0, 1, 2]
variants = ["none", "soft"]
"""


def g2t(*words: object) -> Result:
    from g2t_cli.app import app

    return CliRunner().invoke(app, [str(word) for word in words])


def written(folder: Path, text: str = STUDY) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def parsed(text: str = STUDY) -> Any:
    import tomllib

    return tomllib.loads(text)
