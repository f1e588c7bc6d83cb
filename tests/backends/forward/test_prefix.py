"""The beginning that texts share: how long it is, and when it is computed again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moee.engine import shared_length
from moee.types import CapturePlan
from tests.architectures.tiny import backend_for


@pytest.mark.parametrize(
    ("sequences", "length"),
    [
        ([[1, 2, 3, 4], [1, 2, 3, 9, 9]], 3),
        ([[1, 2, 3], [1, 2, 3, 9, 9]], 2),  # each keeps a token of its own
        ([[1, 2, 3], [1, 2, 3]], 2),
        ([[1, 2], [1, 3]], 0),  # one token is not worth a pass
        ([[1, 2, 3, 4]], 0),
        ([[7, 2, 3], [1, 2, 3]], 0),
        ([[1, 2, 3, 4], [1, 2, 9, 4], [1, 2, 3, 5]], 2),
        ([[1], [1, 2, 3]], 0),
    ],
)
def test_the_shared_length_is_found_on_token_ids(sequences: list[list[int]], length: int) -> None:
    assert shared_length(sequences) == length


def test_a_changed_weight_is_seen_by_the_next_call() -> None:
    backend, sequences = backend_for("olmoe"), [[5, 9, 17, 3], [5, 9, 17, 8, 11]]
    before = backend.forward(sequences, CapturePlan(), shared=3)
    weight = next(iter(backend.text_model.parameters()))
    saved = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[[5, 9, 17]] = weight[[17, 5, 9]]  # rows of the embedding, of shared tokens alone
        after = backend.forward(sequences, CapturePlan(), shared=3)
        alone = backend.forward(sequences[:1], CapturePlan())
    finally:
        with torch.no_grad():
            weight.copy_(saved)
    assert np.abs(after.hidden_states - before.hidden_states).max() > 1e-3
    np.testing.assert_allclose(after.hidden_states[0], alone.hidden_states[0], atol=1e-5)
