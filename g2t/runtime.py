"""The process around a stage: seeds, devices, progress, and signals that ask it to stop."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, Protocol

import torch

from g2t.errors import MissingExtra, Stopped, UsageError
from g2t.ranks import ALONE, Ranks


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


def choose_device(name: str, ranks: Ranks = ALONE) -> torch.device:
    """Return the device called `auto`, `cpu`, `cuda` or `cuda:I`; of several ranks, each its own.

    Raises UsageError for any other name, or one GPU for several ranks, and MissingExtra where the
    device is absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UsageError(f"no device is called {name!r}", "choose from: auto, cpu, cuda, cuda:I")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise MissingExtra(f"device {name} is not here", "use --device cpu or --device auto")
    if kind == "cuda" and not ranks.alone:
        if index:
            raise UsageError(f"{ranks.count} ranks cannot share {name}", "use --device cuda")
        name = f"cuda:{ranks.local % torch.cuda.device_count()}"
        torch.cuda.set_device(name)  # where random state and collectives belong
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


class _Signal(BaseException):
    """SIGTERM or SIGUSR1; no handler of errors takes it for one."""


@contextmanager
def leaving_on_signal() -> Iterator[None]:
    """Leave by `Stopped` as soon as SIGTERM or SIGUSR1 arrives.

    For work of which all that is finished stands; a loop that can write a checkpoint uses
    `stop_on_signal` within.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise _Signal(signal.Signals(number).name)

    before = {}
    try:
        with suppress(ValueError):  # not the main thread: signals stay with whoever owns it
            for number in (signal.SIGTERM, signal.SIGUSR1):
                before[number] = signal.signal(number, leave)
        yield
    except _Signal as name:
        raise Stopped(
            f"stopped by {name}; what is finished stands", "run the same command to go on"
        ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
