"""Timed passes to figures: medians and spread, percent of peak, and which bound binds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from moee.bench.work import ModelCost, counted_work
from moee.bench.worker import Repeat


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, and the spread: largest minus smallest, over the median."""
    median = statistics.median(values)
    return {"median": median, "spread": (max(values) - min(values)) / median if median else 0.0}


def entry_figures(
    repeats: Sequence[Repeat], lengths: Sequence[int], cost: ModelCost | None, element_bytes: int
) -> dict[str, Any]:
    """Return what is reported of one entry.

    Args:
        repeats: At least one.
        lengths: Tokens of every text, prompt included and padding not.
        cost: Cost of the model; None where it is not counted, and neither percent nor bound is given.
        element_bytes: Bytes of a weight.

    Returns:
        A JSON object. `Any`: of numbers and objects of numbers.
    """
    seconds = [repeat.seconds for repeat in repeats]
    figures: dict[str, Any] = {
        "seconds": summary(seconds),
        "texts_per_second": len(lengths) / statistics.median(seconds),
        "tokens_per_second": sum(lengths) / statistics.median(seconds),
        "peak_bytes": max(repeat.peak_bytes for repeat in repeats),
        "device_bytes": max(repeat.device_bytes for repeat in repeats),
        "gemm_flops": summary([repeat.gemm_flops for repeat in repeats]),
        "copy_bytes": summary([repeat.copy_bytes for repeat in repeats]),
    }
    latencies = [each for repeat in repeats for each in repeat.latencies]
    if latencies:
        figures["latency"] = {"p50": float(np.percentile(latencies, 50)), "p95": float(np.percentile(latencies, 95))}
    return figures if cost is None else figures | _of_peak(repeats, lengths, cost, element_bytes)


def _of_peak(repeats: Sequence[Repeat], lengths: Sequence[int], cost: ModelCost, element_bytes: int) -> dict[str, Any]:
    useful = cost.useful(lengths)
    computed = [counted_work(cost, lengths, repeat.work) for repeat in repeats]
    compute_s = [flops / repeat.gemm_flops for flops, repeat in zip(computed, repeats, strict=True)]
    percents = [100 * least / repeat.seconds for least, repeat in zip(compute_s, repeats, strict=True)]
    memory_s = [_memory_seconds(repeat, lengths, cost, element_bytes) for repeat in repeats]
    bounds = {"compute_s": statistics.median(compute_s), "memory_s": statistics.median(memory_s)}
    return {
        "useful_flops": useful,
        "computed_flops": computed[-1],
        "percent_of_peak": summary(percents),
        "percent_of_peak_useful": summary([100 * useful / (repeat.seconds * repeat.gemm_flops) for repeat in repeats]),
        "bounds": bounds,
        "binds": "compute" if bounds["compute_s"] >= bounds["memory_s"] else "memory",
    }


def _memory_seconds(repeat: Repeat, lengths: Sequence[int], cost: ModelCost, element_bytes: int) -> float:
    """Seconds to read the weights that every pass needs, at the bandwidth of a copy."""
    per_pass = max(1, sum(lengths) // repeat.passes)
    return repeat.passes * cost.read(per_pass) * element_bytes / repeat.copy_bytes
