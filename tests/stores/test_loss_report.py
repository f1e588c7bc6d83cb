from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import spearmanr

from moee.errors import InputError
from moee.method.fusion import join_blocks
from moee.stores.loss_report import measure, shorter_dims
from moee.stores.quantize import fit_codec
from moee.stores.reduce import Reducer
from moee.types import View
from tests.stores.test_reduce import FITTED, OTHERS, THREE, with_third

ALPHA = 0.5
WEIGHTS: dict[View, float] = {"hs": 1.0, "rw": ALPHA}


def test_every_reducer_is_measured_with_every_codec() -> None:
    reducers = [Reducer.fit(FITTED, dims, weights=WEIGHTS) for dims in (32, 16)]
    found = measure(FITTED, OTHERS, weights=WEIGHTS, reducers=reducers, chosen=(reducers[1], "int8"))
    assert (found.num_fitted, found.num_queries, found.num_documents) == (500, 38, 262)
    rows = [(sum(loss.dims.values()), loss.stored, loss.bytes_per_text) for loss in found.losses]
    assert rows == [
        (64, "float32", 256), (64, "int8", 64), (64, "binary", 12),
        (32, "float32", 128), (32, "int8", 32), (32, "binary", 8),
        (16, "float32", 64), (16, "int8", 16), (16, "binary", 6),
    ]  # fmt: skip
    assert [place for place, loss in enumerate(found.losses) if loss.is_chosen] == [7]


def test_exact_vectors_lose_nothing_and_smaller_ones_more() -> None:
    reducers = [Reducer.fit(FITTED, dims, weights=WEIGHTS) for dims in (32, 8)]
    exact, int8, binary, half, _, _, eighth, _, _ = measure(FITTED, OTHERS, weights=WEIGHTS, reducers=reducers).losses
    assert (exact.recall, exact.spearman) == (1.0, pytest.approx(1.0))
    assert int8.recall > 0.95
    assert 1 > half.recall > eighth.recall
    assert int8.spearman > binary.spearman > 0.7
    assert half.spearman > eighth.spearman


def test_the_figures_are_those_of_the_definitions() -> None:
    """Counted by hand: sets of ten for the recall, scipy for the correlation."""
    found = measure(FITTED, OTHERS, weights=WEIGHTS)
    is_query = np.arange(300) % 8 == 0
    (hq, rq), (hd, rd) = ((OTHERS["hs"][rows], OTHERS["rw"][rows]) for rows in (is_query, ~is_query))
    codec = fit_codec("binary", join_blocks(FITTED), (40, 24))
    decoded = codec.decode(codec.encode(np.concatenate([hd, rd], axis=1)))
    exact = hq @ hd.T + ALPHA * rq @ rd.T
    rounded = hq @ decoded[:, :40].T + ALPHA * rq @ decoded[:, 40:].T
    recalls = [
        len(set(np.argsort(-a)[:10]) & set(np.argsort(-b)[:10])) / 10 for a, b in zip(exact, rounded, strict=True)
    ]
    loss = found.losses[2]
    assert loss.recall == pytest.approx(np.mean(recalls), abs=1e-9)
    assert loss.spearman == pytest.approx(spearmanr(exact.ravel(), rounded.ravel()).statistic, abs=1e-4)


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(InputError, match="measured on 39 held-out texts, and at least 40"):
        measure(FITTED, {view: block[:39] for view, block in OTHERS.items()}, weights=WEIGHTS)


def test_the_report_is_json() -> None:
    document = json.loads(json.dumps(asdict(measure(FITTED, OTHERS, weights=WEIGHTS))))
    assert document["losses"][0]["recall"] == 1.0
    assert (document["weights"], document["losses"][0]["dims"]) == (WEIGHTS, {"hs": 40, "rw": 24})


def test_three_views_are_measured_by_their_weights() -> None:
    """A view that counts nothing can be any: recall is that of the others."""
    fitted, others = with_third(FITTED), with_third(OTHERS)
    half = Reducer.fit(fitted, 40, weights=THREE)
    exact, int8, binary, shorter, *_ = measure(fitted, others, weights=THREE, reducers=[half]).losses
    assert (exact.recall, list(exact.dims), sum(shorter.dims.values())) == (1.0, ["hs", "rw", "tokens"], 40)
    assert binary.bytes_per_text == (40 + 24 + 16) // 8 + 3 * 2
    assert 1 >= int8.recall > binary.recall
    without = {view: THREE[view] for view in ("hs", "rw")}
    two = measure(FITTED, OTHERS, weights=without).losses
    three = measure(fitted, {**others, "tokens": fitted["tokens"][:300]}, weights=without).losses
    assert [loss.recall for loss in three[:2]] == pytest.approx([loss.recall for loss in two[:2]], abs=0.01)


def test_sizes_worth_a_look_are_halves_that_the_texts_allow() -> None:
    assert shorter_dims(1296, 2000) == [648, 324, 162, 81]
    assert shorter_dims(1296, 200) == [162, 81]
    assert shorter_dims(8, 100) == [4, 2]
