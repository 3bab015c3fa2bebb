"""Sizes: read as people write them, and written so that they are read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2t.config import Settings, validate
from g2t.errors import UsageError
from g2t.units import Size, format_size, parse_size


class Memory(Settings):
    memory: Size = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("1B", 1),
        ("1KiB", 1024),
        ("1kB", 1000),
        ("256MiB", 268_435_456),
        (" 256 mib ", 268_435_456),
        ("1.5GiB", 1_610_612_736),
        ("2GB", 2_000_000_000),
        ("1TiB", 1 << 40),
        ("0.5kB", 500),
    ],
)
def test_a_size_is_its_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1MiB", "1 MiBs", "1e3", "0", "0.1B", "1iB", "٣MiB"])
def test_what_names_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)


@given(st.integers(1, 1 << 50))
def test_a_written_size_is_read_back_exactly(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(("size", "text"), [(256 << 20, "256MiB"), (10**9, "1GB"), (1025, "1025B")])
def test_a_size_is_written_in_the_largest_unit_that_divides_it(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize("value", ["512KiB", 524_288])
def test_a_setting_takes_both_and_is_written_as_a_text(value: object) -> None:
    settings = validate(Memory, {"memory": value})
    assert settings.memory == 524_288
    assert settings.model_dump(mode="json") == {"memory": "512KiB"}
    assert validate(Memory, settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize("value", ["much", "0MiB", 0, -5, 1.5, True, None, [1]])
def test_a_wrong_setting_is_named(value: object) -> None:
    with pytest.raises(UsageError, match="setting memory: "):
        validate(Memory, {"memory": value})
