"""Finding routers: by a row, and by shape in a model that no row describes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaModel

from moee.architectures import architecture_for
from moee.backends.checkpoint.config_keys import scoring_func_of
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.backends.forward.routers import find_routers, find_routers_by_shape
from moee.errors import NoMoELayersError, UnsupportedArchitectureError
from moee.types import CapturePlan
from tests.architectures.tiny import backend_for, build, tiny_config, tiny_model

EXPERTS, TOP_K, DIM = 6, 2, 32
TOKENS = [5, 9, 2, 40, 33]


class LinearGate(nn.Linear):
    """A bare linear layer, as in code written for transformers 4."""

    def __init__(self) -> None:
        super().__init__(DIM, EXPERTS, bias=False)


class SecondElementGate(nn.Module):
    """Returns what llama4 returns: scores of the chosen experts first, the logits second."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(EXPERTS, DIM))

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = functional.linear(states, self.weight)
        return logits.sigmoid(), logits


class WeightsOnlyGate(SecondElementGate):
    """Returns weights and indices, as code written for DeepSeek does; its logits never leave it."""

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        best = functional.linear(states, self.weight).softmax(dim=-1).topk(TOP_K)
        return best.values, best.indices


class ProbabilityGate(SecondElementGate):
    """Returns a full distribution, as wide as the logits would be."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return functional.linear(states, self.weight).softmax(dim=-1)


class SparseBlock(nn.Module):
    """A mixture of linear experts around any gate."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate
        self.experts = nn.ModuleList(nn.Linear(DIM, DIM, bias=False) for _ in range(EXPERTS))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        self.gate(states.reshape(-1, DIM))
        return sum(expert(states) for expert in self.experts) / EXPERTS


def unknown_model(gate: type[nn.Module], *, sparse: tuple[int, ...] = (1, 2), **keys: Any) -> LlamaModel:
    """Return a three-layer decoder of a type no row knows, with sparse blocks in some layers."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=DIM,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        **{"num_experts": EXPERTS, "num_experts_per_tok": TOP_K, **keys},
    )
    config.model_type = "a_model_nobody_knows"
    torch.manual_seed(0)
    model = LlamaModel(config)
    for layer_id in sparse:
        model.layers[layer_id].mlp = SparseBlock(gate())
    return model.eval()


def open_unknown(model: LlamaModel) -> HuggingFaceBackend:
    return HuggingFaceBackend(
        model,
        None,  # type: ignore[arg-type]  # token ids are given
        name="unknown",
        fingerprint="test",
        architecture=None,
    )


@pytest.mark.parametrize("gate", [LinearGate, SecondElementGate])
def test_an_unknown_model_is_read_at_the_element_that_holds_its_logits(gate: type[nn.Module]) -> None:
    model = unknown_model(gate)
    backend = open_unknown(model)
    assert backend.info.layer_ids == (1, 2)
    assert backend.info.num_experts == (EXPERTS, EXPERTS)
    assert backend.info.top_k == (TOP_K, TOP_K)
    inputs: list[torch.Tensor] = []
    router: Any = model.layers[2].mlp.gate
    handle = router.register_forward_pre_hook(lambda _module, args: inputs.append(args[0].clone()))
    ours = backend.forward([TOKENS], CapturePlan())
    handle.remove()
    with torch.inference_mode():
        expected = functional.linear(inputs[-1][-1], router.weight)
    np.testing.assert_allclose(ours.routing[0, EXPERTS:], expected, atol=1e-5)


@pytest.mark.parametrize("gate", [WeightsOnlyGate, ProbabilityGate])
def test_an_unknown_router_that_hides_its_logits_is_an_error(gate: type[nn.Module]) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"'layers\.1\.mlp\.gate' looks like a router .* nothing it"):
        open_unknown(unknown_model(gate))


def test_two_candidates_in_one_layer_are_an_error() -> None:
    model = unknown_model(LinearGate)
    model.layers[1].self_attn.router = LinearGate()
    message = (
        r"layer 1 has two modules that look like routers: 'layers\.1\.self_attn\.router' and 'layers\.1\.mlp\.gate'"
    )
    with pytest.raises(UnsupportedArchitectureError, match=message):
        find_routers_by_shape(model)


def test_a_candidate_that_never_runs_is_an_error() -> None:
    model = unknown_model(LinearGate)
    model.layers[0].spare_router = LinearGate()
    with pytest.raises(UnsupportedArchitectureError, match=r"'layers\.0\.spare_router' .* did not run"):
        open_unknown(model)


def test_a_gate_that_is_not_as_wide_as_the_experts_is_no_candidate() -> None:
    model = unknown_model(LinearGate)
    model.layers[1].mlp.shared_expert_gate = nn.Linear(DIM, 1)
    assert [site.path for site in find_routers_by_shape(model)] == ["layers.1.mlp.gate", "layers.2.mlp.gate"]


def test_experts_without_any_router_are_an_error() -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"no module in it looks like a router over \[6\] experts"):
        find_routers_by_shape(unknown_model(LinearGate, sparse=()))


def test_an_unknown_number_of_experts_per_token_is_an_error() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="experts per token are unknown"):
        find_routers_by_shape(unknown_model(LinearGate, num_experts_per_tok=None))


def test_a_dense_model_is_told_about_carving() -> None:
    model = LlamaModel(LlamaConfig(vocab_size=64, hidden_size=DIM, num_hidden_layers=1, num_attention_heads=4))
    with pytest.raises(NoMoELayersError, match=r"'llama' has no MoE layers.*moee carve"):
        find_routers_by_shape(model)


def test_a_known_architecture_without_experts_is_a_dense_model() -> None:
    config = tiny_config("granitemoehybrid")
    config.num_local_experts = 0
    row = architecture_for("granitemoehybrid")
    with pytest.raises(NoMoELayersError, match="'granitemoehybrid' has no MoE layers"):
        find_routers(build(config).model, row)


def test_a_renamed_router_class_is_an_error_and_not_a_dense_model() -> None:
    model: Any = build(tiny_config("olmoe"))
    for layer in model.model.layers:
        layer.mlp.gate = LinearGate()
    with pytest.raises(UnsupportedArchitectureError, match=r"at 'mlp\.gate' are LinearGate, not OlmoeTopKRouter"):
        find_routers(model.model, architecture_for("olmoe"))


@pytest.mark.parametrize(
    ("model_type", "key", "value", "expected"),
    [
        ("cohere2_moe", "expert_selection_fn", "softmax", "topk_softmax"),
        ("cohere2_moe", "expert_selection_fn", "sigmoid", "sigmoid"),
        ("deepseek_v4", "scoring_func", "sqrtsoftplus", "sqrtsoftplus"),
        ("deepseek_v4", "scoring_func", "sigmoid", "sigmoid"),
    ],
)
def test_a_configuration_may_choose_the_scoring_function(model_type: str, key: str, value: str, expected: str) -> None:
    config = tiny_config(model_type)
    setattr(config, key, value)
    assert scoring_func_of(config, architecture_for(model_type)) == expected


def test_a_scoring_function_that_is_not_known_is_an_error() -> None:
    config = tiny_config("deepseek_v4")
    config.scoring_func = "tanh"
    with pytest.raises(UnsupportedArchitectureError, match=r"scoring_func = 'tanh'.*Known: 'sigmoid', 'softmax'"):
        scoring_func_of(config, architecture_for("deepseek_v4"))


def test_the_head_is_not_run_and_the_decoder_is_found_inside_it() -> None:
    assert backend_for("olmoe").text_model is tiny_model("olmoe").model
