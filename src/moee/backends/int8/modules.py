"""Linear layers and experts that multiply in 8 bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad

from moee.backends.checkpoint.config_keys import TOP_K_KEYS, config_value
from moee.backends.int8.product import PackedMatrix, quantize_rows
from moee.backends.kernels.row_counts import few_shapes
from moee.errors import UnsupportedArchitectureError

INT8_KERNEL = "moee_int8"
"""Name by which transformers finds `int8_experts`."""
_DENSE_SHARE = 0.4
"""All experts in one product from this share of active ones on, as in full precision."""
_MAX_ELEMENTS = 1 << 22
"""Numbers of the product over all experts held at once; more tokens are taken in turn. 16 MiB in float32."""


class Int8Linear(nn.Module):
    """A linear layer with int8 weights; activations are rounded as they come, each token for itself.

    Attributes:
        in_features: Inputs.
        out_features: Outputs.
        weight: The shape and dtype that it had; see `FreedWeight`.
        bias: Bias of the layer that it replaces, or None.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.matrix = PackedMatrix(linear.weight)
        self.weight = FreedWeight(linear.weight)
        self.bias = linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Multiply `(..., in_features)`; returns `(..., out_features)` in the dtype of `states`."""
        rows, scales = quantize_rows(states.reshape(-1, self.in_features))
        out = self.matrix.multiply(rows, scales)
        if self.bias is not None:
            out.add_(self.bias)
        return out.view(*states.shape[:-1], self.out_features).to(states.dtype)

    def extra_repr(self) -> str:
        """Describe the layer in a printed model."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class FreedWeight:
    """What stands where a weight was: its shape and dtype can be read, computing with it is an error.

    A tensor on the meta device would do harm here: copying its result into a real tensor does nothing and says nothing.

    Attributes:
        shape: Shape of the replaced weight.
        dtype: Type of the replaced weight.
        device: Device of the replaced weight.
    """

    __slots__ = ("device", "dtype", "shape")

    def __init__(self, weight: torch.Tensor) -> None:
        self.shape, self.dtype, self.device = weight.shape, weight.dtype, weight.device

    @classmethod
    def __torch_function__(cls, function: Any, *_: Any, **__: Any) -> Any:
        """Refuse every function of torch.

        Raises:
            UnsupportedArchitectureError: Always.
        """
        raise UnsupportedArchitectureError(
            f"The code of this model applies torch's {getattr(function, '__name__', function)!r} to a weight directly, "
            "and that weight is held in 8 bits. Use precision='exact', the default, with this model."
        )


class PackedExperts:
    """The experts of one layer as int8.

    Attributes:
        is_dense: Whether all experts lie side by side in one pair of matrices, for layers in which a token uses most of
            them. Otherwise each expert has a pair of its own.
        first: `(2 * width or width, dim)` of every expert; when dense one matrix `(experts * 2 * width, dim)`.
        second: `(dim, width)` of every expert; when dense one matrix `(dim, experts * width)`.
        biases: Biases of the first and second products, `(experts, outputs)` float32, or None.
    """

    def __init__(self, module: Any) -> None:
        """Round and pack the weights of `module`, an experts module of transformers of any layout."""
        first = module.gate_up_proj if module.has_gate else module.up_proj
        self.num_experts = int(first.shape[0])
        self.is_dense = _suits_dense(module, self.num_experts)
        self.biases: tuple[torch.Tensor, torch.Tensor] | None = None
        if module.has_bias:
            bias = module.gate_up_proj_bias if module.has_gate else module.up_proj_bias
            self.biases = (bias.detach().float(), module.down_proj_bias.detach().float())
        if self.is_dense:
            down = module.down_proj.detach()
            self.first = [PackedMatrix(first.detach().reshape(-1, first.shape[-1]))]
            self.second = [PackedMatrix(down.permute(1, 0, 2).reshape(down.shape[1], -1))]
        else:
            self.first = [PackedMatrix(_as_linear(module, first, expert)) for expert in range(self.num_experts)]
            self.second = [
                PackedMatrix(_as_linear(module, module.down_proj, expert)) for expert in range(self.num_experts)
            ]

    @property
    def nbytes(self) -> int:
        """Bytes in memory, without the biases, which stay where they are."""
        return sum(matrix.nbytes for matrix in (*self.first, *self.second))


