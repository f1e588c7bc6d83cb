"""The words of a text as a vector."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import os
from importlib.resources import files
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from moee.data import calibration_texts, document_frequencies
from moee.errors import CalibrationError, InputError
from moee.method.lexical import DocumentFrequencies, lexical_block, lexical_matrix, word_hash, words
from moee.method.moments import spearman

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_document_frequencies.py"
DIM = 1 << 15
"""So wide that the few words of a test share no coordinate."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dogs RUNNING, foxes jumped; stories 2024!", ["dog", "run", "fox", "jump", "stori", "2024"]),
        ("The bus is his; glass and a red thing.", ["the", "bus", "is", "his", "glass", "and", "a", "red", "thing"]),
        ("nations national, quickly create creation educated", ["nat", "nat", "quick", "creat", "creat", "educat"]),
        ("Straße ＡＢＣ１２ ﬁn", ["strass", "abc12", "fin"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("東京 猫", ["東京", "東", "京", "猫"]),
        ("iPhone15用ケース", ["iphone15", "用ケ", "ケー", "ース", "用"]),
        ("สวัสดี", ["สวั", "วัส", "สดี"]),
        ("... !?", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_word_has_the_same_hash_everywhere() -> None:
    # BLAKE2b with 8 bytes of "dog", little-endian, computed with `b2sum -l 64`
    assert word_hash("dog").to_bytes(8, "little").hex() == "3984c7c1d25e9c9f"


def test_weights_are_those_of_the_formula() -> None:
    frequencies = DocumentFrequencies.fit(["cat dog", "cat", "bird"])
    cat, dog, fish = (word_hash(word) for word in ("cat", "dog", "fish"))
    hashes = np.array([cat, dog, fish], dtype=np.uint64)
    np.testing.assert_allclose(frequencies.idf(hashes), np.log([4 / 3, 4 / 2, 4 / 1]))
    row = lexical_block(["fish cat cats fish fish"], DIM, frequencies)[0]
    expected = {fish: (1 + math.log(3)) * math.log(4) ** 0.75, cat: (1 + math.log(2)) * math.log(4 / 3) ** 0.75}
    length = math.hypot(*expected.values())
    for term, weight in expected.items():
        assert row[(term >> 1) % DIM] == pytest.approx((1 if term & 1 else -1) * weight / length)
    assert np.count_nonzero(row) == 2


def test_rows_have_length_one_and_texts_without_words_are_zero() -> None:
    block = lexical_block(["two words", "?!", "", "猫"], 64)
    np.testing.assert_allclose(np.linalg.norm(block, axis=1), [1, 0, 0, 1], atol=1e-6)
    assert block.dtype == np.float32
    assert lexical_block([], 64).shape == (0, 64)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    texts = calibration_texts()[:300]
    block = lexical_block(texts, 128)
    for place in (0, 150, 299):
        assert np.array_equal(lexical_block([texts[place]], 128)[0], block[place])
    assert np.array_equal(lexical_block(texts[::-1], 128)[::-1], block)


def test_the_sparse_form_has_the_same_values() -> None:
    texts = [*calibration_texts()[:50], ""]
    np.testing.assert_allclose(lexical_matrix(texts, 512).toarray(), lexical_block(texts, 512), atol=1e-6)


def test_texts_of_words_that_every_text_has_keep_a_direction() -> None:
    frequencies = DocumentFrequencies.fit(["same words", "same words"])
    same, other = lexical_block(["same words", "words"], DIM, frequencies)
    assert same @ same == pytest.approx(1)
    assert same @ other == pytest.approx(math.sqrt(0.5))


def test_the_builtin_frequencies_know_common_words() -> None:
    number, counts = document_frequencies()
    assert number == 40_000
    assert min(counts.values()) == 2
    assert max(counts, key=lambda word: counts[word]) == "the"
    assert files("moee.data").joinpath("document_frequencies.txt.gz").stat().st_size < 1 << 17


def test_frequencies_survive_a_file() -> None:
    fitted = DocumentFrequencies.fit(calibration_texts()[:100])
    again = DocumentFrequencies.from_arrays(fitted.arrays())
    texts = calibration_texts()[:5]
    assert np.array_equal(lexical_block(texts, 256, again), lexical_block(texts, 256, fitted))
    assert not np.array_equal(lexical_block(texts, 256, again), lexical_block(texts, 256))


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InputError, match="15 wide; it must be 16 or more"):
        lexical_block(["a"], 15)
    with pytest.raises(InputError, match="at least one text"):
        DocumentFrequencies.fit([])
    arrays = DocumentFrequencies.fit(["a b"]).arrays()
    with pytest.raises(CalibrationError, match="lack lexical_counts"):
        DocumentFrequencies.from_arrays({name: arrays[name] for name in arrays if name != "lexical_counts"})
    with pytest.raises(CalibrationError, match="same length"):
        DocumentFrequencies.from_arrays({**arrays, "lexical_counts": arrays["lexical_counts"][:1]})


@pytest.mark.data
def test_similar_sentences_share_words() -> None:
    found = []
    for name in ("STS12", "STS13", "STS16", "STSBenchmark", "SICK-R"):
        with gzip.open(Path(os.environ["MOEE_DATA"]) / name / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in islice(lines, 500)]
        left, right = (lexical_block([row[side] for row in rows], 4096) for side in ("sentence1", "sentence2"))
        gold = np.array([float(row["score"]) for row in rows])
        found.append(spearman(gold, np.einsum("nd,nd->n", left, right).astype(np.float64)))
    # 0.662 when the stemmer was chosen; Snowball's English stemmer gives 0.662, no stemming 0.629
    assert np.mean(found) > 0.655


@pytest.mark.data
def test_the_script_makes_the_file_that_ships() -> None:
    specification = importlib.util.spec_from_file_location("make_document_frequencies", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    sentences = Path(os.environ["MOEE_DATA"]) / "calibration" / "sentences.jsonl.gz"
    shipped = files("moee.data").joinpath("document_frequencies.txt.gz").read_bytes()
    assert script.frequencies(sentences).encode() == gzip.decompress(shipped)
