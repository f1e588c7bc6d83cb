"""The texts that ship with the package."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from importlib.resources import files

from moee.data import calibration_texts, demo_queries, demo_sentences


def test_there_are_4096_different_calibration_sentences() -> None:
    texts = calibration_texts()
    assert len(texts) == len(set(texts)) == 4096
    assert all(text.strip() for text in texts)


def test_every_calibration_sentence_names_its_source_and_licence() -> None:
    raw = gzip.decompress(files("moee.data").joinpath("calibration_sentences.jsonl.gz").read_bytes())
    rows = [json.loads(line) for line in raw.decode().splitlines()]
    by_source = Counter(row["source"] for row in rows)
    assert sum(by_source.values()) == 4096
    assert max(by_source.values()) - min(by_source.values()) <= 1
    attribution = files("moee.data").joinpath("ATTRIBUTION.md").read_text(encoding="utf-8")
    for licence in {row["licence"] for row in rows}:
        assert licence.split(" (")[0].replace("CC0-1.0", "CC0 1.0") in attribution


def test_callers_cannot_change_the_texts_for_others() -> None:
    calibration_texts().clear()
    assert calibration_texts()


def test_the_demo_has_at_least_60_sentences_of_at_least_six_topics() -> None:
    sentences = demo_sentences()
    assert len({sentence.text for sentence in sentences}) == len(sentences) >= 60
    assert len({sentence.topic for sentence in sentences}) >= 6


def test_every_demo_query_has_sentences_of_its_topic_and_is_none_of_them() -> None:
    topics = {sentence.topic for sentence in demo_sentences()}
    texts = {sentence.text for sentence in demo_sentences()}
    for query in demo_queries():
        assert query.topic in topics
        assert query.text not in texts
