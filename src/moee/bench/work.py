"""Floating-point operations and bytes of a forward pass, counted from the model itself.

Counted: every linear map that a token passes, `top_k` of the experts, shared experts, routers, and the two products of
attention. Not counted: norms, activations, rotations, softmax, the embedding table, and the language-model head, which
embeddings do not need. A multiplication and an addition are two operations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moee.architectures import Architecture, find_architecture
from moee.errors import UnsupportedArchitectureError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_KEYS_AND_VALUES = re.compile(r"(^|\.)(k_proj|v_proj|kv_proj|kv_a_proj_with_mqa|kv_b_proj)$")
"""Projections that the last layer needs of every token; all its others serve the last token alone."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One decoder layer.

    Attributes:
        linear: Operations of a token in linear maps, `top_k` experts among them.
        keys_values: Those of them that make keys and values.
        per_pair: Operations of attention for a token and one token that it looks at, itself included.
        weights: Elements of the weights that every token uses.
        expert_weights: Elements of all routed experts.
        num_experts: Routed experts; 0 in a dense layer.
        top_k: Experts that a token uses.
    """

    linear: int
    keys_values: int
    per_pair: int
    weights: int
    expert_weights: int
    num_experts: int
    top_k: int


@dataclass(frozen=True, slots=True)
class ModelCost:
    """A decoder without its embedding table.

    Attributes:
        layers: In order.
        head: Operations of a token in the language-model head, if it were run.
    """

    layers: tuple[LayerCost, ...]
    head: int

    @property
    def per_token(self) -> int:
        """Operations of a token in all linear maps, attention's products and the head not counted."""
        return sum(layer.linear for layer in self.layers)

    @property
    def head_share(self) -> float:
        """What the head would add to a token's linear maps, as a share of them."""
        return self.head / self.per_token

    @property
    def last_layer_share(self) -> float:
        """What the last layer does besides keys and values, as a share of a token's linear maps."""
        last = self.layers[-1]
        return (last.linear - last.keys_values) / self.per_token

    @property
    def weights(self) -> int:
        """Elements of all layers' weights, all experts included."""
        return sum(layer.weights + layer.expert_weights for layer in self.layers)

    def useful(self, lengths: Sequence[int]) -> int:
        """Return the operations of the full model over texts, each computed alone.

        Args:
            lengths: Tokens of every text, prompt included.
        """
        pairs = sum(length * (length + 1) // 2 for length in lengths)
        return sum(layer.linear * sum(lengths) + layer.per_pair * pairs for layer in self.layers)

    def computed(self, lengths: Sequence[int], *, tokens: int, last_layer_rows: int) -> int:
        """Return the operations that were carried out where a shared beginning or the last layer was cut short.

        Attention's products are scaled with the share of tokens that were computed, which counts a little too few: the
        tokens of a shared beginning look at the fewest others.

        Args:
            lengths: Tokens of every distinct text, prompt included.
            tokens: Token rows that went through all layers.
            last_layer_rows: Rows for which the last layer did more than keys and values.
        """
        pairs = sum(length * (length + 1) // 2 for length in lengths) * tokens / sum(lengths)
        *before, last = self.layers
        total = sum(layer.linear * tokens + layer.per_pair * pairs for layer in before)
        total += last.keys_values * tokens + (last.linear - last.keys_values) * last_layer_rows
        # the rows that are left in a cut last layer are last tokens: each looks at its whole text
        total += last.per_pair * (pairs if last_layer_rows >= tokens else sum(lengths) * last_layer_rows / len(lengths))
        return int(total)

    def read(self, tokens: int) -> int:
        """Return the elements of weights that one pass over `tokens` tokens must read.

        Experts that no token chooses are not read. How many that is, is the expectation for uniform routing: trained
        routers choose fewer different experts.
        """
        total = 0.0
        for layer in self.layers:
            chosen = 1.0 - (1.0 - layer.top_k / layer.num_experts) ** tokens if layer.num_experts else 0.0
            total += layer.weights + layer.expert_weights * chosen
        return int(total)


def model_cost(config: Any) -> ModelCost:
    """Count a model from its configuration, without its weights.

    Args:
        config: Configuration of transformers; `Any`: untyped upstream.

    Raises:
        UnsupportedArchitectureError: If it has parts that this count does not know.
    """
    import torch

    from moee.backends.checkpoint.support import auto_class
    from moee.backends.forward.huggingface import text_model_of

    with torch.device("meta"):
        model = text_model_of(auto_class(config).from_config(config))
    return cost_of(model)


def cost_of(model: PreTrainedModel) -> ModelCost:
    """Count a decoder that is in memory, or on the meta device.

    Raises:
        UnsupportedArchitectureError: If it has parts that this count does not know.
    """
    from moee.backends.forward.routers import decoder_layers, find_routers

    config: Any = model.config
    row = find_architecture(str(config.model_type))
    if row is None:
        raise UnsupportedArchitectureError(
            f"The operations of {config.model_type!r} are not counted: it has no row in the table of architectures."
        )
    routers = {site.layer_id: (site.module, site.top_k) for site in find_routers(model, row)}
    layers = tuple(
        _layer_cost(layer, row, config, *routers.get(number, (None, 0)))
        for number, layer in enumerate(decoder_layers(model, row))
    )
    return ModelCost(layers, 2 * int(config.hidden_size) * int(config.vocab_size))


def _layer_cost(layer: nn.Module, row: Architecture, config: Any, router: nn.Module | None, top_k: int) -> LayerCost:
    shared: dict[str, int] = {}
    experts: dict[str, int] = {}
    num_experts = 0
    for path, size, count in _weights(layer, row, router):
        (experts if count else shared)[path] = size
        num_experts = max(num_experts, count)
    expert_weights = sum(experts.values())
    linear = 2 * sum(shared.values()) + (2 * expert_weights * top_k // num_experts if num_experts else 0)
    keys_values = 2 * sum(size for path, size in shared.items() if _KEYS_AND_VALUES.search(path))
    return LayerCost(
        linear, keys_values, _per_pair(config), sum(shared.values()), expert_weights, num_experts, top_k * bool(experts)
    )


def _weights(layer: nn.Module, row: Architecture, router: nn.Module | None) -> Iterator[tuple[str, int, int]]:
    """Yield path, elements, and number of experts (0 outside experts) of every linear map of a layer."""
    from torch import nn

    for path, module in layer.named_modules():
        own = {name: each for name, each in module.named_parameters(recurse=False) if each.dim() > 1}
        if not own:
            continue
        stacked = {name: each for name, each in own.items() if each.dim() == 3}
        if stacked and not isinstance(module, nn.Conv1d):
            # what has two dimensions beside stacked experts is their biases
            for name, each in stacked.items():
                yield f"{path}.{name}", each.numel(), each.shape[0]
        elif isinstance(module, nn.Linear) or module is router:
            if re.search(r"(^|\.)experts\.\d+\.", path):
                raise _uncounted(row, path, module)
            yield path, sum(each.numel() for each in own.values()), 0
        else:
            raise _uncounted(row, path, module)


def _uncounted(row: Architecture, path: str, module: object) -> UnsupportedArchitectureError:
    return UnsupportedArchitectureError(
        f"The operations of {row.model_types[0]!r} are not counted: {path!r} is a {type(module).__name__}, whose work "
        "is not known here. Speed and memory can still be measured."
    )


def _per_pair(config: Any) -> int:
    """Operations of query times key and weight times value, over all heads."""
    heads = int(config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    latent = getattr(config, "qk_head_dim", None) or 0
    if not latent and getattr(config, "qk_nope_head_dim", None):
        latent = int(config.qk_nope_head_dim) + int(config.qk_rope_head_dim)
    if latent:
        return 2 * heads * (int(latent) + int(config.v_head_dim))
    return 4 * heads * width


def counted_work(cost: ModelCost, lengths: Sequence[int], work: Mapping[str, int] | None) -> int:
    """Return the operations that an entry carried out for distinct, unpadded tokens.

    Args:
        cost: Cost of the model.
        lengths: Tokens of every distinct text, prompt included.
        work: What it counted itself, `tokens` and `last_layer_rows`, padding among them where it pads; None is an
            entry that counts nothing, and is taken to run every token through the whole model.
    """
    if not work or not work["tokens"]:
        return cost.useful(lengths)
    total = sum(lengths)
    return cost.computed(
        lengths, tokens=min(work["tokens"], total), last_layer_rows=min(work["last_layer_rows"], total)
    )
