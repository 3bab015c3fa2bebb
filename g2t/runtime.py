"""The process around a stage: seeds, devices, progress, and signals that ask it to stop."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import torch

from g2t.errors import MissingExtra, UsageError


class Progress(Protocol):
    """Where a stage says how far it is; the command line shows it, a library user may ignore it."""

    def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """Say that `done` of `total` steps of `task` are over, with the figures of the last one."""

    def note(self, text: str) -> None:
        """Say one sentence that a user should see."""


class Silent:
    """A `Progress` that shows nothing."""

    def update(self, task: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


def choose_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu`, `cuda` or `cuda:I`.

    Raises UsageError for any other name and MissingExtra where the device is absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UsageError(f"no device is called {name!r}", "choose from: auto, cpu, cuda, cuda:I")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise MissingExtra(f"device {name} is not here", "use --device cpu or --device auto")
    return torch.device(name)


def check_device(precision: str, compiled: bool, device: torch.device) -> None:
    """Raise where `train.precision=bf16` or `train.compile` is to run elsewhere than on CUDA.

    UsageError where another device was chosen, MissingExtra where there is no CUDA.
    """
    wanted = {"precision=bf16": precision == "bf16", "compile=true": compiled}
    for setting in (name for name, asked in wanted.items() if asked):
        if device.type == "cuda":
            continue
        if torch.cuda.is_available():
            raise UsageError(f"train.{setting} needs CUDA, not {device}", "use --device cuda")
        raise MissingExtra(
            f"train.{setting} needs CUDA, which is not here", "leave it out: the CPU takes fp32"
        )


class StopSignal:
    """Whether SIGTERM or SIGUSR1 has arrived; loops ask it between steps."""

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        return bool(self.name)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self.name = signal.Signals(number).name


@contextmanager
def stop_on_signal() -> Iterator[StopSignal]:
    """Turn SIGTERM and SIGUSR1 into a flag while a loop runs that can write a checkpoint."""
    stop = StopSignal()
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            before[number] = signal.signal(number, stop.receive)
    except ValueError:  # not the main thread: signals stay with whoever owns it
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
