from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moee import memory as memory_module
from moee.errors import InputError
from moee.memory import _left_by_limits, available_bytes, format_size, keep_freed_memory, parse_size, resident_bytes


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
    with mmap.mmap(-1, 64 * 2**20) as held:  # not from the allocator, which may have kept as much
        held.write(b"x" * len(held))
        assert before > 0
        assert resident_bytes() - before > 32 * 2**20
    free = available_bytes()
    assert free is None or free > 0


# --- control groups, in trees of files as the kernel shows them -----------------------------------------------------

GIB = 2**30


def control_group(folder: Path, version: int, limit: int | str, used: int, reclaimable: int | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {1: ("limit_in_bytes", "usage_in_bytes", "total_"), 2: ("max", "current", "")}
    (folder / f"memory.{names[version][0]}").write_text(f"{limit}\n")
    (folder / f"memory.{names[version][1]}").write_text(f"{used}\n")
    if reclaimable is not None:
        prefix, active = names[version][2], reclaimable // 3
        lines = f"anon 5\n{prefix}inactive_file {reclaimable - active}\n{prefix}active_file {active}\n"
        (folder / "memory.stat").write_text(lines if version == 2 else f"inactive_file 3\n{lines}")


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def groups(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, Path, Path]:
    """The version, the root of control groups, and the folder under which those of memory are."""
    root = tmp_path / "cgroup"
    root.mkdir()
    if request.param == 2:
        (root / "cgroup.controllers").write_text("memory\n")
    return request.param, root, root / "memory" if request.param == 1 else root


def left(root: Path, version: int, path: str) -> list[int]:
    membership = root.parent / "membership"
    membership.write_text(f"0::{path}\n" if version == 2 else f"5:cpu,cpuacct:/else\n4:memory:{path}\n")
    return list(_left_by_limits(root, membership))


def test_what_the_kernel_can_reclaim_counts_as_free(groups: tuple[int, Path, Path]) -> None:
    version, root, memory = groups
    control_group(memory, version, 8 * GIB, 7 * GIB, 5 * GIB)
    assert left(root, version, "/") == [6 * GIB]


def test_the_limits_of_all_groups_above_hold_too(groups: tuple[int, Path, Path]) -> None:
    version, root, memory = groups
    control_group(memory / "service", version, 4 * GIB, 3 * GIB, 0)
    control_group(memory / "service" / "job", version, 8 * GIB, 2 * GIB, 1 * GIB)
    assert sorted(left(root, version, "/service/job")) == [1 * GIB, 7 * GIB]


def test_a_path_of_the_host_leaves_the_containers_own_group(groups: tuple[int, Path, Path]) -> None:
    version, root, memory = groups
    control_group(memory, version, 2 * GIB, 1 * GIB, 0)
    assert left(root, version, "/docker/0123abcd") == [1 * GIB]


def test_groups_without_a_limit_or_a_list_of_uses(groups: tuple[int, Path, Path]) -> None:
    version, root, memory = groups
    assert left(root, version, "/nowhere") == []
    control_group(memory, version, "max", 1 * GIB, 0)
    control_group(memory / "job", version, 2 * GIB, 1 * GIB, None)
    assert left(root, version, "/job") == [1 * GIB]


def test_the_smallest_limit_is_what_is_available(
    groups: tuple[int, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    version, root, memory = groups
    control_group(memory, version, 300, 200, 50)
    monkeypatch.setattr(memory_module, "_CGROUP", root)
    assert available_bytes() == 150
    control_group(memory, version, 300, 400, 0)
    assert available_bytes() == 0, "a limit that was lowered below what is used"


# --- memory that was freed ------------------------------------------------------------------------------------------

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
