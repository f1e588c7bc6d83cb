"""The mean over a text's own tokens: whatever is shared, padded, empty or trimmed, and in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from moee.architectures import architecture_for
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.errors import InputError, NonFiniteActivationsError
from moee.method.pooling import TokenLayout, pool_own
from moee.types import Array, CapturePlan
from tests.architectures.tiny import backend_for, tiny_model, wide_backend_for

TOLERANCE = 1e-5  # float32: the same sums in another order
BEFORE, AFTER = [5, 9, 17, 3], [8, 21]
OWN = [[30, 31, 7], [30, 31], [30, 31, 40, 41, 42, 43, 44], [30, 31, 9, 10]]
"""Texts that all begin alike, as those of a corpus of letters do."""
MODELS = pytest.mark.parametrize("model_type", ["olmoe", "qwen3_moe", "mixtral", "deepseek_v3", "granitemoe"])


def plan(layer: int = 0, **options: Any) -> CapturePlan:
    return CapturePlan(tokens_layer=layer, text_span=(len(BEFORE), len(AFTER)), **options)


def filled(own: list[list[int]]) -> list[list[int]]:
    return [[*BEFORE, *each, *AFTER] for each in own]


def tokens_of(backend: HuggingFaceBackend, own: list[list[int]], plan: CapturePlan, shared: int = 0) -> Array:
    found = backend.forward(filled(own), plan, shared=shared).tokens
    assert found is not None
    assert found.dtype == np.float32
    return found


def expected(backend: HuggingFaceBackend, own: list[int], layer: int) -> Any:
    with torch.inference_mode():
        output = backend.text_model(torch.tensor(filled([own])), output_hidden_states=True, use_cache=False)
    states = output.hidden_states[layer + 1][0].numpy()
    return states[len(BEFORE) : len(BEFORE) + len(own)].mean(axis=0)


@MODELS
@pytest.mark.parametrize("shared", [0, 2, len(BEFORE), len(BEFORE) + 2])
def test_a_beginning_that_is_computed_once_leaves_the_mean_as_it_is(model_type: str, shared: int) -> None:
    """It may be part of the template, all of it, or reach into texts that begin alike."""
    backend = wide_backend_for(model_type)
    found = tokens_of(backend, OWN, plan(), shared)
    for number, own in enumerate(OWN):
        np.testing.assert_allclose(found[number], expected(backend, own, 0), atol=TOLERANCE)
    # what texts share beyond the template is run for each of them: it counts in their means
    assert backend.work.tokens == 1 + sum(map(len, filled(OWN))) - min(shared, len(BEFORE)) * (len(OWN) - 1)


@MODELS
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_give_what_packed_texts_give(model_type: str, side: Any) -> None:
    if side == "left" and not architecture_for(model_type).left_padding:
        return
    padded = HuggingFaceBackend(
        tiny_model(model_type, window=64),
        None,  # type: ignore[arg-type]
        name=model_type,
        fingerprint="tiny",
        architecture=architecture_for(model_type),
        padding_side="left",
    )
    padded = padded if side == "left" else wide_backend_for(model_type, padded=True)
    packed = wide_backend_for(model_type)
    assert (padded.packs, packed.packs) == (False, True)
    np.testing.assert_allclose(tokens_of(padded, OWN, plan()), tokens_of(packed, OWN, plan(), 4), atol=TOLERANCE)


def test_a_text_without_tokens_of_its_own_is_a_row_of_zeros() -> None:
    backend = wide_backend_for("olmoe")
    found = tokens_of(backend, [[30], [], [31, 32]], plan(), len(BEFORE))
    assert not found[1].any()
    np.testing.assert_allclose(found[2], expected(backend, [31, 32], 0), atol=TOLERANCE)
    assert not tokens_of(backend, [[]], plan()).any()


def test_the_last_layer_is_read_after_the_final_norm_and_runs_for_all_tokens_then() -> None:
    backend = wide_backend_for("olmoe")
    last = backend.info.num_layers - 1
    before = backend.work.last_layer_rows
    found = tokens_of(backend, OWN, plan(-1))
    assert backend.work.last_layer_rows - before == sum(map(len, filled(OWN)))
    np.testing.assert_array_equal(found, tokens_of(backend, OWN, plan(last)))
    np.testing.assert_allclose(found[2], expected(backend, OWN[2], last), atol=TOLERANCE)
    before = backend.work.last_layer_rows
    tokens_of(backend, OWN, plan(0))
    assert backend.work.last_layer_rows - before == len(OWN)


def test_the_other_views_stay_as_they_are_and_tokens_come_only_where_asked() -> None:
    backend = wide_backend_for("qwen3_moe")
    plain, with_them = (
        backend.forward(filled(OWN), CapturePlan(), shared=4),
        backend.forward(filled(OWN), plan(), shared=4),
    )
    assert plain.tokens is None
    np.testing.assert_array_equal(plain.hidden_states, with_them.hidden_states)
    np.testing.assert_array_equal(plain.routing, with_them.routing)


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
def test_other_poolings_and_layers_may_be_asked_for_beside(pooling: Any) -> None:
    backend = wide_backend_for("olmoe")
    both = plan(0, hidden_pooling=pooling, routing_pooling=pooling, hidden_layers="all")
    np.testing.assert_allclose(tokens_of(backend, OWN, both, 4), tokens_of(backend, OWN, plan()), atol=TOLERANCE)


def test_sums_of_half_precision_are_taken_in_float32() -> None:
    states = torch.tensor([256.0] + [1.0] * 511, dtype=torch.bfloat16)[None, :, None]
    layout = TokenLayout.packed(torch.tensor([512]))
    assert pool_own(states, layout, 0, 0).item() == (256 + 511) / 512


def test_a_layer_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match="Layer 9 does not exist"):
        backend_for("olmoe").forward(filled(OWN), plan(9))


def test_a_mean_that_is_not_finite_names_its_text() -> None:
    backend = wide_backend_for("olmoe")
    captured = backend._run(filled(OWN), plan())
    assert captured.tokens is not None
    captured.tokens = captured.tokens.clone()
    captured.tokens[2, 3] = torch.inf  # as where a window keeps it from the last token
    with pytest.raises(
        NonFiniteActivationsError, match="over the text's tokens of layer 0 is NaN or infinite"
    ) as caught:
        backend._activations(captured, plan())
    assert caught.value.row == 2
