"""Numbers that do not fit: refused by one sentence that says what helps; nothing is left behind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from g2t.errors import InputError
from g2t_cli.app import app
from tests.export import graphs
from tests.export.graphs import DESCRIBED, PLAIN, Taught, check_close, features_of, graph_of, store
from tests.export.graphs import write_teacher as write

NODES = 150


def loud(folder: Path, name: str, factor: float, **model: Any) -> Taught:
    """A teacher of a ring of which one node's features are loud."""
    features = features_of(NODES, "dense")
    assert isinstance(features, Tensor)
    features[71] *= factor
    ring = torch.arange(NODES)
    graph = store(graph_of(torch.stack([ring, ring.roll(1)]), features), folder / "g")
    return write(graph, folder / "t", name, **{**PLAIN, **model})


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_message_over_the_range_of_fp16_is_refused(tmp_path: Path, name: str) -> None:
    taught = loud(tmp_path, name, 1e6)
    with pytest.raises(InputError, match=r"a message .* does not fit fp16: \d\.\d+e\+0") as caught:
        taught.export(tmp_path / "c", precision="fp16")
    assert caught.value.hint == "use --precision fp32"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g", "t"]
    check_close(taught.export(tmp_path / "c", precision="fp32"), taught, 1e-5)  # what it says


def test_the_command_line_says_so_and_ends_with_3(tmp_path: Path) -> None:
    taught = loud(tmp_path, "gcn", 1e6)
    words = ["export-features", str(taught.teacher), "--graph", str(taught.graph)]
    words += ["--out", str(tmp_path / "c"), "--precision", "fp16", "--quiet"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("error: a message of the teacher does not fit fp16")
    assert result.stderr.endswith("hint: use --precision fp32\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g", "t"]


def test_a_token_over_the_range_is_none_as_tokens_are_exact(tmp_path: Path) -> None:
    taught = loud(tmp_path, "gcn", 1e6)
    cache = taught.export(tmp_path / "c", hops=1, precision="fp32", dtype="bf16")
    assert float(cache.whole("tokens-1").abs().max()) > 1e5


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_state_over_the_range_between_two_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """W x fits, W_own x does not: no message is to blame, only what is kept of the layer."""

    def own(model: Any, *rest: Any) -> None:
        with torch.no_grad():
            model.convolutions[0].root.weight.mul_(5)

    monkeypatch.setattr(graphs, "draw_weights", own)
    taught = loud(tmp_path, "sage", 1e3, hidden=64)
    factor = 1e3 * 7e4 / float(taught.trace.layers[0][71].abs().max())
    taught = loud(tmp_path / "again", "sage", factor, hidden=64)
    assert 66_000 < float(taught.trace.layers[0].abs().max()) < 80_000
    what = "teacher-h1" if dtype == "fp16" else "a state of the teacher"
    with pytest.raises(InputError, match=f"{what} does not fit fp16: ") as caught:
        taught.export(tmp_path / "c", precision="fp16", dtype=dtype)
    if dtype == "bf16":  # what the cache stores fits; it is the computation that does not
        assert caught.value.hint == "use --precision fp32"
        taught.export(tmp_path / "c", precision="fp32", dtype="bf16")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_found(
    tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: Any, *rest: Any) -> None:
        with torch.no_grad():
            next(iter(model.parameters()))[0, 0] = value

    monkeypatch.setattr(graphs, "draw_weights", spoil)
    taught = loud(tmp_path, "gcn", 1.0)
    for precision in ("fp32", "fp16"):
        with pytest.raises(InputError, match=r"NaN or infinite"):
            taught.export(tmp_path / "c", precision=precision)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g", "t"]
