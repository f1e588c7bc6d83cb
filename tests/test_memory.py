from __future__ import annotations

import pytest

from moee.errors import InputError
from moee.memory import available_bytes, format_size, parse_size, resident_bytes


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("4GiB", 4 * 2**30),
        ("4.5 GB", 4_500_000_000),
        ("800MiB", 800 * 2**20),
        ("16g", 16 * 10**9),
        ("1ti", 2**40),
        ("12345", 12345),
        (12345, 12345),
    ],
)
def test_sizes_are_read_as_people_write_them(size: str | int, expected: int) -> None:
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["", "much", "4 XB", "-1GiB", "0", "4GiB 2MiB", "inf"])
def test_what_is_no_size_is_refused_with_an_example(size: str) -> None:
    with pytest.raises(InputError, match="4GiB"):
        parse_size(size)


def test_sizes_are_shown_with_a_unit() -> None:
    assert [format_size(size) for size in (12, 2048, 5 * 2**20, 3 * 2**29)] == ["12 B", "2.0 KiB", "5.0 MiB", "1.5 GiB"]


def test_memory_in_use_grows_with_what_is_held() -> None:
    before = resident_bytes()
    held = bytearray(64 * 2**20)
    assert before > 0
    assert resident_bytes() - before > 32 * 2**20
    assert len(held) == 64 * 2**20
    free = available_bytes()
    assert free is None or free > 0
