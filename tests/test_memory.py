from __future__ import annotations

import os
import subprocess
import sys

import pytest

from moee.errors import InputError
from moee.memory import available_bytes, format_size, keep_freed_memory, parse_size, resident_bytes


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
    assert [format_size(size) for size in (12, 2048, 5 * 2**20, 3 * 2**29, 2**41)] == [
        "12 B",
        "2.0 KiB",
        "5.0 MiB",
        "1.5 GiB",
        "2.0 TiB",
    ]


def test_memory_in_use_grows_with_what_is_held() -> None:
    before = resident_bytes()
    held = bytearray(64 * 2**20)
    assert before > 0
    assert resident_bytes() - before > 32 * 2**20
    assert len(held) == 64 * 2**20
    free = available_bytes()
    assert free is None or free > 0


_FAULTS = """
import resource, sys
import torch
from moee.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    first, second, third, fourth = (torch.ones(7 << 20) for _ in range(4))
    del first, second, third, fourth
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is asked")
def test_freed_memory_is_used_again_instead_of_asking_the_system_for_new_pages() -> None:
    def faults(mode: str, **variables: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _FAULTS, mode],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    # 10 turns of 4 tensors of 28 MiB are 286,720 pages
    assert 3 * faults("keep") < faults("leave")


def test_the_users_own_settings_of_the_allocator_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    keep_freed_memory.cache_clear()
    assert not keep_freed_memory()
    keep_freed_memory.cache_clear()
