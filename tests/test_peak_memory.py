"""Memory does not grow with the number of texts beyond what is returned for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden" / "olmoe-tiny"
# the peak of a process never falls, so both numbers come from one: few texts first
PROGRAM = """
import json, resource, sys
from moee import MoEE
from moee.data import calibration_texts
model = MoEE.from_pretrained(sys.argv[1], dtype="float32", recipe="0.1", calibration="none")
words = calibration_texts()
def sentences(start, stop):
    return [f"{words[n % len(words)]} And {n} more." for n in range(start, stop)]
peaks, outputs = [], []
for start, stop in ((0, 1000), (1000, 2000), (2000, 12000)):
    texts = sentences(start, stop)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    vectors = model.encode(texts)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
    outputs.append(vectors.nbytes)
print(json.dumps([peaks, outputs]))
"""


@pytest.mark.slow
def test_ten_thousand_sentences_need_no_more_than_their_vectors() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(GOLDEN)], capture_output=True, text=True, check=True, timeout=600
    )
    peaks, outputs = json.loads(done.stdout)
    # two views, their calibrated copies and the vectors; token ids and dictionaries are a few hundred bytes a text
    allowed = 6 * outputs[2] + 10_000 * 2_000
    assert peaks[2] < allowed, (peaks, outputs)
    # four states of every token, kept by mistake, would take more
    assert allowed < 10_000 * 15 * 64 * 4 * 4
