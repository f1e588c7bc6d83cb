"""`table8` on the golden checkpoint against the similarities that the original implementation gave.

tests/golden/README.md says what the arrays are: cosines of twelve made-up pairs, each column encoded by one call.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.evaluate.reproduce.exhibit import Options
from moee.evaluate.reproduce.run import Run, original_setting
from moee.evaluate.reproduce.score_tables import ORIGINAL
from moee.evaluate.reproduce.targets import TARGETS
from moee.evaluate.study import Study
from moee.types import Fusion

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
TOLERANCE = 1e-3
"""As tests/golden/compare.py: standardisation divides float32 noise by small deviations."""
ARRAYS: Mapping[Fusion, str] = {"hs": "HS.cos", "rw": "RW.cos", "concat": "MoEE.cos", "sum": "MoEE.sum_a1.0"}
PROMPTS = {"prompteol": "prompteol", "none": "none"}


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Everything that `reproduce table8 --keep-items` keeps of the golden pairs, written as an STS set."""
    data = tmp_path_factory.mktemp("golden-sets")
    inputs = json.loads((GOLDEN / "inputs.json").read_text(encoding="utf-8"))
    folder = data / "STS12"
    folder.mkdir()
    (folder / "dataset.json").write_text('{"task_type": "STS"}', encoding="utf-8")
    with gzip.open(folder / "test.jsonl.gz", "wt", encoding="utf-8") as stream:
        for (left, right), score in zip(inputs["pairs"], inputs["gold"], strict=True):
            stream.write(json.dumps({"sentence1": left, "sentence2": right, "score": score}) + "\n")
    model = MoEE.from_pretrained(str(GOLDEN / "olmoe-tiny"), dtype="float32")
    everything = [text for pair in inputs["pairs"] for text in pair]
    for prompt in PROMPTS:  # the rows done right are not the subject here, and thousands of sentences take long
        model.with_settings(prompt=prompt).calibrate(everything)
    study = Study(model, data, cache=data / "cache", max_length=None)
    exhibit = TARGETS["table8"].make(Run(study, Options(keep_items=True)))
    return exhibit.items["STS12"]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("fusion", ARRAYS)
def test_similarities_are_those_of_the_original(fusion: Fusion, prompt: str, items: Mapping[str, Any]) -> None:
    kept = items[original_setting(fusion, prompt).label()]
    assert kept["computed"] == ORIGINAL
    found = np.array(kept["items"]) * (2.0 if fusion == "sum" else 1.0)  # our sum is divided by 1 + alpha
    golden = np.load(GOLDEN / "olmoe-tiny.npz")[f"sts.{prompt}.b24.{ARRAYS[fusion]}"]
    np.testing.assert_allclose(found, np.ravel(golden), atol=TOLERANCE, rtol=0)


def test_the_comparison_could_fail(items: Mapping[str, Any]) -> None:
    """Hidden states are not standardised by the original, so RW's rows must differ from HS's by far more."""
    hidden, routing = (
        np.array(items[original_setting(fusion, "prompteol").label()]["items"]) for fusion in ("hs", "rw")
    )
    assert np.abs(hidden - routing).max() > 100 * TOLERANCE
