"""A model that is read from disk, killed in the middle of its work: at most one chunk is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.data import calibration_texts

GOLDEN = Path(__file__).parents[1] / "golden" / "olmoe-tiny"
# a tiny checkpoint fits wherever Python does, so it is made not to, and its chunks are made small
PROGRAM = """
import sys
from moee.backends import choose
from moee.backends.from_disk import sweep
from moee.cli import main
choose.MemoryBudget.holds = lambda *_: False
sweep.SweepBackend.chunk_tokens = lambda *_: 400
main()
"""


def command(texts: Path, output: Path) -> list[str]:
    options = ["-m", str(GOLDEN), "--calibration", "none", "--dtype", "float32", "--batch-tokens", "200"]
    return [sys.executable, "-c", PROGRAM, "embed", str(texts), *options, "-o", str(output)]


def finished(output: Path) -> list[Path]:
    return list((output.with_name(f"{output.name}.parts") / "views").glob("*/*.safetensors"))


@pytest.mark.slow
def test_a_killed_sweep_goes_on_after_its_last_chunk(environment: dict[str, str], tmp_path: Path) -> None:
    texts, output = tmp_path / "texts.txt", tmp_path / "out.npy"
    lines = calibration_texts()[:300]
    texts.write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**environment, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command(texts, output), env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 120
            while not finished(output) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
    assert not output.exists()
    assert finished(output), "the first chunk was written before the kill"
    done = subprocess.run(command(texts, output), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "texts were finished by an earlier run" in done.stderr
    assert not (tmp_path / "out.npy.parts").exists()
    expected = MoEE.from_pretrained(GOLDEN, dtype="float32", calibration="none").encode(lines)
    assert np.abs(np.load(output) - expected).max() < 1e-5
