"""The embedded default model through the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moee.demo import demo_folder
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def built(cache_folder: Path) -> Path:
    """The model, built into the cache of this run before a command runs."""
    return demo_folder()


def test_the_demo_finds_sentences_of_the_query_s_topic(moee: Run, cache_folder: Path) -> None:
    done = moee("demo", "--json", MOEE_CACHE=str(cache_folder))
    assert done.returncode == 0, done.stderr
    assert "no calibration statistics" not in done.stderr  # they ship with the package
    report = json.loads(done.stdout)
    found = {name: int(share.split("/")[0]) for name, share in report["same_topic"].items()}
    shown = 3 * len(report["queries"])
    # eight of the seventy-two sentences are of a query's topic: chance finds one in nine
    assert found["hs"] >= 0.7 * shown
    assert found["weighted"] >= 0.7 * shown
    assert found["rw"] >= 0.35 * shown


def test_inspect_knows_the_demo(moee: Run, cache_folder: Path) -> None:
    done = moee("inspect", "demo", "--json", MOEE_CACHE=str(cache_folder))
    summary = json.loads(done.stdout)
    assert (summary["model_type"], summary["hidden_size"], len(summary["layer_ids"])) == ("qwen2_moe", 576, 30)
    assert summary["calibrated"] == "builtin"


def test_a_pipe_through_the_default_model(moee: Run, cache_folder: Path) -> None:
    texts = ["A cat sat down.", "A kitten took a seat.", "Rates rose again."]
    done = moee("similarity", *texts, "--json", MOEE_CACHE=str(cache_folder))
    assert done.returncode == 0, done.stderr
    matrix = json.loads(done.stdout)["similarity"]
    assert matrix[0][1] > matrix[0][2] + 0.1
    embedded = moee("embed", "-", stdin="".join(f"{text}\n" for text in texts), MOEE_CACHE=str(cache_folder))
    rows = [json.loads(line)["embedding"] for line in embedded.stdout.splitlines()]
    dot = sum(a * b for a, b in zip(rows[0], rows[1], strict=True))
    assert abs(dot - matrix[0][1]) < 1e-4
