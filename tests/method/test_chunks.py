"""Splitting long texts, and pooling what their chunks gave."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from moee.method.chunks import LEAST_ROOM, Chunk, pool, split_texts
from moee.method.fusion import unit


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def characters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


def utf8(texts: Sequence[str]) -> list[int]:
    return [len(text.encode()) for text in texts]


def more_together(texts: Sequence[str]) -> list[int]:
    """Count as no tokenizer should: two sentences together are more than both apart."""
    return [len(text.split()) + 3 * text.count(". ") for text in texts]


PIECES = [
    *"ab AZ.?!。！\n\r\t\"'()「」…:1२।\u0301\u200d😀\u2028\x85\xa0",
    "\r\n",
    "\n\n",
    "e.g. ",
    "Dr. ",
    " " * 9,
    "word ",
]


@pytest.mark.parametrize("count", [words, characters, utf8, more_together])
def test_chunks_cover_the_text_and_fit_whatever_it_holds(count: Callable[[Sequence[str]], list[int]]) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choice(PIECES) for _ in range(draw.randint(1, 150))) for _ in range(400)]
    texts = [text for text in texts if text.strip()]
    for limit in (LEAST_ROOM, 13, 40):
        for text, chunks in zip(texts, split_texts(texts, limit, count), strict=True):
            assert "".join(text[chunk.start : chunk.end] for chunk in chunks) == text
            assert all(chunk.text.strip() and chunk.tokens <= limit for chunk in chunks)
            assert [chunk.tokens for chunk in chunks] == count([chunk.text for chunk in chunks])


def test_a_short_text_is_one_chunk_as_it_is() -> None:
    assert split_texts([" a b ", ""], 8, words) == [[Chunk(0, 5, " a b ", 2)], [Chunk(0, 0, "", 0)]]


def test_chunks_end_with_sentences_and_are_of_about_one_length() -> None:
    text = "One two three four. Five six seven. Eight nine ten. Eleven twelve.\n\nThirteen fourteen."
    (chunks,) = split_texts([text], 10, words)
    assert [chunk.text for chunk in chunks] == [
        "One two three four. Five six seven.",
        "Eight nine ten. Eleven twelve.\n\nThirteen fourteen.",
    ]
    assert [(chunk.start, chunk.end, chunk.tokens) for chunk in chunks] == [(0, 36, 7), (36, len(text), 7)]


def test_a_long_sentence_is_cut_where_lines_end_then_between_words_then_within_one() -> None:
    lines = "one two three four five\nsix seven eight nine ten\neleven twelve"
    assert [chunk.text for chunk in split_texts([lines], 8, words)[0]] == [
        "one two three four five",
        "six seven eight nine ten\neleven twelve",
    ]
    sentence = " ".join(f"word{number}" for number in range(100))
    chunks = split_texts([sentence], 20, words)[0]
    assert " ".join(chunk.text for chunk in chunks) == sentence
    assert len(chunks) <= 7
    assert {chunk.tokens for chunk in split_texts(["x" * 100], 20, characters)[0]} <= set(range(10, 21))


def test_a_counter_is_asked_a_few_times_however_long_the_text() -> None:
    calls = []

    def count(texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        return words(texts)

    split_texts(["A sentence of six words here. " * 5000], 64, count)
    assert len(calls) <= 4


def test_pooling_weighs_directions_by_tokens_and_keeps_a_single_chunk() -> None:
    block = np.float32([[2, 0], [0, 4], [3, 4]])
    chunks = [[Chunk(0, 1, "a", 3), Chunk(1, 2, "b", 1)], [Chunk(0, 1, "c", 7)]]
    pooled = pool({"hs": block}, chunks)["hs"]
    np.testing.assert_array_equal(pooled[1], block[2])
    np.testing.assert_allclose(unit(pooled[:1]), unit(np.float32([[3, 1]])), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(pooled[0]), (3 * 2 + 1 * 4) / 4, rtol=1e-6)


def test_a_chunk_without_a_direction_has_no_say() -> None:
    chunks = [[Chunk(0, 1, "a", 1), Chunk(1, 2, "b", 9)], [Chunk(0, 1, "c", 1), Chunk(1, 2, "d", 1)]]
    pooled = pool({"lexical": np.float32([[0, 1], [0, 0], [0, 0], [0, 0]])}, chunks)["lexical"]
    np.testing.assert_array_equal(pooled, np.float32([[0, 1], [0, 0]]))
