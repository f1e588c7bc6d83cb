"""`moee study` on the fake backend: files written, wrong use told before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.evaluate.tasks.miniatures import write_miniature

FAKE = ("-m", "fake")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A data folder with one made-up STS set."""
    return write_miniature(tmp_path / "sets", "STS12").parent


def test_routing_writes_its_files_and_names_what_it_left_out(moee: Run, sets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    axes = "scoring,active-experts"
    done = moee("study", "routing", *FAKE, "--data", sets, "--out", out, "--axes", axes, "--limit", "40", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert {Path(path).suffix for path in summary["files"]} == {".csv", ".json", ".md", ".png", ".svg"}
    assert any(line.startswith("Left out, active-experts") for line in summary["notes"])
    written = json.loads((out / "routing.json").read_text(encoding="utf-8"))
    assert {row["axis"] for row in written["tables"][0]["rows"]} == {"scoring"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--axes", "scorings"), "Did you mean 'scoring'"),
        (("--axes", ","), "No axis is named"),
        (("--tasks", "STS112"), "Did you mean"),
        (("--axes", "active-experts"), "No axis can be studied"),
        (("--limit", "10"), "40"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], message: str, moee: Run, sets: Path, tmp_path: Path) -> None:
    done = moee("study", "routing", *FAKE, "--data", sets, "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
