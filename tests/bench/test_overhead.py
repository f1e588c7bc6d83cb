"""What Python and the dispatcher of torch cost beside the products: counted, not timed, whatever else is running."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from moee import MoEE
from moee.data import calibration_texts
from tests.bench.conftest import GOLDEN

LAYERS = 4
OPERATIONS_A_LAYER = 600
"""Ceiling of one batch of 256 texts; measured: 460, most of them views and casts of a few numbers."""
CALLS_A_TEXT = 90
"""Ceiling of a text more in a batch; measured: 61, the C functions and the words of the lexical view among them."""


class _Count(TorchDispatchMode):
    operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def model() -> MoEE:
    """Small enough to run a large batch; all texts are in one. What the first call of all prepares is prepared."""
    model = MoEE.from_pretrained(GOLDEN, calibration="none", batch_tokens=10**6)
    model.encode(calibration_texts()[:256])
    return model


def operations(model: MoEE, count: int) -> int:
    with _Count() as counter:
        model.encode(calibration_texts()[:count])
    return counter.operations


def calls(work: Callable[[], object]) -> int:
    found = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def test_a_batch_costs_about_as_many_operations_however_many_texts_are_in_it(model: MoEE) -> None:
    few, many = operations(model, 8), operations(model, 256)
    assert 0 < few <= many < 1.5 * few
    assert many < OPERATIONS_A_LAYER * LAYERS


def test_a_text_more_costs_few_python_calls(model: MoEE) -> None:
    texts = calibration_texts()
    few, many = (calls(lambda count=count: model.encode(texts[:count])) for count in (64, 256))  # type: ignore[misc]
    assert (many - few) / (256 - 64) < CALLS_A_TEXT
