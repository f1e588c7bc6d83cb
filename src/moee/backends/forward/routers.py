"""Find the routers of a model that is in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from moee.architectures import Architecture
from moee.backends.checkpoint.config_keys import ADD_A_ROW, EXPERT_KEYS, TOP_K_KEYS, config_value, no_moe_layers
from moee.backends.forward.twin import Twin
from moee.errors import UnsupportedArchitectureError

if TYPE_CHECKING:
    import torch
    from torch import nn

_PROBE_TOKENS = (0, 1, 2)
_SAME_LOGITS = 0.02
"""Relative difference of equal logits: above bfloat16's rounding (2^-8), far below what softmax or sigmoid changes."""
_ROUTER_NAME = re.compile(r"(router|gate|gating)$", re.IGNORECASE)
_LAYER_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")


@dataclass(frozen=True, slots=True)
class RouterSite:
    """One router in a model.

    Attributes:
        layer_id: Decoder layer it belongs to.
        path: Path from the text model.
        module: The module whose output is read.
        output: Element of its output that is read; None for a bare tensor.
        reads: Whether that element holds logits or probabilities.
        top_k: Experts per token in this layer.
    """

    layer_id: int
    path: str
    module: nn.Module
    output: int | None
    reads: Literal["logits", "probabilities"]
    top_k: int


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


def _top_k(config: Any, key: str, layer_id: int) -> int:
    value = config_value(config, key)
    if value is None:
        raise UnsupportedArchitectureError(
            f"The configuration of {getattr(config, 'model_type', '?')!r} has no {key!r}: "
            "experts per token are unknown."
        )
    return int(value[layer_id]) if isinstance(value, (list, tuple)) else int(value)


def as_released(architecture: Architecture, release: str) -> Architecture:
    """Return the row as it was in one release of transformers, given as a version."""
    from packaging.version import Version

    if architecture.before is None or Version(release) >= Version(architecture.before[0]):
        return architecture
    _, router_class, output = architecture.before
    return replace(architecture, router_class=router_class, output=output)


def find_routers(
    text_model: nn.Module, architecture: Architecture, *, include_attention_routers: bool = False
) -> tuple[RouterSite, ...]:
    """Find every router that `architecture` describes, in layer order.

    Args:
        text_model: The decoder, without a language-model head.
        architecture: Row of the model.
        include_attention_routers: Also return the routers of mixture-of-attention blocks, before the layer's own.

    Raises:
        NoMoELayersError: If no layer has a router.
        UnsupportedArchitectureError: If the modules at the router's path are all of another class than the row's.
    """
    import transformers

    architecture = as_released(architecture, transformers.__version__)
    config: Any = text_model.config
    name = getattr(config, "model_type", type(text_model).__name__)
    sites: list[RouterSite] = []
    others: set[str] = set()
    for layer_id, layer in enumerate(decoder_layers(text_model, architecture)):
        wanted: list[tuple[str, int | None]] = [(architecture.router, architecture.output)]
        if include_attention_routers and architecture.attention_router:
            wanted.insert(0, (architecture.attention_router, architecture.attention_output))
        for path, output in wanted:
            module = submodule(layer, path)
            if module is None:
                continue
            if type(module).__name__ != architecture.router_class:
                others.add(type(module).__name__)
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
    if not sites and others:
        raise UnsupportedArchitectureError(
            f"{name!r}: the modules at {architecture.router!r} are {', '.join(sorted(others))}, not "
            f"{architecture.router_class}, so what they return is not known. The installed transformers may have "
            "renamed the class, or a quantisation replaced it; `moee doctor` shows the tested version."
        )
    if not sites:
        raise no_moe_layers(name)
    return tuple(sites)


