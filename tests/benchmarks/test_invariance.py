from __future__ import annotations

import pytest

from benchmarks.invariance import measure
from moee.data import calibration_texts


@pytest.mark.slow
def test_the_demo_gives_a_text_the_same_vector_however_it_is_arranged() -> None:
    differences = measure("demo", calibration_texts()[:200], "float32")
    assert len(differences) == 5
    assert {label: value for label, value in differences.items() if value > 1e-5} == {}
