"""Turns to figures: medians and spread, percent of peak, and which bound binds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from moee.bench.seats import Turn
from moee.bench.work import ModelCost, counted_work


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, and the spread: largest minus smallest, over the median."""
    median = statistics.median(values)
    return {"median": median, "spread": (max(values) - min(values)) / median if median else 0.0}


def contestant_figures(
    turns: Sequence[Turn], lengths: Sequence[int], cost: ModelCost | None, element_bytes: int
) -> dict[str, Any]:
    """Return what is reported of one contestant.

    Args:
        turns: At least one.
        lengths: Tokens of every text, prompt included and padding not.
        cost: Of the model; None where it is not counted, and neither percent nor bound is given.
        element_bytes: Of a weight.

    Returns:
        A JSON object. `Any`: of numbers and objects of numbers.
    """
    seconds = [turn.seconds for turn in turns]
    figures: dict[str, Any] = {
        "seconds": summary(seconds),
        "texts_per_second": len(lengths) / statistics.median(seconds),
        "tokens_per_second": sum(lengths) / statistics.median(seconds),
        "peak_bytes": max(turn.peak_bytes for turn in turns),
        "device_bytes": max(turn.device_bytes for turn in turns),
        "gemm_flops": summary([turn.gemm_flops for turn in turns]),
        "copy_bytes": summary([turn.copy_bytes for turn in turns]),
    }
    latencies = [each for turn in turns for each in turn.latencies]
    if latencies:
        figures["latency"] = {"p50": float(np.percentile(latencies, 50)), "p95": float(np.percentile(latencies, 95))}
    return figures if cost is None else figures | _of_peak(turns, lengths, cost, element_bytes)


def _of_peak(turns: Sequence[Turn], lengths: Sequence[int], cost: ModelCost, element_bytes: int) -> dict[str, Any]:
    useful = cost.useful(lengths)
    computed = [counted_work(cost, lengths, turn.work) for turn in turns]
    compute_s = [flops / turn.gemm_flops for flops, turn in zip(computed, turns, strict=True)]
    memory_s = [_memory_seconds(turn, lengths, cost, element_bytes) for turn in turns]
    bounds = {"compute_s": statistics.median(compute_s), "memory_s": statistics.median(memory_s)}
    return {
        "useful_flops": useful,
        "computed_flops": computed[-1],
        "percent_of_peak": summary([100 * least / turn.seconds for least, turn in zip(compute_s, turns, strict=True)]),
        "percent_of_peak_useful": summary([100 * useful / (turn.seconds * turn.gemm_flops) for turn in turns]),
        "bounds": bounds,
        "binds": "compute" if bounds["compute_s"] >= bounds["memory_s"] else "memory",
    }


def _memory_seconds(turn: Turn, lengths: Sequence[int], cost: ModelCost, element_bytes: int) -> float:
    """Seconds to read the weights that every pass needs, at the bandwidth of a copy."""
    per_pass = max(1, sum(lengths) // turn.passes)
    return turn.passes * cost.read(per_pass) * element_bytes / turn.copy_bytes
