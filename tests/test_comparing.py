"""Ranking documents."""

from __future__ import annotations

import numpy as np
import pytest

from moee import MoEE
from moee.backends.fake import FakeBackend
from moee.errors import InputError, TextTypeError
from moee.method.config import EmbedderConfig

DOCUMENTS = ["Rates rose again.", "A cat sat down.", "A kitten took a seat.", "A cat sat down."]


@pytest.fixture
def model() -> MoEE:
    config = EmbedderConfig(calibration="none", query_prompt="Query: {text}", document_prompt="Text: {text}")
    return MoEE(FakeBackend(), config)


def test_rank_orders_documents_by_their_cosine_to_the_query(model: MoEE) -> None:
    ranked = model.rank("A cat.", DOCUMENTS)
    scores = model.similarity(model.encode_query("A cat."), model.encode_document(DOCUMENTS))[0]
    assert [each["corpus_id"] for each in ranked] == list(np.argsort(-scores, kind="stable"))
    assert [each["score"] for each in ranked] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    places = [each["corpus_id"] for each in ranked]
    assert places.index(1) + 1 == places.index(3)  # equal texts, in their order


def test_rank_returns_as_many_as_asked_and_the_texts_if_asked(model: MoEE) -> None:
    ranked = model.rank("A cat.", DOCUMENTS, 2, return_documents=True, fusion="hs")
    assert len(ranked) == 2
    assert [each["text"] for each in ranked] == [DOCUMENTS[each["corpus_id"]] for each in ranked]
    assert ranked == model.rank("A cat.", DOCUMENTS, return_documents=True, fusion="hs")[:2]


def test_rank_reads_long_documents_whole(model: MoEE) -> None:
    long = "A cat sat down. " * 20
    (found,) = model.rank("A cat.", [long], chunk=32)
    expected = model.similarity(model.encode_query("A cat."), model.encode_document(long, chunk=32))
    assert found["score"] == pytest.approx(float(expected[0, 0]), abs=1e-6)


def test_rank_says_what_it_cannot_use(model: MoEE) -> None:
    with pytest.raises(InputError, match="top_k is 0; it must be 1 or larger, or None"):
        model.rank("a", DOCUMENTS, 0)
    with pytest.raises(TextTypeError, match="pass a list of strings"):
        model.rank("a", "one document")
