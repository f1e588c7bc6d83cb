"""Percent of peak and bounds from turns whose numbers are known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moee.bench.figures import entry_figures, summary
from moee.bench.work import LayerCost, ModelCost
from moee.bench.worker import Repeat

LAYER = LayerCost(linear=1000, keys_values=100, per_pair=0, weights=100, expert_weights=800, num_experts=8, top_k=2)
COST = ModelCost((LAYER, LAYER), head=200)
TURN = Repeat(
    seconds=2.0, latencies=(), peak_bytes=7, device_bytes=0, gemm_flops=40_000.0, copy_bytes=1e6, passes=1, work=None
)


def test_median_and_spread() -> None:
    assert summary([1.0, 4.0, 2.0]) == {"median": 2.0, "spread": 1.5}


def test_percent_of_peak_is_work_over_what_a_product_does_in_the_time() -> None:
    """20 tokens of 2,000 operations in 2 s at 40,000 a second: half."""
    found = entry_figures([TURN], [15, 5], COST, 4)
    assert found["useful_flops"] == found["computed_flops"] == 40_000
    assert found["percent_of_peak"]["median"] == found["percent_of_peak_useful"]["median"] == pytest.approx(50)
    assert found["texts_per_second"] == 1
    assert found["tokens_per_second"] == 10
    assert found["peak_bytes"] == 7


def test_work_that_was_saved_is_useful_and_was_not_done() -> None:
    """The last layer for 2 rows: 20 x 1,000 + 20 x 100 + 2 x 900."""
    turn = replace(TURN, work={"sequences": 2, "tokens": 20, "last_layer_rows": 2})
    found = entry_figures([turn], [15, 5], COST, 4)
    assert found["computed_flops"] == 23_800
    assert found["percent_of_peak"]["median"] == pytest.approx(100 * 23_800 / 80_000)
    assert found["percent_of_peak_useful"]["median"] == pytest.approx(50)


def test_each_turn_is_held_against_its_own_peak() -> None:
    """A machine that another job slows down is slower at both."""
    turns = [TURN, replace(TURN, seconds=4.0, gemm_flops=20_000.0)]
    found = entry_figures(turns, [15, 5], COST, 4)
    assert found["percent_of_peak"] == {"median": pytest.approx(50), "spread": pytest.approx(0)}
    assert found["seconds"]["spread"] == pytest.approx(2 / 3)


def test_the_longer_bound_binds() -> None:
    assert entry_figures([TURN], [15, 5], COST, 4)["binds"] == "compute"
    slow = replace(TURN, copy_bytes=100.0)
    found = entry_figures([slow], [15, 5], COST, 4)
    # nearly all of 1,800 weights of 4 bytes, once
    assert found["bounds"]["memory_s"] == pytest.approx(4 * 1800 / 100, rel=0.01)
    assert found["binds"] == "memory"
    # each text for itself reads fewer experts, but all of the rest again
    alone = entry_figures([replace(slow, passes=20)], [1] * 20, COST, 4)
    assert alone["bounds"]["memory_s"] == pytest.approx(20 * 4 * (200 + 1600 * 2 / 8) / 100)


def test_latencies_have_percentiles() -> None:
    turns = [replace(TURN, latencies=(1.0, 2.0, 3.0)), replace(TURN, latencies=(2.0, 2.0, 9.0))]
    found = entry_figures(turns, [1, 1, 1], COST, 4)["latency"]
    assert found["p50"] == 2.0
    assert 3.0 < found["p95"] < 9.0


def test_without_a_count_there_is_no_percent() -> None:
    found = entry_figures([TURN], [15, 5], None, 4)
    assert "percent_of_peak" not in found
    assert "binds" not in found
    assert found["texts_per_second"] == 1
