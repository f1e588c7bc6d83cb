from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from moee.method.pooling import PaddingSide, TokenLayout, pool
from moee.types import Pooling

LENGTHS = (4, 1, 3)
WIDTH = 4


def padded(side: PaddingSide) -> tuple[torch.Tensor, TokenLayout, list[torch.Tensor]]:
    """States of three texts in one batch; what stands in padding is NaN."""
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randn(length, 5, generator=generator) for length in LENGTHS]
    states = torch.full((len(LENGTHS), WIDTH, 5), float("nan"))
    for row, text in enumerate(texts):
        place = slice(0, len(text)) if side == "right" else slice(WIDTH - len(text), WIDTH)
        states[row, place] = text
    return states, TokenLayout.padded(torch.tensor(LENGTHS), WIDTH, side), texts


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_pooling_sees_the_real_tokens_only(side: PaddingSide, pooling: Pooling) -> None:
    states, layout, texts = padded(side)
    pooled = pool(states, layout, pooling)
    for row, text in enumerate(texts):
        positions = torch.arange(1, len(text) + 1, dtype=torch.float32)
        expected = {
            "last_token": text[-1],
            "mean": text.mean(dim=0),
            "weighted_mean": (positions[:, None] * text).sum(dim=0) / positions.sum(),
        }[pooling]
        torch.testing.assert_close(pooled[row], expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_flat_indices_point_at_the_last_tokens(side: PaddingSide) -> None:
    states, layout, texts = padded(side)
    flat = states.reshape(-1, 5)[layout.last]
    np.testing.assert_array_equal(flat.numpy(), torch.stack([text[-1] for text in texts]).numpy())


def test_positions_count_real_tokens_from_zero() -> None:
    layout = TokenLayout.padded(torch.tensor([2, 4]), 4, "left")
    assert layout.position_ids().tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
    assert layout.is_padded
    assert not TokenLayout.padded(torch.tensor([4, 4]), 4, "left").is_padded


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_texts_side_by_side_pool_as_texts_in_rows(pooling: Pooling) -> None:
    states, layout, texts = padded("right")
    side_by_side = TokenLayout.packed(torch.tensor(LENGTHS))
    assert not side_by_side.is_padded
    assert side_by_side.position_ids().tolist() == [[0, 1, 2, 3, 0, 0, 1, 2]]
    pooled = pool(torch.cat(texts)[None], side_by_side, pooling)
    torch.testing.assert_close(pooled, pool(states, layout, pooling))
