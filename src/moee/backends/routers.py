"""Find the routers of a model that is in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from moee.architectures import Architecture
from moee.errors import NoMoELayersError, UnsupportedArchitectureError

if TYPE_CHECKING:
    from torch import nn

EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "ffn_config.moe_num_experts")
"""Where configurations count their experts."""
_TOP_K_KEYS = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "moe_top_k")
_ROUTER_NAME = re.compile(r"(router|gate|gating)$", re.IGNORECASE)
_LAYER_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")


@dataclass(frozen=True, slots=True)
class RouterSite:
    """One router in a model.

    Attributes:
        layer_id: Decoder layer it belongs to.
        path: From the text model.
        module: The module whose output is read.
        output: Which element of its output; None for a bare tensor.
        reads: Whether that element holds logits or probabilities.
        top_k: Experts per token in this layer.
    """

    layer_id: int
    path: str
    module: nn.Module
    output: int | None
    reads: Literal["logits", "probabilities"]
    top_k: int


def config_value(config: Any, dotted: str, default: Any = None) -> Any:
    """Follow a dotted key into a configuration object; `default` where it leads nowhere."""
    value = config
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
        if value is None:
            return default
    return value


def submodule(module: nn.Module, path: str) -> nn.Module | None:
    """Return the module at `path` under `module`, or None."""
    current: Any = module
    for part in path.split("."):
        current = getattr(current, part, None)
        if current is None:
            return None
    return current  # type: ignore[no-any-return]  # attribute walks are untyped upstream


def decoder_layers(text_model: nn.Module, architecture: Architecture) -> Any:
    """Return the list of decoder layers.

    Raises:
        UnsupportedArchitectureError: If the row's path does not lead to one.
    """
    layers = submodule(text_model, architecture.layers)
    if layers is None or not hasattr(layers, "__len__"):
        raise UnsupportedArchitectureError(
            f"{type(text_model).__name__} has no list of layers at {architecture.layers!r}. "
            "The installed transformers may have moved it; `moee doctor` shows the tested version."
        )
    return layers


def scoring_func_of(config: Any, architecture: Architecture | None) -> str:
    """Return how a model turns its logits into scores, a key of `routing.SCORING_FUNCS`.

    Args:
        config: Of the text model.
        architecture: Its row; a softmax is assumed for a model that no row describes.

    Raises:
        UnsupportedArchitectureError: If the configuration names a function that the row does not know.
    """
    if architecture is None:
        return "softmax"
    if architecture.scoring_from is None:
        return architecture.scoring_func
    key, meanings = architecture.scoring_from
    value = config_value(config, key)
    if value is None:
        return architecture.scoring_func
    if value not in meanings:
        raise UnsupportedArchitectureError(
            f"The configuration of {architecture.model_types[0]!r} has {key} = {value!r}, whose routing weights are not known. "
            f"Known: {', '.join(repr(each) for each in meanings)}."
        )
    return meanings[value]


def _top_k(config: Any, key: str, layer_id: int) -> int:
    value = config_value(config, key)
    if value is None:
        raise UnsupportedArchitectureError(
            f"The configuration of {getattr(config, 'model_type', '?')!r} has no {key!r}: experts per token are unknown."
        )
    return int(value[layer_id]) if isinstance(value, (list, tuple)) else int(value)


def find_routers(
    text_model: nn.Module, architecture: Architecture, *, include_attention_routers: bool = False
) -> tuple[RouterSite, ...]:
    """Find every router that `architecture` describes, in layer order.

    Args:
        text_model: The decoder, without a language-model head.
        architecture: Its row.
        include_attention_routers: Also the routers of mixture-of-attention blocks, before the layer's own.

    Raises:
        NoMoELayersError: If no layer has a router.
        UnsupportedArchitectureError: If a layer has a module at the router's path whose class is near the row's but not it.
    """
    config: Any = text_model.config
    sites: list[RouterSite] = []
    for layer_id, layer in enumerate(decoder_layers(text_model, architecture)):
        wanted: list[tuple[str, int | None]] = [(architecture.router, architecture.output)]
        if include_attention_routers and architecture.attention_router:
            wanted.insert(0, (architecture.attention_router, architecture.attention_output))
        for path, output in wanted:
            module = submodule(layer, path)
            if module is None or type(module).__name__ != architecture.router_class:
                continue
            sites.append(
                RouterSite(
                    layer_id=layer_id,
                    path=f"{architecture.layers}.{layer_id}.{path}",
                    module=module,
                    output=output,
                    reads=architecture.reads,
                    top_k=_top_k(config, architecture.top_k, layer_id),
                )
            )
    if not sites:
        raise no_moe_layers(getattr(config, "model_type", type(text_model).__name__))
    return tuple(sites)


def no_moe_layers(name: str) -> NoMoELayersError:
    """Return the error for a model without any MoE layer."""
    return NoMoELayersError(
        f"{name!r} has no MoE layers: it is a dense model, so there are no routing weights. "
        "Choose a model with experts (`moee models` lists them), or carve this one into experts: "
        "moee carve MODEL --out DIR"
    )


def _candidates(text_model: nn.Module, widths: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Yield modules that look like routers: named or classed so, with a weight of one row per expert."""
    for path, module in text_model.named_modules():
        named = _ROUTER_NAME.search(path.rsplit(".", 1)[-1]) or _ROUTER_NAME.search(type(module).__name__)
        if not named or not _LAYER_NUMBER.search(path):
            continue
        weight = getattr(module, "weight", None)
        shape = tuple(getattr(weight, "shape", ()))
        if len(shape) == 2 and shape[0] in widths:  # noqa: PLR2004 - a matrix: experts x hidden
            yield path, module


def find_routers_by_shape(text_model: nn.Module) -> tuple[RouterSite, ...]:
    """Find the routers of a model that no row describes.

    Accepts modules whose name or class ends in router, gate or gating, and whose weight has one row per expert as the
    configuration counts them. What they return is settled at the first forward pass (`output=None`: a tensor, or the
    first element of a tuple).

    Raises:
        NoMoELayersError: If the configuration counts no experts.
        UnsupportedArchitectureError: If nothing fits, or two candidates in one layer disagree.
    """
    config: Any = text_model.config
    name = getattr(config, "model_type", type(text_model).__name__)
    widths = {int(value) for key in EXPERT_KEYS if isinstance(value := config_value(config, key), int) and value > 1}
    if not widths:
        raise no_moe_layers(name)
    top_k_key = next((key for key in _TOP_K_KEYS if config_value(config, key) is not None), None)
    found: dict[int, tuple[str, nn.Module]] = {}
    for path, module in _candidates(text_model, widths):
        match = _LAYER_NUMBER.search(path)
        layer_id = int(match.group(1)) if match else -1
        if layer_id in found:
            raise UnsupportedArchitectureError(
                f"{name!r} is not a known architecture, and layer {layer_id} has two modules that look like routers: "
                f"{found[layer_id][0]!r} and {path!r}. Add a row that says which one (docs/add-an-architecture.md)."
            )
        found[layer_id] = (path, module)
    if not found or top_k_key is None:
        raise UnsupportedArchitectureError(
            f"{name!r} is not a known architecture, and no module in it looks like a router over {sorted(widths)} experts. "
            "`moee models` lists what is supported; docs/add-an-architecture.md shows how to add a row."
        )
    return tuple(
        RouterSite(layer_id, path, module, None, "logits", _top_k(config, top_k_key, layer_id))
        for layer_id, (path, module) in sorted(found.items())
    )
