"""`moee reproduce` on the fake backend: targets listed, files written, wrong use told before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

FAKE = ("-m", "fake")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A data folder with one made-up STS set."""
    folder = tmp_path / "sets" / "STS12"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text('{"name": "STS12", "task_type": "STS"}', encoding="utf-8")
    rows = [
        {
            "sentence1": f"the boat left harbour {n}",
            "sentence2": f"the boat {'left' if n % 2 else 'sank'} {n}",
            "score": n % 5,
        }
        for n in range(24)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder.parent


def test_without_a_target_they_are_listed(moee: Run) -> None:
    done = moee("reproduce")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert names[:2] == ["table1", "table3"]
    assert {"table12", "figure6", "cases"} <= set(names)
    listed = json.loads(moee("reproduce", "--json").stdout)
    assert [row["target"] for row in listed] == names


def test_targets_are_made_from_the_data_there_is(moee: Run, sets: Path, tmp_path: Path) -> None:
    """One target of two has no data: the other is made, and the summary says which is missing and why."""
    out = tmp_path / "out"
    done = moee("reproduce", "figure2", "table9", *FAKE, "--data", sets, "--out", out, "--json", "--limit", "20")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    missing, made = summary["targets"]
    assert missing["target"] == "table9"
    assert "Classification" in missing["not_made"]
    assert made["target"] == "figure2"
    assert {Path(file).name for file in made["files"]} == {
        f"figure2.{kind}" for kind in ("json", "csv", "md", "png", "svg")
    }
    document = json.loads((out / "figure2.json").read_text(encoding="utf-8"))
    assert document["run"]["limit"] == 20
    assert document["tables"][0]["rows"][0]["pairs"] == 20


def test_files_are_named_on_standard_output(moee: Run, sets: Path, tmp_path: Path) -> None:
    done = moee("reproduce", "cases", *FAKE, "--out", tmp_path / "out", MOEE_DATA=str(sets))
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_file() for line in done.stdout.splitlines())
    assert "cases: pairs that only one view gets right" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tabel8",), "Did you mean 'table8'"),
        (("table8", "--tasks", "STS112"), "Did you mean"),
        (("table8", "--prompts", "promteol"), "Did you mean 'prompteol'"),
        (("table8", "--prompts", ""), "--prompts is empty"),
        (("table9",), "table9 needs a set of type Classification"),
        (("table9", "table11"), "None of the targets could be made"),
        (("table8", "--tasks", "STS13"), "holds no such set"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], message: str, moee: Run, sets: Path, tmp_path: Path) -> None:
    done = moee("--quiet", "reproduce", *arguments, *FAKE, "--data", sets, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_data_must_be_named(moee: Run, tmp_path: Path) -> None:
    done = moee("reproduce", "table8", *FAKE, "--out", tmp_path / "out", MOEE_DATA="")
    assert done.returncode == 2
    assert "set MOEE_DATA" in done.stderr
