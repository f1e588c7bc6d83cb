"""An entry at work: what can be asked of it, and how a pass over a workload is timed.

Here it works in this process, around a model that entries share. `benchmarks/rivals` of a checkout can give each a
process of its own, which makes its peak memory its own. Only one works at a time, either way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from moee.bench.entries import Computed, Runner
from moee.bench.machine import copy_bandwidth, gemm_flops, peak_memory, synchronise
from moee.bench.weights import Setup


@dataclass(frozen=True, slots=True)
class Repeat:
    """One entry's pass over a workload.

    Attributes:
        seconds: From texts to vectors, all of them.
        latencies: Seconds of each call, where every text is a call of its own; else empty.
        peak_bytes: Most memory of the process, weights included.
        device_bytes: Most memory on the accelerator; 0 on a CPU.
        gemm_flops: Operations a second of a large matrix product, just before the pass.
        copy_bytes: Bytes a second of a large copy, read and written, just before the pass.
        passes: Forward passes of the model, at least.
        work: What the entry counted; None if it counts nothing.
    """

    seconds: float
    latencies: tuple[float, ...]
    peak_bytes: int
    device_bytes: int
    gemm_flops: float
    copy_bytes: float
    passes: int
    work: dict[str, int] | None


class Worker(Protocol):
    """An entry at work, that can be asked."""

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that it runs."""
        ...

    def vectors(self, texts: Sequence[str]) -> Computed:
        """Return what it computes, for comparison."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what a reader must know of how it ran."""
        ...

    def warm_up(self, texts: Sequence[str]) -> None:
        """Encode the texts once, not timed."""
        ...

    def repeat(self, texts: Sequence[str], *, one_by_one: bool) -> Repeat:
        """Encode the texts once, timed."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class LocalWorker:
    """An entry in this process."""

    def __init__(self, runner: Runner, setup: Setup) -> None:
        self._runner = runner
        self._setup = setup

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Worker`."""
        return self._runner.token_ids(texts)

    def vectors(self, texts: Sequence[str]) -> Computed:
        """See `Worker`."""
        self._runner.prepare(texts)
        return self._runner.vectors(texts)

    def facts(self) -> dict[str, Any]:
        """See `Worker`."""
        return self._runner.facts

    def warm_up(self, texts: Sequence[str]) -> None:
        """See `Worker`."""
        self._runner.prepare(texts)
        self._runner.encode(texts)

    def repeat(self, texts: Sequence[str], *, one_by_one: bool) -> Repeat:
        """See `Worker`."""
        runner, device = self._runner, self._setup.device
        runner.prepare(texts)
        calls = [[text] for text in texts] if one_by_one else [list(texts)]
        passes = sum(runner.passes(call) for call in calls)
        gemm, copy = gemm_flops(self._setup.dtype, device), copy_bandwidth(device)
        latencies = []
        with peak_memory(device) as memory:
            runner.take_work()  # what the warm-up counted
            synchronise(device)
            for call in calls:
                start = time.perf_counter()
                runner.encode(call)
                synchronise(device)
                latencies.append(time.perf_counter() - start)
        return Repeat(
            seconds=sum(latencies),
            latencies=tuple(latencies) if one_by_one else (),
            peak_bytes=memory.host,
            device_bytes=memory.device,
            gemm_flops=gemm,
            copy_bytes=copy,
            passes=passes,
            work=runner.take_work(),
        )

    def close(self) -> None:
        """See `Worker`. The weights may be another's too."""
