"""Fit the calibration statistics that ship with the embedded default, on the built-in sentences.

    python scripts/make_demo_calibration.py

Run it after `scripts/make_demo.py`, and whenever the built-in sentences or the statistics change. Takes minutes.
"""

from __future__ import annotations

from pathlib import Path

from moee import MoEE
from moee.demo.build import ASSETS


def main() -> None:
    """Fit on the default recipe in float32 and write `calibration.safetensors` beside the plan."""
    model = MoEE.from_pretrained("demo", dtype="float32")
    statistics = model.calibrate(show_progress_bar=True)
    path = Path(ASSETS) / "calibration.safetensors"
    statistics.save(path)
    print(f"{path.name}: {statistics.num_texts} texts, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
