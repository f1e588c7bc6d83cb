"""What the hardware gives: speed of matrix products and copies, peak memory, and its own description."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from moee.memory import resident_bytes

GEMM_SHAPE = (1024, 2048, 2048)
"""Rows, inner and outer width of the matrix product that a percent of peak is measured against."""
_GEMM_RUNS = 6
_COPY_BYTES = 1 << 28
_COPY_RUNS = 3
_SAMPLE_SECONDS = 0.02
_PACKAGES = ("moee", "torch", "transformers", "sentence-transformers", "llama-cpp-python", "numpy")


def synchronise(device: str) -> None:
    """Wait until an accelerator has done what it was given; nothing on a CPU."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def best_seconds(work: Callable[[], object], runs: int, device: str, *, warm_up: int = 1) -> float:
    """Return the seconds of the fastest of `runs` runs, after `warm_up` that are not counted."""
    seconds = []
    for number in range(warm_up + runs):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        if number >= warm_up:
            seconds.append(time.perf_counter() - start)
    return min(seconds)


def gemm_flops(dtype: str, device: str = "cpu") -> float:
    """Return the speed of a large matrix product on the threads in use, in operations a second: best of several.

    Args:
        dtype: A name such as `"float32"`.
        device: Device of torch.
    """
    import torch

    rows, inner, outer = GEMM_SHAPE
    left = torch.full((rows, inner), 0.5, dtype=getattr(torch, dtype), device=device)
    right = torch.full((outer, inner), 0.5, dtype=getattr(torch, dtype), device=device)
    with torch.inference_mode():
        seconds = best_seconds(lambda: torch.nn.functional.linear(left, right), _GEMM_RUNS, device)
    return 2.0 * rows * inner * outer / seconds


def copy_bandwidth(device: str = "cpu") -> float:
    """Return the bytes a second that a large copy reads and writes together: best of several."""
    import torch

    source = torch.ones(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2.0 * _COPY_BYTES / best_seconds(lambda: target.copy_(source), _COPY_RUNS, device)


class PeakMemory:
    """The most memory that was in use: of the process, and on the accelerator.

    Attributes:
        host: Bytes resident at most, in samples 20 ms apart; 0 where the system does not tell (no /proc).
        device: Bytes allocated at most on the accelerator; 0 on a CPU.
    """

    def __init__(self) -> None:
        self.host = 0
        self.device = 0


@contextmanager
def peak_memory(device: str) -> Iterator[PeakMemory]:
    """Watch memory inside the context; what earlier work left to the allocator is given back first."""
    found, stop = PeakMemory(), threading.Event()
    _give_back()
    _reset_device(device)

    def watch() -> None:
        while not stop.wait(_SAMPLE_SECONDS):
            found.host = max(found.host, resident_bytes())

    found.host = resident_bytes()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        stop.set()
        watcher.join()
        found.host = max(found.host, resident_bytes())
        found.device = _device_peak(device)


def _give_back() -> None:
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other C libraries keep little
        if trim is not None:
            trim(0)


def _reset_device(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _device_peak(device: str) -> int:
    if not device.startswith("cuda"):
        return 0
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def describe(device: str, threads: int) -> dict[str, Any]:
    """Return what a figure belongs to: processor, threads, memory, accelerator, versions. `Any`: a JSON object."""
    import torch

    facts: dict[str, Any] = {
        "processor": _processor(),
        "instructions": _instructions(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "memory_bytes": _total_bytes(),
        "accelerator": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    return facts | {"versions": {name: found for name in _PACKAGES if (found := _version(name))}}


def _instructions() -> str:
    """Name the vector instructions that torch uses, and the matrix ones, which it does not count among them."""
    import torch

    vectors = str(torch.backends.cpu.get_cpu_capability())
    return f"{vectors}, AMX" if torch.cpu._is_amx_tile_supported() else vectors


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _total_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
