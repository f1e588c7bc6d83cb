from __future__ import annotations

import sys

import pytest
import torch

from moee.bench import machine


def test_a_matrix_product_and_a_copy_have_a_speed() -> None:
    """Wide bounds: a microcontroller and a data centre are both wrong."""
    assert 1e8 < machine.gemm_flops("float32") < 1e16
    assert 1e7 < machine.copy_bandwidth() < 1e14


def test_best_of_several_leaves_the_warm_up_out() -> None:
    calls = []
    seconds = machine.best_seconds(lambda: calls.append(0), 3, "cpu")
    assert len(calls) == 4
    assert seconds >= 0


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_peak_memory_sees_what_was_freed_since() -> None:
    size = 96 << 20
    with machine.peak_memory("cpu") as memory:
        before = memory.host
        block = torch.ones(size, dtype=torch.uint8)
        while memory.host <= before + 0.8 * size:  # pytest's own time limit ends a test that hangs
            machine.time.sleep(machine._SAMPLE_SECONDS)
        del block
    assert memory.host > before + 0.8 * size
    assert memory.device == 0
    assert machine.resident_bytes() < memory.host - 0.5 * size


def test_a_description_names_processor_threads_and_versions() -> None:
    facts = machine.describe("cpu", 3)
    assert facts["threads"] == 3
    assert facts["accelerator"] is None
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["instructions"]
