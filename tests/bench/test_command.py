"""`moee bench` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.conftest import GOLDEN
from tests.cli.conftest import Run, command, environment, moee

__all__ = ["command", "environment", "moee"]


def test_wrong_names_are_refused_before_anything_is_loaded(moee: Run, tmp_path: Path) -> None:
    for arguments, said in (
        (("-m", "qwen15-moe"), "Unknown model 'qwen15-moe'. Choose from: deepseek-moe, demo, olmoe, qwen1.5-moe."),
        (("-m", GOLDEN, "--gguf", tmp_path / "no.gguf"), "there is no such file"),
        (("-m", GOLDEN, "--layers", "2"), "--layers is for models of random weights"),
        (("-m", GOLDEN, "--peers", "orginal"), "Did you mean 'original'"),
        (("-m", GOLDEN, "--workload", "shrt"), "Did you mean 'short'"),
        (("-m", GOLDEN, "--scaling", "token"), "Did you mean 'tokens'"),
        (("-m", GOLDEN, "--law", "all"), "--law is called --scaling. Give --scaling all."),
        (("-m", GOLDEN, "--rounds", "2"), "--rounds is called --repeats. Give --repeats 2."),
    ):
        done = moee("bench", *arguments)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert not done.stdout
    (tmp_path / "file").touch()
    done = moee("bench", "-m", GOLDEN, "--json", tmp_path / "file" / "result.json")
    assert done.returncode == 1
    assert "Cannot write" in done.stderr


@pytest.mark.slow
def test_a_run_prints_a_table_and_writes_files(moee: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    options = ("--peers", "transformers", "--texts", "4", "--repeats", "1", "--threads", "1", "--precision", "exact")
    done = moee("bench", "-m", GOLDEN, *options, "--json", tmp_path / "new" / "r.json", "--plot", tmp_path / "r.svg")
    assert done.returncode == 0, done.stderr
    assert "entry         gives    texts/s" in done.stdout
    assert "times the speed of transformers" in done.stdout
    assert "repeat 1 of 1, moee" in done.stderr
    document = json.loads((tmp_path / "new" / "r.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in document["contestants"]] == ["moee", "transformers"]
    assert document["machine"]["threads"] == 1
    assert str(GOLDEN.parent) not in json.dumps(document), "no path of a machine in a result"
    assert (tmp_path / "r.png").is_file()
    assert "tokens a second" in (tmp_path / "r.svg").read_text(encoding="utf-8")
