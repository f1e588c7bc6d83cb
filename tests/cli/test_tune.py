"""`moee tune`, and what stands behind its former name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moee import MoEE
from tests.cli.conftest import Run

SUBJECTS = ("cats", "rates", "rain", "bonds", "snow", "dogs", "bread", "trains")
DOCUMENTS = [
    {
        "id": n,
        "title": f"Note {n} on {subject}",
        "text": f"Something of {subject} was seen {n} times. Then {subject} went.",
    }
    for n, subject in enumerate(SUBJECTS * 4)
]
OWN = ("--statistics", "own")
"""So that no built-in sentence is embedded; the texts are too few for statistics of their own, so there are none."""


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The fake model with statistics of a few texts, as options."""
    model = MoEE.from_pretrained("fake")
    model.calibrate([each["text"] for each in DOCUMENTS])  # type: ignore[misc]  # a string
    folder = tmp_path_factory.mktemp("fake") / "calibrated"
    model.save(folder)
    return ("-m", str(folder))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in DOCUMENTS))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    rows = [f'"note {n} of {a}","note {n} of {b}",{int(a == b)}' for n, a in enumerate(SUBJECTS) for b in SUBJECTS[:3]]
    path.write_text("\n".join(["text_a,text_b,score", *rows]) + "\n")
    return path


def test_the_choice_is_printed_with_its_curve_and_the_blindness_of_siblings(
    moee: Run, corpus: Path, fake: tuple[str, ...]
) -> None:
    done = moee("tune", corpus, *fake, *OWN, "--title-column", "title")
    assert done.returncode == 0, done.stderr
    assert "32 pairs (title): sibling found among the others (mean reciprocal rank) x 100" in done.stdout
    assert "Around the choice, one weight at a time" in done.stdout
    assert "Siblings measure search by topic" in done.stderr
    assert "Siblings share words" in done.stderr
    assert "Nothing was saved" in done.stderr


def test_the_choice_is_saved_with_its_evidence(moee: Run, pairs: Path, tmp_path: Path, fake: tuple[str, ...]) -> None:
    out, figure = tmp_path / "tuned", tmp_path / "curve.svg"
    done = moee(
        "tune", "--pairs", pairs, *fake, *OWN, "--choose", "rw,lexical", "--out", out, "--figure", figure, "--json"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    evidence = json.loads((out / "tune.json").read_text())
    assert document == {**evidence, "output": str(out)}
    assert (document["pairs"], document["num_pairs"]) == ("labelled", 24)
    assert {"hs", "rw", "lexical"} <= set(document["alone"])
    assert {each["view"] for each in document["curve"]} >= {"rw", "lexical"}
    assert "<svg" in figure.read_text()
    model = MoEE.from_pretrained(out)
    assert model.config.weights == document["chosen"]["weights"]
    # a later choice takes the place of an earlier one
    assert moee("tune", "--pairs", pairs, "-m", out, "--out", out, *OWN).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Nothing to tune for: give a file of documents, TEXTS, or labelled pairs"),
        (("CORPUS", "--pairs", "PAIRS"), "--pairs takes the place of documents: leave out TEXTS"),
        (("--pairs", "PAIRS", "--siblings", "halves"), "leave out --siblings ('halves')"),
        (("--pairs", "pairs.txt"), "it must be a .csv file with the columns text_a, text_b, score"),
        (("CORPUS", "--siblings", "half"), "Unknown kind of siblings 'half'"),
        (("CORPUS", "--siblings", "title"), "name their field with --title-column"),
        (("CORPUS", "--layers", "last_thrid"), "Unknown layers 'last_thrid'"),
        (("CORPUS", "--statistics", "mine"), "Unknown statistics 'mine'"),
        (("CORPUS", "--choose", "hs"), "Unknown view to be chosen 'hs'"),
        (("CORPUS", "--choose", ","), "--choose is ',', which names nothing"),
        (("CORPUS", "--sample", "3"), "--sample is 3; it must be 20 or larger"),
        (("CORPUS", "--figure", "curve.gif"), "its name must end in .png or .svg"),
        (("--pairs", "PAIRS", "--recipe", "paper"), "of the recipe 'paper'"),
    ],
)
def test_what_cannot_be_used_is_refused(
    moee: Run, corpus: Path, pairs: Path, arguments: tuple[str, ...], message: str
) -> None:
    given = [{"CORPUS": str(corpus), "PAIRS": str(pairs)}.get(each, each) for each in arguments]
    done = moee("tune", *given, "-m", "fake")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_folder_that_holds_something_else_is_spared(moee: Run, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    done = moee("tune", corpus, "-m", "fake", "--out", folder)
    assert done.returncode == 1
    assert "holds other files" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("arguments", [(), ("corpus.jsonl", "--method", "scale", "-m", "demo"), ("--help",)])
def test_the_former_name_says_what_to_use(moee: Run, arguments: tuple[str, ...]) -> None:
    done = moee("tune-alpha", *arguments)
    assert done.returncode == 2
    assert "`moee tune-alpha` is now `moee tune`" in done.stderr
    assert "tune-alpha" not in moee("--help").stdout