def _candidates(text_model: nn.Module, widths: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Yield modules that look like routers: named or classed so, with a weight of one row per expert."""
    for path, module in text_model.named_modules():
        named = _ROUTER_NAME.search(path.rsplit(".", 1)[-1]) or _ROUTER_NAME.search(type(module).__name__)
        if not named or not _LAYER_NUMBER.search(path):
            continue
        weight = getattr(module, "weight", None)
        shape = tuple(getattr(weight, "shape", ()))
        if len(shape) == 2 and shape[0] in widths:
            yield path, module


def find_routers_by_shape(text_model: nn.Module) -> tuple[RouterSite, ...]:
    """Find the routers of a model that no row describes.

    Accepts modules whose name or class ends in router, gate or gating, and whose weight has one row per expert as the
    configuration counts them. What they return is not settled yet (`output=None`): see `settle_outputs`.

    Raises:
        NoMoELayersError: If the configuration counts no experts.
        UnsupportedArchitectureError: If nothing fits, two candidates share a layer, or no key counts experts per token.
    """
    config: Any = text_model.config
    name = getattr(config, "model_type", type(text_model).__name__)
    widths = {int(value) for key in EXPERT_KEYS if isinstance(value := config_value(config, key), int) and value > 1}
    if not widths:
        raise no_moe_layers(name)
    top_k_key = next((key for key in TOP_K_KEYS if config_value(config, key) is not None), None)
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
    if not found:
        raise UnsupportedArchitectureError(
            f"{name!r} is not a known architecture, and no module in it looks like a router over {sorted(widths)} "
            f"experts. {ADD_A_ROW}"
        )
    if top_k_key is None:
        raise UnsupportedArchitectureError(
            f"{name!r} is not a known architecture, and its configuration has none of {', '.join(TOP_K_KEYS)}: "
            f"experts per token are unknown. {ADD_A_ROW}"
        )
    return tuple(
        RouterSite(layer_id, path, module, None, "logits", _top_k(config, top_k_key, layer_id))
        for layer_id, (path, module) in sorted(found.items())
    )


def _is_linear_score(value: Any, reference: torch.Tensor) -> bool:
    import torch

    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.numel() != reference.numel():
        return False
    if value.shape[-1] != reference.shape[-1]:
        return False
    difference = (value.float().reshape(reference.shape) - reference).abs().max()
    return bool(difference <= _SAME_LOGITS * reference.abs().max())


def _logits_element(module: Any, states: torch.Tensor, output: Any, path: str) -> int | None:
    """Find the element of a router's output that equals its input times its weight; None for a bare tensor."""
    from torch.nn import functional

    bias = getattr(module, "bias", None)
    flat = states.float().reshape(-1, module.weight.shape[1])
    reference = functional.linear(flat, module.weight.float(), None if bias is None else bias.float())
    if _is_linear_score(output, reference):
        return None
    for number, value in enumerate(output if isinstance(output, tuple) else ()):
        if _is_linear_score(value, reference):
            return number
    raise UnsupportedArchitectureError(
        f"{path!r} looks like a router of an unknown architecture, but nothing it returns is its input times its "
        f"weight, so its logits cannot be read. {ADD_A_ROW}"
    )


def settle_outputs(text_model: nn.Module, sites: tuple[RouterSite, ...]) -> tuple[RouterSite, ...]:
    """Run a few tokens and find out which element of every router's output holds its logits.

    Args:
        text_model: The decoder.
        sites: Routers from `find_routers_by_shape`.

    Returns:
        The same sites with `output` set.

    Raises:
        UnsupportedArchitectureError: If a router did not run, or returns no logits.
    """
    import torch

    elements: dict[str, int | None] = {}

    def watch(site: RouterSite) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            states = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
            elements[site.path] = _logits_element(module, states, output, site.path)

        return hook

    device = next(text_model.parameters()).device
    twin = Twin(text_model)
    for site in sites:
        twin.of(site.module).register_forward_hook(watch(site), with_kwargs=True)
    with torch.inference_mode():
        twin.root(input_ids=torch.tensor([_PROBE_TOKENS], device=device))
    if idle := [site.path for site in sites if site.path not in elements]:
        raise UnsupportedArchitectureError(
            f"{', '.join(map(repr, idle))} look like routers of an unknown architecture, but did not run. {ADD_A_ROW}"
        )
    return tuple(replace(site, output=elements[site.path]) for site in sites)