def _as_linear(module: Any, weights: torch.Tensor, expert: int) -> torch.Tensor:
    """Return the weights of one expert, `(outputs, inputs)`."""
    weight = weights.detach()[expert]
    return weight.t() if module.is_transposed else weight


def _suits_dense(module: Any, num_experts: int) -> bool:
    plain = module.has_gate and module.is_concatenated
    odd = module.has_bias or module.is_transposed or getattr(module, "has_post_expert_norm", False)
    found = [value for key in TOP_K_KEYS if isinstance(value := config_value(module.config, key), int)]
    return bool(plain and not odd and found and found[0] >= _DENSE_SHARE * num_experts)


def int8_experts(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Compute a layer's experts in 8 bits: the function that transformers calls.

    Args:
        self: An experts module that `quantize` has packed.
        hidden_states: `(tokens, dim)`.
        top_k_index: `(tokens, top_k)` int64. An expert named twice counts twice.
        top_k_weights: `(tokens, top_k)`.

    Returns:
        `(tokens, dim)` in the dtype of `hidden_states`; summed in float32. What a token gets does not depend on the
        other tokens.
    """
    packed: PackedExperts = self.moee_int8
    compute = _all_at_once if packed.is_dense else _one_by_one
    with torch.no_grad():
        return compute(self, packed, hidden_states, top_k_index, top_k_weights).to(hidden_states.dtype)


def _all_at_once(
    module: Any, packed: PackedExperts, states: torch.Tensor, index: torch.Tensor, given: torch.Tensor
) -> torch.Tensor:
    tokens, dim = states.shape
    weights = torch.zeros(tokens, packed.num_experts)
    # added, not set: a table of fixed choices may name an expert twice (DeepSeek-V4)
    weights.scatter_add_(1, index, given.float())
    out = torch.empty(tokens, dim)
    step = max(1, _MAX_ELEMENTS // packed.first[0].shape[0])
    for start in range(0, tokens, step):
        part = slice(start, start + step)
        both = packed.first[0].multiply(*quantize_rows(states[part]))
        active = module._apply_gate(both.view(len(both), packed.num_experts, -1)).mul_(weights[part, :, None])
        out[part] = packed.second[0].multiply(*quantize_rows(active.reshape(len(active), -1)))
    return out


def _one_by_one(
    module: Any, packed: PackedExperts, states: torch.Tensor, index: torch.Tensor, given: torch.Tensor
) -> torch.Tensor:
    experts = index.reshape(-1)
    order = torch.argsort(experts, stable=True)
    tokens = order // index.shape[-1]
    weights = given.reshape(-1)[order].float()[:, None]
    rows, scales = quantize_rows(states)  # once for all experts
    counts = torch.bincount(experts, minlength=packed.num_experts).tolist()
    # an expert is given rows of the next one too, or the first token's, and what it makes of them is dropped
    more = few_shapes(max(counts))
    given, factors = pad(tokens, (0, more)), pad(weights, (0, 0, 0, more))
    out = torch.zeros(states.shape, dtype=torch.float32)
    start = 0
    for expert, count in enumerate(counts):
        if count == 0:
            continue
        pairs = slice(start, start + few_shapes(count))
        chosen = given[pairs]
        both = packed.first[expert].multiply(rows.index_select(0, chosen), scales.index_select(0, chosen))
        found = _second_half(module, packed, expert, both, factors[pairs])
        out.index_add_(0, chosen[:count], found[:count])
        start += count
    return out


def _second_half(
    module: Any, packed: PackedExperts, expert: int, both: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Gate what the first product of an expert gave, multiply again and weigh, `(tokens, dim)` float32."""
    if packed.biases is not None:
        both.add_(packed.biases[0][expert])
    inner = module._apply_gate(both) if module.has_gate else module.act_fn(both)
    rows, scales = quantize_rows(inner)
    normed = getattr(module, "has_post_expert_norm", False)  # transformers 5.19 has no such experts, nor the attribute
    if packed.biases is None and not normed:
        # the weight of a token is one more factor of its scale
        return packed.second[expert].multiply(rows, scales.mul_(weights))
    out = packed.second[expert].multiply(rows, scales)
    if packed.biases is not None:
        out.add_(packed.biases[1][expert])
    if normed:
        out = module.post_expert_norm(out)
    return out.mul_(weights)
