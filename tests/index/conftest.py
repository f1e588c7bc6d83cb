from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moee import MoEE
from moee.data import calibration_texts
from moee.files.rows import Columns
from moee.index.records_from_file import Corpus, read_corpus
from moee.types import View

WriteCorpus = Callable[..., Corpus]


@pytest.fixture(scope="session")
def fake() -> MoEE:
    """A model whose vectors are the sum of the two views that the paper knows."""
    return MoEE.from_pretrained("fake", fusion="sum")


WEIGHTS: dict[View, float] = {"hs": 1.0, "rw": 0.2, "tokens": 0.3, "lexical": 1.0}


@pytest.fixture(scope="session")
def of_four_views() -> MoEE:
    """The same model, with all views there are."""
    return MoEE.from_pretrained("fake", weights=WEIGHTS, prompt_tokens="apart", lexical_dim=64)


@pytest.fixture
def write_corpus(tmp_path: Path) -> WriteCorpus:
    """Write a file of sentences with an id, a number and a word each, and read it as a build does."""

    def write(
        num_texts: int = 400, *, name: str = "texts.jsonl", fields: tuple[str, ...] = ("number", "kind")
    ) -> Corpus:
        path = tmp_path / name
        rows = [
            {"id": f"t{number}", "text": text, "number": number, "kind": "odd" if number % 2 else "even"}
            for number, text in enumerate(calibration_texts()[:num_texts])
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_corpus(str(path), Columns(fields=fields))

    return write
