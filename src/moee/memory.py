"""How much memory there is, is used, and may be used; in bytes."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from functools import cache
from pathlib import Path

from moee.errors import InputError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", re.IGNORECASE)
_CGROUP = Path("/sys/fs/cgroup")

_MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of the two options in `malloc.h`."""
_LARGEST_KEPT = 32 << 20
"""The most that glibc takes for the size from which memory is asked of the system each time."""
_KEPT = 512 << 20


def parse_size(size: str | int) -> int:
    """Return the bytes that `size` says: `"4GiB"`, `"4.5 GB"`, `"800M"`, or a number of bytes.

    Raises:
        InputError: If it is not a positive size.
    """
    match = _SIZE.fullmatch(str(size))
    number = int(float(match[1]) * _UNITS[match[2].lower()]) if match and match[2].lower() in _UNITS else 0
    if number < 1:
        raise InputError(f"{size!r} is not an amount of memory. Write for example '4GiB', '4.5GB', '800MiB'.")
    return number


def format_size(size: float) -> str:
    """Return bytes for people: `"1.5 GiB"`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def resident_bytes() -> int:
    """Return what this process has in physical memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    import resource

    return pages * resource.getpagesize()


def available_bytes() -> int | None:
    """Return what this process can still take without swapping; None where the system does not say.

    The smaller of what the machine has and what a container's limit leaves (control groups, version 2).
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return free  # no limit, or not this version
    return min(free, limit - used)


@cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 512 MiB that it has freed, instead of giving it back at once.

    A forward pass takes and frees tensors of tens of MiB at every step. By default glibc returns much of that to the
    system, which zeroes it page by page when it is asked for again; with a processor that multiplies fast, a tenth of
    the time went there.

    Returns:
        Whether it was done: only with glibc, and not if the user has chosen otherwise by environment variables.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _MALLOC_VARIABLES):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT))
