"""Texts that ship with the package: general sentences for calibration, the frequencies of words, and `moee demo`.

Sources and licences: `ATTRIBUTION.md` beside this file, and each row of the calibration sentences.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class DemoSentence:
    """A sentence of the demonstration.

    Attributes:
        text: The sentence.
        topic: What it is about, one word.
    """

    text: str
    topic: str


def _rows(name: str) -> list[dict[str, Any]]:
    raw = files(__name__).joinpath(name).read_bytes()
    if name.endswith(".gz"):
        raw = gzip.decompress(raw)
    return [json.loads(line) for line in raw.decode("utf-8").splitlines()]


@cache
def _calibration_texts() -> tuple[str, ...]:
    return tuple(row["text"] for row in _rows("calibration_sentences.jsonl.gz"))


def calibration_texts() -> list[str]:
    """Return the 4,096 built-in general sentences, evenly from five sources, in a fixed mixed order.

    Any prefix is a mixed sample. No sentence occurs in an evaluation set that the project uses.
    """
    return list(_calibration_texts())


def document_frequencies() -> tuple[int, dict[str, int]]:
    """Return a number of general English sentences, and in how many of them each word stands (2 or more).

    Words are terms of `moee.method.lexical.words`.
    """
    raw = gzip.decompress(files(__name__).joinpath("document_frequencies.txt.gz").read_bytes())
    number, *lines = raw.decode("utf-8").splitlines()
    pairs = (line.split(" ") for line in lines)
    return int(number), {word: int(count) for word, count in pairs}


def demo_sentences() -> list[DemoSentence]:
    """Return the sentences that `moee demo` searches: eight for each of nine topics."""
    return [DemoSentence(**row) for row in _rows("demo_sentences.jsonl")]


def demo_queries() -> list[DemoSentence]:
    """Return the queries of `moee demo`, each with the topic that its neighbours should have."""
    return [DemoSentence(**row) for row in _rows("demo_queries.jsonl")]
