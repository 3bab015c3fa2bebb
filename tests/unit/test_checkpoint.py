"""Checkpoints: a loop that was stopped goes on as if it had not been, bit for bit."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import g2t.checkpoint
from g2t.checkpoint import Checkpoint, check_finite
from g2t.errors import Stopped, TrainingError
from g2t.runtime import StopSignal


class Loop:
    """A training loop with dropout, batch statistics and Adam: all that can be forgotten."""

    def __init__(self, folder: Path, every: float = 0.0) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
        )
        self.scale = nn.Linear(2, 1)
        parameters = [*self.net.parameters(), *self.scale.parameters()]
        self.optimizer = torch.optim.Adam(parameters, 0.01)
        modules = {"net": self.net, "scale": self.scale}
        self.checkpoint = Checkpoint(folder, modules, self.optimizer, every)

    def step(self) -> float:
        output: Tensor = self.scale(self.net(torch.randn(16, 4)))
        loss = output.square().mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item()

    def state(self) -> dict[str, Tensor]:
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"scale.{k}": v for k, v in self.scale.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{index}.{key}": value for key, value in moments.items()}
        tensors["random"] = torch.get_rng_state()
        return {name: value.clone() for name, value in tensors.items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        assert torch.equal(value, second[name]), name


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    for _ in range(3):
        loop.step()
    best = {"weight": loop.scale.weight.detach().clone()}
    numbers: dict[str, Any] = {"epoch": 2, "best": {"val": 0.1 + 0.2, "epoch": 1}}
    loop.checkpoint.save(numbers, best)
    before = loop.state()
    again = Loop(tmp_path)
    torch.rand(7)
    loaded = again.checkpoint.load()
    assert loaded is not None
    assert loaded[0] == numbers
    assert_same(loaded[1], best)
    assert_same(again.state(), before)


def test_a_stopped_loop_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole = Loop(tmp_path)
    losses = [whole.step() for _ in range(6)]
    wanted = whole.state()
    first = Loop(tmp_path)
    begun = [first.step() for _ in range(3)]
    first.checkpoint.save({}, {})
    second = Loop(tmp_path)
    assert second.checkpoint.load() == ({}, {})
    assert [*begun, *(second.step() for _ in range(3))] == losses
    assert_same(second.state(), wanted)


def test_without_a_checkpoint_nothing_changes(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    before = loop.state()
    assert loop.checkpoint.load() is None
    assert_same(loop.state(), before)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_counts_as_none(tmp_path: Path, share: float) -> None:
    loop = Loop(tmp_path)
    loop.step()
    loop.checkpoint.save({"epoch": 0}, {})
    data = loop.checkpoint.path.read_bytes()
    loop.checkpoint.path.write_bytes(data[: int(len(data) * share)])
    again = Loop(tmp_path)
    before = again.state()
    assert again.checkpoint.load() is None
    assert_same(again.state(), before)


@pytest.mark.parametrize("kept", [0, 9, 0.5, 0.99])
def test_of_two_checkpoints_the_newest_that_is_whole_counts(tmp_path: Path, kept: float) -> None:
    loop, states = Loop(tmp_path), []
    for epoch in range(3):
        loop.step()
        loop.checkpoint.save({"epoch": epoch}, {})
        states.append(loop.state())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(g2t.checkpoint.NAMES)
    data = loop.checkpoint.path.read_bytes()
    loop.checkpoint.path.write_bytes(data[: int(kept if kept >= 1 else len(data) * kept)])
    again = Loop(tmp_path)
    assert again.checkpoint.load() == ({"epoch": 1}, {})
    assert_same(again.state(), states[1])


@pytest.mark.parametrize("at", [1, 2])
def test_a_kill_between_the_renames_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The newest becomes the one before, and then the new one the newest."""
    loop = Loop(tmp_path)
    loop.checkpoint.save({"epoch": 0}, {})
    rename, count = Path.replace, iter(range(1, 3))

    def killed(path: Path, target: Path) -> Path:
        if next(count) == at:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.checkpoint.save({"epoch": 1}, {})
    assert Loop(tmp_path).checkpoint.load() == ({"epoch": 0}, {})
    loop.checkpoint.save({"epoch": 2}, {})
    assert Loop(tmp_path).checkpoint.load() == ({"epoch": 2}, {})


def test_an_epoch_goes_on_in_its_middle(tmp_path: Path) -> None:
    """Batches that are over are drawn once more and skipped; what else was drawn stays drawn."""

    def batches() -> Iterator[Tensor]:
        for rows_B in torch.split(torch.randperm(8), 2):
            yield torch.cat([rows_B, torch.randint(9, (1,))])

    def train(checkpoint: Checkpoint, done: int, stop: int) -> list[Tensor]:
        seen = []
        for batch in checkpoint.going_on(batches(), done):
            seen += [batch, torch.rand(3)]  # the second is dropout
            done += 1
            if done == stop:
                checkpoint.save({"done": done}, {})
                break
        return seen

    whole = train(Loop(tmp_path / "whole").checkpoint, 0, 0)
    first = train(Loop(tmp_path).checkpoint, 0, 3)
    again = Loop(tmp_path)
    torch.rand(5)
    loaded = again.checkpoint.load()
    assert loaded is not None
    rest = train(again.checkpoint, loaded[0]["done"], 0)
    assert len(rest) == 2
    assert all(map(torch.equal, first + rest, whole))


def test_a_kill_during_the_writing_leaves_the_former(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(tmp_path)
    loop.step()
    loop.checkpoint.save({"epoch": 0}, {})
    before = loop.state()
    loop.step()

    def half(path: Path, tensors: dict[str, Tensor], facts: object) -> None:
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(g2t.checkpoint, "save_tensors", half)
    with pytest.raises(KeyboardInterrupt):
        loop.checkpoint.save({"epoch": 1}, {})
    again = Loop(tmp_path)
    loaded = again.checkpoint.load()
    assert loaded is not None
    assert loaded[0] == {"epoch": 0}
    assert_same(again.state(), before)


def test_it_is_written_when_it_is_time_and_when_a_signal_came(tmp_path: Path) -> None:
    stop = StopSignal()
    rare, often = Loop(tmp_path, every=3600), Loop(tmp_path, every=0)
    rare.checkpoint.after_step(stop, False, {"epoch": 0}, {})
    assert not rare.checkpoint.path.exists()
    often.checkpoint.after_step(stop, False, {"epoch": 1}, {})
    assert often.checkpoint.path.exists()
    often.checkpoint.path.unlink()
    stop.receive(15, None)
    with pytest.raises(Stopped, match="stopped by SIGTERM after a checkpoint") as caught:
        rare.checkpoint.after_step(stop, bool(stop), {"epoch": 2}, {})
    assert (caught.value.code, caught.value.hint) == (75, "run the same command to go on")
    loaded = Loop(tmp_path).checkpoint.load()
    assert loaded is not None
    assert loaded[0] == {"epoch": 2}


def test_the_clock_starts_again_with_each_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    loop, saved = Loop(tmp_path, every=10), []
    for epoch in range(5):
        now[0] += 6
        loop.checkpoint.after_step(StopSignal(), False, {"epoch": epoch}, {})
        if loop.checkpoint.path.exists():
            saved.append(epoch)
            loop.checkpoint.path.unlink()
    assert saved == [1, 3]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_ends_the_training(value: float) -> None:
    check_finite(torch.tensor(1.0), 0)
    with pytest.raises(TrainingError, match=f"the loss is {value} in epoch 7") as caught:
        check_finite(torch.tensor(value), 7)
    assert caught.value.code == 5
