"""The quality benchmark: its bookkeeping, and a run on a few pairs with the real demo model."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "quality.py"


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quality", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["quality"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_promise_is_compared_only_if_both_sides_were_measured(quality: ModuleType) -> None:
    rows = [
        {"model": "carved", "setting": "raw", "fusion": "hs", "mean": 60.0},
        {"model": "carved", "setting": "builtin", "fusion": "hs", "mean": 61.5},
    ]
    assert quality.comparisons(rows) == [
        {"what": "hs: built-in statistics over raw", "difference": 1.5, "at_least": 1.0}
    ]


@pytest.mark.slow
@pytest.mark.data
def test_a_small_run_prints_and_writes_every_row(tmp_path: Path) -> None:
    out = tmp_path / "quality.json"
    command = [sys.executable, str(SCRIPT), "--models", "carved", "--limit", "6", "--json", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(out.read_text(encoding="utf-8"))
    counts = {model: sum(row["model"] == model for row in result["rows"]) for model in ("tf-idf", "carved")}
    assert counts == {"tf-idf": 1, "carved": 15}
    assert all(np.isfinite(row["mean"]) for row in result["rows"])
    assert "SAMPLE: 6 pairs" in run.stdout
