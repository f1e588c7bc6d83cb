"""The paper-faithful functions, and the `paper` recipe against every golden array of the original implementation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.errors import InputError
from moee.evaluate.reproduce.original import paired_similarity, summed_similarity
from moee.method.calibration import batch_standardise
from moee.types import Views
from tests.golden.compare import compare
from tests.golden.ours import embed

GOLDEN = Path(__file__).parents[2] / "golden"


def test_batches_are_standardised_apart_with_n_minus_1() -> None:
    rows = np.random.default_rng(0).normal(3, 5, size=(7, 4)).astype(np.float32)
    result = batch_standardise(rows, 4)
    for batch, got in ((rows[:4], result[:4]), (rows[4:], result[4:])):
        np.testing.assert_allclose(got, (batch - batch.mean(axis=0)) / batch.std(axis=0, ddof=1), atol=1e-5)


def test_a_batch_of_one_is_zero_and_a_constant_column_too() -> None:
    rows = np.array([[1, 5], [2, 5], [9, 9]], dtype=np.float32)
    result = batch_standardise(rows, 2)
    assert result[2].tolist() == [0, 0]
    assert result[:, 1].tolist() == [0, 0, 0]
    assert result[0, 0] == -result[1, 0] != 0


def test_the_original_similarity_of_zero_vectors() -> None:
    zero, one = np.zeros((1, 3)), np.array([[0.0, 2.0, 0.0]])
    assert paired_similarity(zero, zero)[0] == 1.0
    assert paired_similarity(zero, one)[0] == pytest.approx(0.5)
    assert paired_similarity(one, -one)[0] == pytest.approx(-1.0)


def test_pairs_of_different_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 3\) and \(2, 3\)"):
        paired_similarity(np.zeros((1, 3)), np.zeros((2, 3)))


def test_every_golden_array_is_reproduced() -> None:
    rows = list(compare(embed, GOLDEN, "olmoe-tiny"))
    assert len(rows) == 106
    assert [(array, what, error) for array, what, error, tolerance in rows if not error <= tolerance] == []


@pytest.mark.parametrize(("fusion", "array"), [("hs", "HS"), ("rw", "RW"), ("concat", "MoEE")])
def test_encode_under_the_paper_recipe_gives_the_golden_vectors(fusion: str, array: str) -> None:
    texts = json.loads((GOLDEN / "inputs.json").read_text(encoding="utf-8"))["texts"]
    golden = np.load(GOLDEN / "olmoe-tiny.npz")
    model = MoEE.from_pretrained(GOLDEN / "olmoe-tiny", recipe="paper", batch_size=8, dtype="float32")
    vectors = model.encode(texts, fusion=fusion)  # type: ignore[arg-type]
    np.testing.assert_allclose(vectors, golden[f"prompteol.b8.{array}.embeddings"], atol=1e-3)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_the_summed_score_is_the_golden_one(alpha: float) -> None:
    pairs = json.loads((GOLDEN / "inputs.json").read_text(encoding="utf-8"))["pairs"]
    golden = np.load(GOLDEN / "olmoe-tiny.npz")
    model = MoEE.from_pretrained(GOLDEN / "olmoe-tiny", recipe="paper", dtype="float32")
    left, right = (model.encode_views(list(column)) for column in zip(*pairs, strict=True))
    scores = summed_similarity(left, right, alpha=alpha, batch_size=11)
    np.testing.assert_allclose(scores, golden[f"sts.prompteol.b11.MoEE.sum_a{alpha}"].ravel(), atol=1e-3)


def test_summed_score_weighs_routing_by_alpha() -> None:
    rng = np.random.default_rng(0)
    a, b = (
        Views(rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32), (0, 1), (2, 2))
        for _ in range(2)
    )
    hidden = summed_similarity(a, b, alpha=0.0, batch_size=6)
    routing = summed_similarity(a, b, alpha=1.0, batch_size=6) - hidden
    np.testing.assert_allclose(summed_similarity(a, b, alpha=2.0, batch_size=6), hidden + 2 * routing, atol=1e-5)
