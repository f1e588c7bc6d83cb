"""`--chunk`: long texts embedded whole, and indexes of passages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.parquet import read_table

from moee import MoEE
from moee.data import calibration_texts
from tests.cli.conftest import Run

FAKE = ("-m", "fake")
SENTENCES = calibration_texts()[:60]
TEXTS = [" ".join(SENTENCES[:30]), "A short one.", " ".join(SENTENCES[30:])]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "books.jsonl"
    rows = [{"id": f"b{number}", "text": text, "year": 2000 + number} for number, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_embed_makes_one_vector_of_the_passages_of_a_text(moee: Run, source: Path, tmp_path: Path) -> None:
    done = moee("embed", source, *FAKE, "--chunk", "48", "-o", tmp_path / "out.npy", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["num_texts"], summary["num_passages"] > 15) == (3, True)
    assert f"3 texts in {summary['num_passages']} passages" in done.stderr
    expected = MoEE.from_pretrained("fake").encode(TEXTS, chunk=48)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", ["jsonl", "npz", "parquet"])
def test_embed_can_keep_the_passages_with_their_places(moee: Run, source: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out.{suffix}"
    done = moee("embed", source, *FAKE, "--chunk", "48", "--chunks", "keep", "-o", output)
    assert done.returncode == 0, done.stderr
    model = MoEE.from_pretrained("fake")
    split = model.split(TEXTS, 48)
    places = [(index, n, each.start, each.end) for index, own in enumerate(split) for n, each in enumerate(own)]
    if suffix == "jsonl":
        found = records(output)
    elif suffix == "parquet":
        found = read_table(output).to_pylist()
    else:
        arrays = np.load(output)
        names = ("index", "chunk", "start", "end")
        found = [dict(zip(names, row, strict=True)) for row in zip(*(arrays[name] for name in names), strict=True)]
    assert [(each["index"], each["chunk"], each["start"], each["end"]) for each in found] == places
    if suffix == "jsonl":
        assert [each["text"] for each in found] == [each.text for own in split for each in own]
        vectors = model.encode([each["text"] for each in found])
        np.testing.assert_allclose([each["embedding"] for each in found], vectors, atol=1e-6)


def test_an_index_of_passages_is_built_searched_and_emptied_by_documents(
    moee: Run, source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "books.index"
    done = moee("index", "build", source, *FAKE, "--chunk", "48", "--fields", "year", "--out", folder, "--json")
    assert done.returncode == 0, done.stderr
    number = json.loads(done.stdout)["num_texts"]
    assert number > 15
    assert f"{number} passages of at most 48 tokens" in moee("index", "info", folder).stdout

    found = json.loads(moee("search", folder, SENTENCES[40], "-k", "9", "--per-document", "--json").stdout)["results"]
    assert sorted(hit["fields"]["document"] for hit in found) == ["b0", "b1", "b2"]
    for hit in found:
        text = TEXTS[int(hit["fields"]["document"][1:])]
        assert hit["text"] == text[hit["fields"]["start"] : hit["fields"]["end"]].strip()
    table = moee("search", folder, SENTENCES[40], "-k", "1", "--filter", "document == 'b2' and year == 2002").stdout
    head, first = table.splitlines()
    assert "document" not in head
    assert "b2#" in first

    done = moee("index", "delete", folder, "b0", "b7", "--json")
    answer = json.loads(done.stdout)
    assert answer["unknown"] == ["b7"]
    assert answer["num_texts"] == number - answer["deleted"]
    added = moee("index", "add", folder, source, "--json")
    assert json.loads(added.stdout)["num_embedded"] == answer["deleted"], added.stderr
    assert json.loads(added.stdout)["num_texts"] == number


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed", "--chunks", "keep"), "there are none. Give --chunk 256 too"),
        (("embed", "--chunk", "48", "--chunks", "mean"), "Choose from: keep, pool"),
        (("embed", "--chunk", "48", "--views"), "Give --chunks keep"),
        (("embed", "--chunk", "3"), "chunk is 3 tokens, and the prompt takes"),
        (("embed", "--chunk", "48", "--recipe", "paper"), "cannot be made of chunks"),
        (("index", "build", "--chunk", "3", "--out", "OUT"), "chunk is 3 tokens, and the prompt takes"),
    ],
)
def test_wrong_use_is_said(moee: Run, source: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    words = [str(tmp_path / "index") if each == "OUT" else each for each in arguments]
    command = 2 if words[0] == "index" else 1
    done = moee(*words[:command], source, *FAKE, *words[command:])
    assert done.returncode == 2
    assert message in done.stderr


def test_the_best_of_each_document_needs_passages(moee: Run, source: Path, tmp_path: Path) -> None:
    assert moee("index", "build", source, *FAKE, "--out", tmp_path / "whole").returncode == 0
    done = moee("search", tmp_path / "whole", "a", "--per-document")
    assert done.returncode == 2
    assert "holds whole texts" in done.stderr
