"""The 8-bit product: exact as integers in the worst case, and what rounding does to odd numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moee.backends.int8 import (
    describe_arithmetic,
    is_available,
    product,
    quantize,
)
from moee.errors import CheckpointError
from tests.backends.test_int8 import normal

pytestmark = pytest.mark.skipif(is_available() is not None, reason=str(is_available()))


def reference(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply what rounding gives as 64-bit integers, and scale in float64."""
    rows, scales = product.quantize_rows(states)
    integers, scale = product.quantize_weight(weight)
    return ((rows.long() - product.ZERO) @ integers.long().T).double() * scales.double() * scale.double()


def rounded_sum(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Half a unit in the last float32 place of the integer sums, zero point included, where those are beyond 2^24."""
    rows, scales = product.quantize_rows(states)
    integers, scale = product.quantize_weight(weight)
    whole = (rows.long() @ integers.long().T).abs().double()
    return torch.where(whole > 2**24, whole * 2.0**-24, 0.0) * scales.double() * scale.double()


def worst_weights(width: int) -> torch.Tensor:
    """Weights that are at the limit after rotation: equal neighbours, opposite ones, one large, and mixtures."""
    ones, place = torch.ones(width), torch.arange(width)
    rows = [
        ones,
        -ones,
        torch.where(place % 2 == 0, 1.0, -1.0),
        torch.where(place % 4 < 2, 1.0, -1.0),
        torch.where(place % 3 == 0, 1.0, 0.001),
        (place == width // 2).float(),
        torch.zeros(width),
        *normal(9, width),
        *normal(8, width, seed=1).sign(),
    ]
    return product.rotate(torch.stack(rows))  # a rotation that is its own inverse


def worst_states(tokens: int, width: int) -> torch.Tensor:
    rows = torch.cat([worst_weights(width), 1e-6 * normal(4, width, seed=2), 1e6 * normal(4, width, seed=3)])
    return rows.repeat(tokens // len(rows) + 1, 1)[:tokens]


@pytest.mark.parametrize("width", [1, 7, 32, 63, 70, 100, 576, 2048])
def test_the_product_is_that_of_integers_in_the_worst_case(width: int) -> None:
    weight = worst_weights(width)
    packed = product.PackedMatrix(weight)
    for tokens in (1, 3, 17, 64, 200):
        states = worst_states(tokens, width)
        found = packed.multiply(*product.quantize_rows(states))
        expected = reference(states, weight)
        # float32: three factors and the sum, each rounded once; the sum with the zero point still in it where a
        # processor's kernel takes that off last
        allowed = 1e-6 * expected.abs() + rounded_sum(states, weight)
        assert bool(((found.double() - expected).abs() <= allowed).all())


def test_without_vnni_full_weights_would_saturate_and_bounded_ones_do_not() -> None:
    full = torch.full((8, 64), 127, dtype=torch.int8)
    has_vnni = torch.cpu._is_vnni_supported()
    assert product._is_exact(full) == has_vnni
    assert product.arithmetic() == ("full" if has_vnni else "pairs")
    assert "8-bit weights" in describe_arithmetic()


@pytest.mark.parametrize("kind", ["full", "pairs", "halved"])
def test_weights_stay_in_the_range_that_multiplies_exactly(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "arithmetic", lambda: kind)
    weight = torch.cat([worst_weights(100), normal(200, 100, seed=4)])
    integers, scale = product.quantize_weight(weight)
    wide = integers.int()
    even, odd = wide[:, ::2], wide[:, 1::2]
    pair = torch.maximum(even.clamp_min(0) + odd.clamp_min(0), -(even.clamp_max(0) + odd.clamp_max(0))).max()
    largest = wide.abs().max()
    assert {"full": largest == 127, "pairs": pair in (127, 128) and largest == 127, "halved": largest == 64}[kind]
    # rounding to the nearest, and nothing is cut off
    rotated = product.rotate(weight)
    assert ((wide * scale[:, None] - rotated).abs() <= 0.5001 * scale[:, None]).all()


def test_activations_are_rounded_to_the_nearest() -> None:
    states = worst_states(100, 96)
    rows, scales = product.quantize_rows(states)
    rotated = product.rotate(states)
    assert rows.min() >= 1
    assert ((rows.int() - 128) * scales - rotated).abs().le(0.5001 * scales).all()
    # every token uses the whole range
    assert ((rows.int() - 128).abs().amax(dim=1) == 127)[states.abs().amax(dim=1) > 0].all()


def test_rotation_is_orthogonal_and_its_own_inverse() -> None:
    for width in (1, 6, 64, 576, 4096):
        rows = normal(5, width)
        turned = product.rotate(rows)
        torch.testing.assert_close(product.rotate(turned), rows, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(turned @ turned.T, rows @ rows.T, rtol=1e-5, atol=1e-3)
    assert not torch.allclose(product.rotate(normal(5, 64)), normal(5, 64))


def test_long_batches_are_rounded_in_parts() -> None:
    width = 64
    states = normal(3 * product._ELEMENTS // width + 5, width)
    rows, scales = product.quantize_rows(states)
    for part in (slice(0, 9), slice(-3, None), slice(product._ELEMENTS // width - 1, product._ELEMENTS // width + 1)):
        again = product.quantize_rows(states[part])
        assert torch.equal(rows[part], again[0])
        assert torch.equal(scales[part], again[1])


def test_zeros_stay_zeros() -> None:
    states, weight = normal(4, 64), normal(8, 64)
    states[1], weight[2] = 0, 0
    found = product.PackedMatrix(weight).multiply(*product.quantize_rows(states))
    assert (found[1] == 0).all()
    assert (found[:, 2] == 0).all()
    assert found[0, 0] != 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_broken_token_stays_visible_and_alone(value: float) -> None:
    states, weight = normal(5, 96), normal(16, 96)
    packed = product.PackedMatrix(weight)
    expected = packed.multiply(*product.quantize_rows(states))
    states[3, 7] = value
    found = packed.multiply(*product.quantize_rows(states))
    assert not torch.isfinite(found[3]).any()
    keep = [0, 1, 2, 4]
    assert torch.equal(found[keep], expected[keep])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_weight_is_refused(value: float) -> None:
    linear = nn.Linear(64, 8)
    with torch.no_grad():
        linear.weight[5, 3] = value
    with pytest.raises(CheckpointError, match=r"Output channel 5 of a weight matrix \(8, 64\)"):
        quantize(nn.Sequential(linear), smallest=1)
