"""What all texts of a corpus begin with, a prompt's opening words for the most part, is computed once.

Attention looks back only, so the keys and values of a shared beginning do not depend on what follows. They are computed
once and lent to every text; the model then runs over the remaining tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from moee.backends.forward.packing import States


WeightsState = tuple[tuple[int, int], ...]
"""For each parameter, where it is and how often it has been written to."""


class SharedPrefix:
    """Keys and values of one beginning; a corpus under one prompt asks for the same again and again.

    They are dropped when the model's weights change: a caller's model may be trained between two calls.
    """

    def __init__(self) -> None:
        self._key: object = None
        self._states: Mapping[int, States] = {}

    def states(
        self, weights: WeightsState, tokens: Sequence[int], compute: Callable[[Sequence[int]], Mapping[int, States]]
    ) -> Mapping[int, States]:
        """Return the keys and values of a beginning, by layer; nothing for an empty one.

        Args:
            weights: State of the weights that the states depend on.
            tokens: The beginning.
            compute: Runs the model over it.
        """
        if not tokens:
            return {}
        key = (tuple(tokens), weights)
        if key != self._key:
            self._states, self._key = compute(tokens), key
        return self._states


def weights_state(model: nn.Module) -> WeightsState:
    """Return what changes when a weight of `model` is replaced or written to."""
    # torch counts no writes to tensors made in inference mode, and forbids asking
    return tuple(map(_weight_state, model.parameters()))


def _weight_state(weight: torch.Tensor) -> tuple[int, int]:
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version
