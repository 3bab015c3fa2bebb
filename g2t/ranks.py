"""Ranks: processes that train one network together, each on its part of every batch.

All of them hold the same weights and draw the same numbers. A rank computes the rows of its part,
the rows of all are put together again, and gradients are added up: one sum for any number of
ranks, but for the order of additions. Everything goes by `all_reduce`, of rows into zeros too.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from g2t.errors import G2TError, Stopped, UsageError

#: By launcher, what tells a process its number, how many there are, and its number on its host.
#: SLURM_NTASKS will not do: a batch script has it too, with SLURM_PROCID 0, and runs once.
LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)

#: Seconds that a rank waits for one that neither answers nor closes its connection.
PATIENCE = 1800.0

#: First of the ports that SLURM's jobs are spread over, and how many there are.
PORTS = 20_000, 10_000

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Rank `number` of `count`, and its number on its host."""

    number: int = 0
    count: int = 1
    local: int = 0

    @property
    def alone(self) -> bool:
        """Whether there is no other rank."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.number == 0

    def part(self, length: int) -> slice:
        """Return which of so many rows are this rank's."""
        return slice(length * self.number // self.count, length * (self.number + 1) // self.count)

    def whole(self, part: Tensor, length: int) -> Tensor:
        """Return the rows of all ranks, [length, …], from each one's part; takes gradients.

        Every rank has to compute the same of the whole: a rank's rows take its own gradient.
        """
        if self.alone:
            return part
        rows: Tensor = _Whole.apply(part, self, length)  # type: ignore[no-untyped-call]
        return rows

    def joined(self, parts: Sequence[Tensor], mine_B: Tensor) -> list[Tensor]:
        """Return tensors [B, W] of any types, each row as the rank has it whose it is, bit for bit.

        A row belongs to one rank, and what the others hold in its place does not count.
        """
        blocks = [part.view(torch.uint8) for part in parts]
        rows = torch.cat(blocks, 1)
        rows[~mine_B] = 0
        self.sum(rows)
        found = torch.split(rows, [block.shape[1] for block in blocks], 1)
        return [
            block.contiguous().view(part.dtype) for block, part in zip(found, parts, strict=True)
        ]

    def sum(self, tensor: Tensor) -> None:
        """Add up a tensor over the ranks, in place; raises Stopped where one of them is gone."""
        if self.alone:
            return
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise self._lost(error) from None

    def add_gradients(self, parameters: Iterable[nn.Parameter], asked: bool) -> bool:
        """Add up gradients over the ranks; tell whether any of them was asked to stop."""
        if self.alone:
            return asked
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads] + [grads[0].new_tensor([float(asked)])])
        self.sum(flat)
        for grad, found in zip(
            grads, torch.split(flat[:-1], [g.numel() for g in grads]), strict=True
        ):
            grad.copy_(found.view_as(grad))
        return bool(flat[-1] > 0)

    def gradient_norm(self, grads: Iterable[Tensor | None]) -> float:
        """Return the norm of gradients that are each a sum over the ranks; None counts as zero."""
        found = [grad for grad in grads if grad is not None]
        if found and not self.alone:
            flat = torch.cat([grad.flatten() for grad in found])
            self.sum(flat)
            found = list(torch.split(flat, [grad.numel() for grad in found]))
        squares = [grad.square().sum() for grad in found] or [torch.zeros(())]
        return float(torch.stack(squares).sum().sqrt())

    def follow_first(self, modules: Iterable[nn.Module]) -> None:
        """Give networks the first rank's state: another kind of processor may round differently."""
        if self.alone:
            return
        states = [value for module in modules for value in module.state_dict().values()]
        for kind in sorted({state.dtype for state in states}, key=str):
            alike = [state for state in states if state.dtype == kind]
            flat = torch.cat([state.flatten() for state in alike])
            self._from_first(flat)
            parts = torch.split(flat, [state.numel() for state in alike])
            for state, found in zip(alike, parts, strict=True):
                state.copy_(found.view_as(state))

    def numbers_of_first(self, *numbers: float) -> tuple[float, ...]:
        """Return the first rank's numbers, so that all ranks decide alike."""
        if self.alone:
            return numbers
        told = torch.tensor(numbers, dtype=torch.float64)
        self._from_first(told)
        return tuple(told.tolist())

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first rank makes, which JSON can say; the others wait for it.

        What it raises, it raises alone: the others leave with the same exit code.
        """
        if self.alone:
            return make()
        if not self.first:
            told = json.loads(self._tell(b""))
            if "code" in told:
                raise _elsewhere(told["code"])
            value: T = told["value"]
            return value
        try:
            value = make()
        except BaseException as error:
            code = error.code if isinstance(error, G2TError) else 1
            with suppress(Stopped):
                self._tell(json.dumps({"code": code}).encode())
            raise
        self._tell(json.dumps({"value": value}).encode())
        return value

    def wait(self) -> None:
        """Return when all ranks have come here."""
        self.sum(torch.zeros(1))

    def _tell(self, said: bytes) -> bytes:
        """Return what the first rank says."""
        length = torch.tensor([len(said)])
        self._from_first(length)
        text = torch.zeros(int(length), dtype=torch.uint8)
        if self.first:
            text.copy_(torch.frombuffer(bytearray(said), dtype=torch.uint8))
        self._from_first(text)
        return bytes(text.tolist())

    def _from_first(self, tensor: Tensor) -> None:
        try:
            dist.broadcast(tensor, 0)
        except RuntimeError as error:
            raise self._lost(error) from None

    def _lost(self, error: RuntimeError) -> Stopped:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no answer"
        return Stopped(
            f"rank {self.number} of {self.count} has lost another one ({reason})",
            "see which rank ended first, and why; the same command goes on from the checkpoint",
        )


#: One process that trains by itself.
ALONE = Ranks()


class _Whole(torch.autograd.Function):
    """Rows of all ranks; backwards, a rank's rows get their gradient and nothing is added up."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks, length: int) -> Tensor:
        ctx.mine = ranks.part(length)
        whole = part.new_zeros(length, *part.shape[1:])
        whole[ctx.mine] = part
        ranks.sum(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        return grads[0][ctx.mine], None, None


def _elsewhere(code: int) -> G2TError:
    error = G2TError("the first rank could not go on, and says why")
    error.code = code
    return error


def ranks_of_launcher() -> Ranks:
    """Return what the environment of torchrun or of SLURM says of this process.

    Raises UsageError where it says what cannot be.
    """
    for names in LAUNCHERS:
        number, count, local = (os.environ.get(name, "") for name in names)
        if number.isdigit() and count.isdigit():
            if int(number) >= int(count):
                raise UsageError(f"rank {number} of {count} cannot be", f"look at {names[0]}")
            return Ranks(int(number), int(count), int(local) if local.isdigit() else 0)
    return ALONE


@contextmanager
def together(device: str) -> Iterator[Ranks]:
    """Meet the other ranks of the launcher, if there are any, and part from them at the end.

    CPU tensors go by gloo, those of GPUs by nccl. Raises Stopped where a rank does not come.
    """
    ranks = ranks_of_launcher()
    if ranks.alone:
        yield ranks
        return
    with_gpus = device != "cpu" and torch.cuda.is_available()
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if with_gpus else "gloo",
            init_method=_meeting_place(),
            rank=ranks.number,
            world_size=ranks.count,
            timeout=timedelta(seconds=PATIENCE),
        )
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Stopped(
            f"rank {ranks.number} of {ranks.count} did not meet the others ({reason})",
            "start all ranks at once, with MASTER_ADDR and MASTER_PORT that all of them reach",
        ) from None
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _meeting_place() -> str:
    """Return where ranks meet: as the environment says, else on the first host of SLURM's step."""
    if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
        return "env://"
    hosts = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "")
    if not hosts:
        raise UsageError(
            "nothing says where the ranks are to meet",
            "start them by torchrun or srun, or set MASTER_ADDR and MASTER_PORT",
        )
    job = int(os.environ.get("SLURM_JOB_ID", "0")) * 31 + int(os.environ.get("SLURM_STEP_ID", "0"))
    return f"tcp://{first_host(hosts)}:{PORTS[0] + job % PORTS[1]}"


def first_host(hosts: str) -> str:
    """Return the first of SLURM's list of hosts, such as `node[03-05,8],x`."""
    found = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", hosts)
    return "".join(part or "" for part in found.groups()) if found else hosts
