"""OLMoE and FlexOlmo (Allen Institute for AI)."""

from __future__ import annotations

from moee.architectures.spec import SMALL, Architecture

_TINY = {
    **SMALL,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "num_experts": 8,
}

ROWS = (
    Architecture(
        model_types=("olmoe",),
        router="mlp.gate",
        router_class="OlmoeTopKRouter",
        gguf="olmoe",
        tiny=_TINY,
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers olmoe, OlmoeTopKRouter",
    ),
    Architecture(
        model_types=("flex_olmo",),
        router="mlp.gate",
        router_class="FlexOlmoTopKRouter",
        tiny=_TINY,
        tiny_layers=(0, 1),
        tiny_experts=(8, 8),
        source="transformers flex_olmo, FlexOlmoTopKRouter",
    ),
)
