"""How much memory there is, is used, and may be used; in bytes."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from moee.errors import InputError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", re.IGNORECASE)
_CGROUP, _PROC_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_VERSION_2 = ("memory.max", "memory.current", "")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
"""Names of a control group's limit and use, and what names in its `memory.stat` begin with that count children too."""

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

    The smallest of what the machine has and what the limits of its control groups (of containers, of services) leave,
    of version 1 or 2. Pages of files count as free, as in the kernel's own `MemAvailable`: it takes them back before it
    refuses memory, and reading a model's weights fills a container with them.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    return min([free, *(max(left, 0) for left in _left_by_limits(_CGROUP, _PROC_CGROUP))])


def _left_by_limits(root: Path, membership: Path) -> Iterator[int]:
    """Yield what each limit on this process leaves: of its own control group and of all above it.

    Args:
        root: Where control groups are mounted.
        membership: The file of lines `number:controllers:path` that says which ones this process is in. Inside a
            container the path may be that of the host, which is not there; the root then is the container's own group.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    ours = dict(line.split(":", 2)[1:] for line in lines if line.count(":") >= 2)
    names = _VERSION_2 if (root / "cgroup.controllers").is_file() else _VERSION_1
    if names is _VERSION_1:
        root /= "memory"
    path = ours.get("", "/") if names is _VERSION_2 else next((ours[key] for key in ours if "memory" in key), "/")
    group = root / path.lstrip("/")
    for folder in (root, *(each for each in (group, *group.parents) if root in each.parents)):
        left = _left_by_limit(folder, *names)
        if left is not None:
            yield left


def _left_by_limit(folder: Path, limit: str, used: str, prefix: str) -> int | None:
    """Return what the limit of one control group leaves; None without a limit."""
    try:
        allowed = int((folder / limit).read_text(encoding="ascii"))
        taken = int((folder / used).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # "max", or no such group
    try:
        counts = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        taken -= sum(int(counts.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
    except (OSError, ValueError):
        pass  # then all of it counts as taken, as the kernel counts it
    return allowed - taken


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
