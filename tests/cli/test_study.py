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


def test_domains_name_what_is_not_there(moee: Run, tmp_path: Path) -> None:
    data = write_miniature(tmp_path / "sets", "WikiQA").parent
    write_miniature(data, "Cranfield")
    done = moee("study", "domains", *FAKE, "--data", data, "--out", tmp_path / "out", "--limit", "60", "--json")
    assert done.returncode == 0, done.stderr
    notes = json.loads(done.stdout)["notes"]
    assert any(line.startswith("engineering: ") and "BM25" in line for line in notes)
    assert any(line.startswith("forum questions: ") and "TF-IDF" in line for line in notes)
    assert "finance: no set in the data folder." in notes
    rows = json.loads((tmp_path / "out" / "domains.json").read_text(encoding="utf-8"))["tables"][1]["rows"]
    assert [row["words alone"] for row in rows] == ["BM25", "TF-IDF"]


def test_domains_without_a_set_are_an_error(moee: Run, sets: Path, tmp_path: Path) -> None:
    done = moee("study", "domains", *FAKE, "--data", sets, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "None of the sets SciFact" in done.stderr


def test_cost_counts_and_times_every_entry(moee: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = moee("study", "cost", *FAKE, "--out", out, "--rounds", "3", "--sizes", "200,400")
    assert done.returncode == 0, done.stderr
    encoding, index, statistics = (
        table["rows"] for table in json.loads((out / "cost.json").read_text(encoding="utf-8"))["tables"]
    )
    assert {"HS", "HS + RW", "words alone", "MiniLM's shape"} <= {row["entry"] for row in encoding}
    assert all(row["one text, ms"] > 0 and row["ratio"] > 0 for row in encoding)
    dims = {row["entry"]: row["dimensions"] for row in index}
    assert dims["HS"] < dims["HS + RW"] < dims["HS + RW + words"] < dims["all four views"]
    assert all(row["1,000,000 calculated, ms"] == pytest.approx(2500 * row["400, ms"]) for row in index)
    assert {row["view"]: row["MiB"] > 0 for row in statistics} == dict.fromkeys(("hs", "rw", "tokens", "lexical"), True)


@pytest.mark.parametrize("sizes", ["ten", "", "5", "1000,-3"])
def test_sizes_that_are_none_are_told(sizes: str, moee: Run, tmp_path: Path) -> None:
    done = moee("study", "cost", *FAKE, "--out", tmp_path / "out", "--sizes", sizes)
    assert done.returncode == 2
    assert "--sizes is" in done.stderr
