"""DeepSeekMoE-16B from its original files: every key is used, and the numbers are those of the published equations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import AutoConfig, AutoModel

from moee.architectures import architecture_for
from moee.backends.checkpoint import deepseek_moe
from moee.backends.checkpoint.support import LoadOptions
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.backends.open import open_backend
from moee.errors import UnsupportedArchitectureError
from moee.types import CapturePlan

DIM, HEADS, EXPERTS, TOP_K, WIDTH, DENSE_WIDTH, SHARED, VOCAB = 32, 4, 8, 3, 16, 48, 2, 64
LAYERS = 3
TOLERANCE = 1e-5
TOKENS = [3, 14, 15, 9, 26, 53, 58, 9, 7, 9, 32, 38]

CONFIG: dict[str, Any] = {
    # the keys of the published config.json, with its pointer to code in the checkpoint
    "architectures": ["DeepseekForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekConfig", "AutoModel": "modeling_deepseek.DeepseekModel"},
    "aux_loss_alpha": 0.001,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": DIM,
    "initializer_range": 0.02,
    "intermediate_size": DENSE_WIDTH,
    "max_position_embeddings": 4096,
    "model_type": "deepseek",
    "moe_intermediate_size": WIDTH,
    "moe_layer_freq": 1,
    "n_routed_experts": EXPERTS,
    "n_shared_experts": SHARED,
    "norm_topk_prob": False,
    "num_attention_heads": HEADS,
    "num_experts_per_tok": TOP_K,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": HEADS,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000,
    "scoring_func": "softmax",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": VOCAB,
}

Weights = dict[str, torch.Tensor]


def _swiglu_weights(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.gate_proj.weight": (width, DIM),
        f"{prefix}.up_proj.weight": (width, DIM),
        f"{prefix}.down_proj.weight": (DIM, width),
    }


def original_weights() -> Weights:
    """Return random weights under the names of the original files: one tensor per expert and projection."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCAB, DIM),
        "model.norm.weight": (DIM,),
        "lm_head.weight": (VOCAB, DIM),
    }
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{block}.self_attn.{name}.weight"] = (DIM, DIM)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{block}.{name}.weight"] = (DIM,)
        if layer < CONFIG["first_k_dense_replace"]:
            shapes |= _swiglu_weights(f"{block}.mlp", DENSE_WIDTH)
            continue
        shapes[f"{block}.mlp.gate.weight"] = (EXPERTS, DIM)
        shapes |= _swiglu_weights(f"{block}.mlp.shared_experts", WIDTH * SHARED)
        for expert in range(EXPERTS):
            shapes |= _swiglu_weights(f"{block}.mlp.experts.{expert}", WIDTH)
    generator = torch.Generator().manual_seed(7)
    return {
        name: torch.randn(shape, generator=generator) * (0.3 if len(shape) > 1 else 0.1) + (len(shape) == 1)
        for name, shape in shapes.items()
    }


