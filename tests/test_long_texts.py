"""Texts over a limit: split with the model's own tokenizer, and embedded whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.data import calibration_texts
from moee.errors import InputError, TruncationError
from moee.method.fusion import unit
from moee.method.texts import TruncationWarning

GOLDEN = Path(__file__).parent / "golden" / "olmoe-tiny"
SENTENCES = calibration_texts()[:40]
LONG = " ".join(SENTENCES)


@pytest.fixture(scope="module")
def model() -> MoEE:
    embedder = MoEE.from_pretrained(GOLDEN, dtype="float32", truncate="error")
    embedder.calibrate(calibration_texts()[1000:1300])
    return embedder


@pytest.mark.parametrize("prompt", ["prompteol", "none", "tone"])
def test_every_chunk_fits_with_its_prompt(model: MoEE, prompt: str) -> None:
    texts = [LONG, SENTENCES[0], "字" * 300]
    split = model.split(texts, 128, prompt=prompt)
    assert len(split[1]) == 1
    assert split[1][0].text == SENTENCES[0]
    for text, chunks in zip(texts, split, strict=True):
        assert "".join(text[chunk.start : chunk.end] for chunk in chunks) == text
    limited = model.with_settings(max_length=128)  # which refuses what is longer
    limited.encode_views([chunk.text for chunks in split for chunk in chunks], prompt=prompt)


def test_chunks_are_used_well(model: MoEE) -> None:
    (chunks,) = model.split([LONG], 128)
    prompt = 128 - max(chunk.tokens for chunk in chunks)
    total = sum(chunk.tokens for chunk in chunks)
    assert len(chunks) <= 1.3 * total / (128 - prompt)


def test_a_long_text_has_the_mean_of_its_chunks_by_view(model: MoEE) -> None:
    (chunks,) = model.split([LONG], 128)
    tokens = np.float64([chunk.tokens for chunk in chunks])
    means = {}
    for fusion in ("hs", "rw"):
        rows = unit(model.encode([chunk.text for chunk in chunks], fusion=fusion))
        means[fusion] = unit((tokens[:, None] * rows).sum(axis=0)[None])[0]
        np.testing.assert_allclose(model.encode(LONG, fusion=fusion, chunk=128), means[fusion], atol=1e-5)
    fused = model.encode([LONG], fusion="sum", alpha=0.5, chunk=128)[0]
    expected = np.concatenate([means["hs"], np.sqrt(0.5) * means["rw"]]) / np.sqrt(1.5)
    np.testing.assert_allclose(fused, expected, atol=1e-5)


def test_a_text_that_fits_has_the_vector_it_has_alone(model: MoEE) -> None:
    texts = [SENTENCES[0], LONG, f" {SENTENCES[1]} "]
    vectors = model.encode(texts, chunk=128)
    np.testing.assert_allclose(vectors[[0, 2]], model.encode([texts[0], texts[2]]), atol=1e-5)
    np.testing.assert_allclose(vectors[1], model.encode(LONG, chunk=128), atol=1e-5)


def test_what_is_cut_off_without_chunks_is_heard_with_them(model: MoEE) -> None:
    limited = model.with_settings(max_length=128, truncate="end")
    other = LONG + " Volcanoes erupt."
    heard = limited.with_settings(weights={"hs": 1, "rw": 0.2, "tokens": 0.2})  # words are those of the whole text
    assert np.array_equal(heard.encode(LONG), heard.encode(other))
    assert not np.allclose(limited.encode(LONG, chunk=128), limited.encode(other, chunk=128), atol=1e-4)


@pytest.mark.parametrize(
    ("chunk", "settings", "message"),
    [
        (10, {}, r"chunk is 10 tokens, and the prompt takes 19 of them\. Choose 27 or more"),
        (100, {"max_length": 64}, r"chunk is 100, and max_length is 64 tokens\. Choose 64 or fewer"),
        (10**6, {}, r"chunk is 1000000, and the model reads \d+ tokens"),
        (100, {"calibration": "batch"}, "cannot be made of chunks"),
    ],
)
def test_what_cannot_be_a_chunk_is_said(model: MoEE, chunk: int, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.with_settings(**settings).encode([LONG], chunk=chunk)


def test_a_cut_names_the_way_around_it(model: MoEE) -> None:
    with pytest.raises(TruncationError, match=r"chunk=256 \(--chunk 256\)"):
        model.with_settings(max_length=64).encode(LONG)
    with pytest.warns(TruncationWarning, match=r"chunk=256 \(--chunk 256\) splits such texts"):
        model.with_settings(max_length=64, truncate="warn").encode(LONG)
