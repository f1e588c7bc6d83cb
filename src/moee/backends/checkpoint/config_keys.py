"""What a model's configuration says of its experts, whatever names its architecture gives to that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moee.architectures import Architecture
from moee.errors import CheckpointError, NoMoELayersError, UnsupportedArchitectureError

EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "ffn_config.moe_num_experts")
"""Keys by which configurations count their experts."""
TOP_K_KEYS = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "moe_top_k")
ADD_A_ROW = "`moee models` lists what is supported; docs/add-an-architecture.md shows how to add a row."


def config_value(config: Any, dotted: str, default: Any = None) -> Any:
    """Follow a dotted key into a configuration object; `default` where it leads nowhere."""
    value = config
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
        if value is None:
            return default
    return value


def scoring_func_of(config: Any, architecture: Architecture | None) -> str:
    """Return how a model turns its logits into scores, a key of `routing.SCORING_FUNCS`.

    Args:
        config: Configuration of the text model.
        architecture: Row of the model; a softmax is assumed for a model that no row describes.

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
            f"The configuration of {architecture.model_types[0]!r} has {key} = {value!r}, whose routing weights are "
            f"not known. Known: {', '.join(repr(each) for each in meanings)}."
        )
    return meanings[value]


def check_top_k(config: Mapping[str, Any], architecture: Architecture | None, name: str) -> None:
    """Refuse a configuration that sends tokens to more experts than it counts, or to none.

    Args:
        config: The decoder's part of a parsed `config.json`.
        architecture: Row that serves it.
        name: Name of the model, for messages.

    Raises:
        CheckpointError: If it does.
    """
    counts = {key: value for key in EXPERT_KEYS if _is_count(value := config_value(config, key))}
    if not any(counts.values()):
        return  # no experts at all, which has an error of its own, or a count for each layer
    keys = (*((architecture.top_k,) if architecture else ()), *TOP_K_KEYS)
    key = next((each for each in keys if config_value(config, each) is not None), keys[0])
    most = max(counts, key=lambda each: counts[each])
    value = config_value(config, key, 1)
    for each in value if isinstance(value, list) else [value]:
        if not (_is_count(each) and 1 <= each <= counts[most]):
            raise CheckpointError(
                f"The configuration of {name!r} has {key} = {value!r}, but {most} = {counts[most]}: a token goes to at "
                "least 1 expert, and to no more than there are. Copy config.json again from where the model was "
                "published."
            )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def text_config_of(config: dict[str, Any], architecture: Architecture | None) -> dict[str, Any]:
    """Return the decoder's part of a configuration, however deep a multimodal model keeps it."""
    queue = [config]
    while architecture is not None and queue:
        part = queue.pop(0)
        if part.get("model_type") in architecture.model_types:
            return part
        queue.extend(value for value in part.values() if isinstance(value, dict))
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def no_moe_layers(name: str) -> NoMoELayersError:
    """Return the error for a model without any MoE layer."""
    return NoMoELayersError(
        f"{name!r} has no MoE layers: it is a dense model, so there are no routing weights. "
        "Choose a model with experts (`moee models` lists them), or carve this one into experts: "
        "moee carve MODEL --out DIR"
    )
