"""DeepSeekMoE-16B (`model_type: "deepseek"`), which transformers knows only through code in the checkpoint itself.

The decoder inside DeepSeek-OCR 2 is the same network: Llama attention, a softmax router whose chosen weights are not
renormalised, shared experts, dense first layers. It is registered here under the old name, with the rule that merges
one tensor per expert into the fused parameters. Nothing from the checkpoint is executed, and q and k stay as they
are: both sides rotate halves.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoModel
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import DeepseekOcr2TextConfig
from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import DeepseekOcr2TextModel

from moee.errors import UnsupportedArchitectureError

_MODEL_TYPE = "deepseek"
_ONLY_VALUES: dict[str, object] = {"scoring_func": "softmax", "norm_topk_prob": False, "moe_layer_freq": 1}
"""Keys of the original configuration that the borrowed class does not read, and the values it computes."""


def _check(keys: dict[str, Any], n_shared_experts: int | None) -> None:
    """Refuse a configuration that the borrowed class would silently compute as another network."""
    for key, only in _ONLY_VALUES.items():
        value = keys.get(key, only)
        if value is not None and value != only:
            raise UnsupportedArchitectureError(
                f"A 'deepseek' configuration with {key} = {value!r} is not supported, only {only!r}. "
                "DeepSeekMoE-16B has that value; a later DeepSeek model has a model_type of its own."
            )
    if not n_shared_experts:
        raise UnsupportedArchitectureError(
            f"A 'deepseek' configuration with n_shared_experts = {n_shared_experts!r} is not supported: "
            "at least 1 is needed. DeepSeekMoE-16B has 2."
        )


class DeepseekMoEConfig(DeepseekOcr2TextConfig):
    """The original configuration's keys, read as the borrowed class wants them."""

    model_type = _MODEL_TYPE

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the keys the class ignores, and say which layers are dense."""
        _check(kwargs, self.n_shared_experts)
        if self.mlp_layer_types is None:
            dense = kwargs.get("first_k_dense_replace") or 0
            self.mlp_layer_types = ["dense"] * dense + ["sparse"] * (self.num_hidden_layers - dense)
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]  # partly typed upstream


class DeepseekMoEModel(DeepseekOcr2TextModel):
    """The decoder, without a language-model head."""

    config_class = DeepseekMoEConfig
    config: DeepseekMoEConfig


def register() -> None:
    """Teach transformers' auto classes the model; calling it again changes nothing."""
    AutoConfig.register(_MODEL_TYPE, DeepseekMoEConfig, exist_ok=True)
    AutoModel.register(DeepseekMoEConfig, DeepseekMoEModel, exist_ok=True)
    # Qwen2-MoE checkpoints have the same one tensor per expert and projection
    merge_experts = get_checkpoint_conversion_mapping("qwen2_moe")
    register_checkpoint_conversion_mapping(_MODEL_TYPE, merge_experts, overwrite=True)
