"""`moee tune-alpha`, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.evaluate.alpha.tune import METHODS, tune_alpha
from tests.cli.conftest import Run

SUBJECTS = ("cats", "rates", "rain", "bonds", "snow", "dogs")
TEXTS = [f"note {number} about {subject}" for number, subject in enumerate(SUBJECTS * 6)]
FAKE = ("-m", "fake", "--calibration", "none")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    rows = [f'"{a}","{b}",{score}' for score, (a, b) in enumerate(zip(TEXTS[:12], TEXTS[12:24], strict=True))]
    path.write_text("\n".join(["text_a,text_b,score", *rows]) + "\n")
    return path


def test_every_way_is_printed_and_the_chosen_one_is_marked(moee: Run, corpus: Path) -> None:
    done = moee("tune-alpha", corpus, *FAKE, "--method", "scale")
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout.splitlines()
    assert header.split()[:2] == ["method", "alpha"]
    expected = tune_alpha(MoEE.from_pretrained("fake", calibration="none"), TEXTS)
    shown = {line.removeprefix("*").split()[0]: line for line in lines}
    assert list(shown) == [choice.method for choice in expected.choices]
    assert "labels" not in shown
    for choice in expected.choices:
        assert f"{choice.alpha:.4f}" in shown[choice.method]
    assert [method for method, line in shown.items() if line.startswith("*")] == ["scale"]
    assert "Nothing was saved" in done.stderr


def test_the_choice_is_saved_with_the_embedder(moee: Run, corpus: Path, pairs: Path, tmp_path: Path) -> None:
    calibrated, tuned = tmp_path / "calibrated", tmp_path / "tuned"
    assert moee("calibrate", "fake", "--texts", corpus, "--out", calibrated).returncode == 0
    done = moee(
        "tune-alpha", corpus, "-m", calibrated, "--method", "labels", "--pairs", pairs, "--out", tuned, "--json"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [choice["method"] for choice in document["choices"]] == list(METHODS)
    assert document["num_texts"] == len(TEXTS)
    assert document["output"] == str(tuned)
    labels = document["choices"][-1]
    assert document["chosen"] == {"method": "labels", "alpha": labels["alpha"]}
    assert labels["gain_over_hs"]["low"] <= labels["gain_over_hs"]["difference"]

    embedder, before = MoEE.from_pretrained(tuned), MoEE.from_pretrained(calibrated)
    assert embedder.config == before.config.replace(alpha=labels["alpha"])
    assert embedder.calibration is not None
    assert before.calibration is not None
    assert embedder.calibration.num_texts == before.calibration.num_texts == len(TEXTS)
    expected = before.encode(TEXTS[:3], alpha=labels["alpha"])
    assert np.abs(embedder.encode(TEXTS[:3]) - expected).max() < 1e-6
    # the folder it came from may be replaced, and so may an earlier choice
    again = moee("tune-alpha", corpus, "-m", tuned, "--method", "scale", "--out", tuned)
    assert again.returncode == 0, again.stderr
    assert MoEE.from_pretrained(tuned).config.alpha != labels["alpha"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "closed"), "Unknown method 'closed'"),
        (("--method", "labels"), "--method labels needs scored pairs"),
        (("--pairs", "pairs.txt"), "it must be a .csv file with the columns text_a, text_b, score"),
        (("--sample", "2"), "at most 2 may be used"),
        (("--recipe", "paper"), "of the recipe 'paper'"),
        (("--compare-prompt", "prompteoll"), "Unknown prompt 'prompteoll'"),
    ],
)
def test_what_cannot_be_used_is_refused(moee: Run, corpus: Path, arguments: tuple[str, ...], message: str) -> None:
    model = ("-m", "fake") if "--recipe" in arguments else FAKE
    done = moee("tune-alpha", corpus, *model, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_score_that_is_no_number_is_named(moee: Run, corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("text_a,text_b,score\na,b,3\nc,d,high\n")
    done = moee("tune-alpha", corpus, *FAKE, "--pairs", path)
    assert done.returncode == 2
    assert f"The score on line 3 of {path} is 'high'" in done.stderr


def test_a_folder_that_holds_something_else_is_spared(moee: Run, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    done = moee("tune-alpha", corpus, *FAKE, "--out", folder)
    assert done.returncode == 1
    assert "holds other files" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
