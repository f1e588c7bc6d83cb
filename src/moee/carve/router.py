"""The routers: ridge regression from a layer's input to the log energy of its experts, from running sums.

Sums of all tokens are enough for both the fit and its R^2, so memory does not grow with the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_FLOOR_SHARE = 1e-3


@dataclass(slots=True)
class RegressionSums:
    """Running sums of inputs and targets over tokens, float64.

    Attributes:
        inputs: Sum of x x^T, `(hidden_size, hidden_size)`.
        cross: Sum of x y^T, `(hidden_size, num_experts)`.
        targets: Sum of y, `(num_experts,)`.
        squares: Sum of y^2, `(num_experts,)`.
        count: Tokens so far.
    """

    inputs: Float64
    cross: Float64
    targets: Float64
    squares: Float64
    count: int = 0

    @classmethod
    def empty(cls, hidden_size: int, num_experts: int) -> RegressionSums:
        """Return sums over no tokens."""
        shape = (hidden_size, num_experts)
        return cls(np.zeros((hidden_size, hidden_size)), np.zeros(shape), np.zeros(num_experts), np.zeros(num_experts))


def energy_floor(energy: Float64) -> float:
    """Return what is added to an energy before the log, so that differences among near-zero energies do not count.

    Relative to the median expert, because the size of activations differs by orders of magnitude between layers.

    Args:
        energy: Output energy of each expert in one layer, `(tokens, num_experts)`.
    """
    return max(_FLOOR_SHARE * float(np.median(energy)), float(np.finfo(np.float32).tiny))


def targets_of(energy: Float64, floor: float) -> Float64:
    """Return what a router predicts: log energies, less their mean over the experts of the token.

    A constant that all experts of a token share changes neither which are chosen nor the softmax, so the regression
    is not made to spend itself on it.

    Args:
        energy: Squared contributions summed over each expert's neurons, `(tokens, num_experts)`.
        floor: Floor of the layer from `energy_floor`, the same for all its tokens.
    """
    logs = np.log(energy + floor)
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def fit_router(sums: RegressionSums, *, ridge: float) -> Float64:
    """Return router rows, `(num_experts, hidden_size)`, for logits `x @ rows.T`; `qwen2_moe` routers have no bias.

    Args:
        sums: Sums over the calibration tokens.
        ridge: Penalty on the weights of inputs that are scaled to unit mean square, so that it means the same for
            inputs whose sizes differ by orders of magnitude, as those after a norm with weights do.
    """
    scale = np.sqrt(np.diag(sums.inputs) / sums.count)
    scale = np.where(scale > 0, scale, 1.0)
    gram = sums.inputs / sums.count / np.outer(scale, scale)
    gram[np.diag_indices_from(gram)] += ridge
    weights = np.linalg.solve(gram, sums.cross / sums.count / scale[:, None]) / scale[:, None]
    return np.ascontiguousarray(weights.T)


def r_squared(sums: RegressionSums, rows: Float64) -> float:
    """Return the share of the targets' variance over tokens that a router explains, all experts together.

    Args:
        sums: Sums over any tokens; over others than the fit's for an honest number.
        rows: `(num_experts, hidden_size)`.
    """
    weights = rows.T
    explained = 2 * np.sum(weights * sums.cross) - np.sum(weights * (sums.inputs @ weights))
    residual = np.sum(sums.squares) - explained
    total = np.sum(sums.squares - sums.targets**2 / sums.count)
    return float(1 - residual / total) if total > 0 else 0.0