def write_checkpoint(folder: Path, **changes: Any) -> Path:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")
    for name in ("configuration_deepseek.py", "modeling_deepseek.py"):
        (folder / name).write_text("raise AssertionError('code of the checkpoint was run')", encoding="utf-8")
    save_file(original_weights(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# --- the equations, in plain torch ---------------------------------------------------------------------------------


def _norm(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return states * torch.rsqrt(states.square().mean(dim=-1, keepdim=True) + CONFIG["rms_norm_eps"]) * weight


def _rotate(states: torch.Tensor) -> torch.Tensor:
    """Rotary positions over halves, `(heads, tokens, head_dim)`."""
    half = states.shape[-1] // 2
    frequencies = CONFIG["rope_theta"] ** -(torch.arange(half) / half)
    angles = torch.arange(states.shape[1])[:, None] * frequencies
    first, second = states[..., :half], states[..., half:]
    return torch.cat(
        [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1
    )


def _attention(states: torch.Tensor, weights: Weights, block: str) -> torch.Tensor:
    def heads(name: str) -> torch.Tensor:
        projected = states @ weights[f"{block}.self_attn.{name}.weight"].T
        return projected.view(len(states), HEADS, -1).transpose(0, 1)

    query, key, value = _rotate(heads("q_proj")), _rotate(heads("k_proj")), heads("v_proj")
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
    future = torch.ones(len(states), len(states), dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ value
    return mixed.transpose(0, 1).reshape(len(states), -1) @ weights[f"{block}.self_attn.o_proj.weight"].T


def _swiglu(states: torch.Tensor, weights: Weights, prefix: str) -> torch.Tensor:
    gate, up, down = (weights[f"{prefix}.{name}_proj.weight"] for name in ("gate", "up", "down"))
    return (functional.silu(states @ gate.T) * (states @ up.T)) @ down.T


def _experts(states: torch.Tensor, weights: Weights, prefix: str) -> tuple[torch.Tensor, torch.Tensor]:
    logits = states @ weights[f"{prefix}.gate.weight"].T
    chosen = logits.softmax(dim=-1).topk(TOP_K, dim=-1)  # not renormalised
    output = _swiglu(states, weights, f"{prefix}.shared_experts")
    for token, (share, experts) in enumerate(zip(chosen.values, chosen.indices, strict=True)):
        for weight, expert in zip(share, experts.tolist(), strict=True):
            output[token] += weight * _swiglu(states[token], weights, f"{prefix}.experts.{expert}")
    return output, logits


def reference(weights: Weights) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the normalised hidden states and the router logits of every MoE layer for `TOKENS`."""
    states = weights["model.embed_tokens.weight"][TOKENS]
    router_logits = []
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        states = states + _attention(_norm(states, weights[f"{block}.input_layernorm.weight"]), weights, block)
        normed = _norm(states, weights[f"{block}.post_attention_layernorm.weight"])
        if layer < CONFIG["first_k_dense_replace"]:
            states = states + _swiglu(normed, weights, f"{block}.mlp")
        else:
            output, logits = _experts(normed, weights, f"{block}.mlp")
            states = states + output
            router_logits.append(logits)
    return _norm(states, weights["model.norm.weight"]), router_logits


# --- tests ---------------------------------------------------------------------------------------------------------


def test_an_original_checkpoint_gives_the_numbers_of_the_published_equations(tmp_path: Path) -> None:
    deepseek_moe.register()
    model, report = AutoModel.from_pretrained(
        write_checkpoint(tmp_path), trust_remote_code=False, local_files_only=True, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert set(report["unexpected_keys"]) <= {"lm_head.weight"}
    backend = HuggingFaceBackend(
        model,
        None,  # type: ignore[arg-type]  # token ids are given
        name="deepseek",
        fingerprint="test",
        architecture=architecture_for("deepseek"),
    )
    assert backend.info.layer_ids == (1, 2)
    ours = backend.forward([TOKENS], CapturePlan())
    hidden_states, router_logits = reference(original_weights())
    expected = torch.cat([logits[-1] for logits in router_logits])
    assert expected.std() > 0.1
    np.testing.assert_allclose(ours.routing[0], expected, atol=TOLERANCE, rtol=TOLERANCE)
    np.testing.assert_allclose(ours.hidden_states[0], hidden_states[-1], atol=TOLERANCE, rtol=TOLERANCE)


def test_queries_and_keys_are_taken_as_they_are_stored(tmp_path: Path) -> None:
    deepseek_moe.register()
    model = AutoModel.from_pretrained(write_checkpoint(tmp_path), trust_remote_code=False, local_files_only=True)
    stored = original_weights()
    for name in ("q_proj", "k_proj"):
        loaded = getattr(model.layers[1].self_attn, name).weight
        torch.testing.assert_close(loaded, stored[f"model.layers.1.self_attn.{name}.weight"], atol=0, rtol=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("scoring_func", "sigmoid"), ("norm_topk_prob", True), ("moe_layer_freq", 2), ("n_shared_experts", 0)],
)
def test_a_configuration_that_would_be_computed_wrongly_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    deepseek_moe.register()
    with pytest.raises(UnsupportedArchitectureError, match=f"{key} = {value!r} is not supported"):
        AutoConfig.from_pretrained(write_checkpoint(tmp_path, **{key: value}), trust_remote_code=False)


def test_a_saved_model_loads_again_as_the_same_model(tmp_path: Path) -> None:
    deepseek_moe.register()
    source, target = tmp_path / "original", tmp_path / "saved"
    source.mkdir()
    model = AutoModel.from_pretrained(write_checkpoint(source), trust_remote_code=False, local_files_only=True)
    model.save_pretrained(target)
    again, report = AutoModel.from_pretrained(target, local_files_only=True, output_loading_info=True)
    assert not report["missing_keys"]
    assert again.config.mlp_layer_types == ["dense", "sparse", "sparse"]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(again.get_parameter(name), parameter, atol=0, rtol=0)


def test_registering_twice_changes_nothing() -> None:
    deepseek_moe.register()
    deepseek_moe.register()
    assert AutoConfig.for_model("deepseek").model_type == "deepseek"


def test_opening_a_folder_that_is_refused_keeps_the_reason(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, norm_topk_prob=True)
    with pytest.raises(UnsupportedArchitectureError, match="norm_topk_prob = True is not supported, only False"):
        open_backend(str(folder), LoadOptions(dtype="float32", device="cpu"))
