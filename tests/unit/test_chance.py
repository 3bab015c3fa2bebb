"""Numbers drawn for a part of a batch are those of the same rows in the whole."""

import pytest
import torch
from torch import Tensor

from g2t.chance import Dropout, Part, draw, drawing_for, drop, drop_entries
from g2t.ranks import Ranks

ROWS, ENTRIES = torch.rand(7, 3) + 1, torch.rand(20) + 1
#: The entries of rows 0, 1, … begin here.
STARTS = (0, 2, 3, 9, 9, 14, 17, 20)


def everything(part: slice) -> list[Tensor]:
    torch.manual_seed(5)
    entries = slice(STARTS[part.start], STARTS[part.stop])
    with drawing_for(Part(7, part, 20, entries) if part.stop - part.start < 7 else None):
        return [
            drop(ROWS[part], 0.4, True),
            drop_entries(ENTRIES[entries], 0.6, True),
            draw(part.stop - part.start, lambda n: torch.randint(9, (n,))),
            Dropout(0.5)(ROWS[part]),
            torch.rand(2),
        ]


@pytest.mark.parametrize("count", [2, 3, 9])
def test_the_parts_of_all_ranks_make_the_whole(count: int) -> None:
    whole = everything(slice(0, 7))
    parts = [everything(Ranks(number, count).part(7)) for number in range(count)]
    for found, wanted in zip(zip(*parts, strict=True), whole, strict=True):
        joined = found[0] if len(wanted) == 2 else torch.cat(found)
        assert torch.equal(joined, wanted)
    assert (whole[0] == 0).any()


def test_rows_one_by_one() -> None:
    """As a rank has them whose seeds see some nodes and not others."""
    torch.manual_seed(1)
    whole = drop(ROWS, 0.4, True)
    mine = torch.tensor([1, 4, 6])
    torch.manual_seed(1)
    with drawing_for(Part(7, mine, 0, mine)):
        assert torch.equal(drop(ROWS[mine], 0.4, True), whole[mine])


def test_nothing_is_drawn_outside_of_training() -> None:
    before = torch.get_rng_state()
    with drawing_for(Part(7, slice(0, 3), 20, slice(0, 9))):
        assert torch.equal(drop(ROWS[:3], 0.4, False), ROWS[:3])
        assert torch.equal(drop_entries(ENTRIES[:9], 0.4, False), ENTRIES[:9])
        assert torch.equal(drop(ROWS[:3], 0.0, True), ROWS[:3])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rate", [1e-5, 0.1, 0.5, 0.8, 0.99999])
def test_what_stays_makes_up_for_what_is_dropped(rate: float, dtype: torch.dtype) -> None:
    """In every place of a draw alike, since four numbers share one."""
    torch.manual_seed(2)
    count = 400_000
    rows = drop(torch.ones(count // 4, 4, dtype=dtype), rate, True)
    stay = round((1 - rate) * 65536) / 65536
    kept = rows[rows != 0]
    assert rows.dtype == dtype
    assert (kept == torch.tensor(1 / stay, dtype=dtype)).all()
    error = (stay * (1 - stay) * 4 / count) ** 0.5
    share_4 = (rows != 0).float().mean(0)
    assert ((share_4 - stay).abs() <= 5 * error).all()


def test_numbers_are_dropped_independently() -> None:
    torch.manual_seed(3)
    kept = (drop(torch.ones(100_000, 8), 0.3, True) != 0).double()
    correlation = torch.corrcoef(kept.t()) - torch.eye(8)
    assert correlation.abs().max() < 5 / 100_000**0.5
    ahead = torch.corrcoef(torch.stack([kept[1:, 0], kept[:-1, 7]]))[0, 1]
    assert abs(ahead) < 5 / 100_000**0.5
