"""The masked product over all experts: the same sum as transformers' loop, only where it pays, gone afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from moee.backends.experts import KERNEL, experts_kernel, masked_dense_experts
from moee.backends.huggingface import text_model_of
from tests.architectures.tiny import SEQUENCES, build, tiny_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-5  # float32: the same sums in another order
TOKENS = torch.tensor([max(SEQUENCES, key=len)])


def _model(model_type: str, **changes: Any) -> PreTrainedModel:
    """Build a tiny text model that uses transformers' own loop over experts."""
    config = tiny_config(model_type)
    for key, value in changes.items():
        setattr(config, key, value)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = text_model_of(build(config)).float().eval()
    model.config._experts_implementation = "eager"
    return model


@torch.inference_mode()
def _states(model: PreTrainedModel) -> torch.Tensor:
    return model(input_ids=TOKENS, use_cache=False).last_hidden_state


@pytest.mark.parametrize(
    ("model_type", "top_k"),
    [
        ("olmoe", 4),
        ("qwen2_moe", 6),
        ("mixtral", 8),
        ("deepseek", 4),
        ("granitemoe", 5),
        ("deepseek_v4", 4),  # its experts have a gate of their own, and its untrained table names one expert four times
    ],
)
def test_the_masked_product_equals_the_loop_over_experts(model_type: str, top_k: int) -> None:
    model = _model(model_type, num_experts_per_tok=top_k)
    expected = _states(model)
    with experts_kernel(model) as name:
        assert name == KERNEL
        ours = _states(model)
    torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert expected.std() > 0.1


def test_an_expert_that_is_chosen_twice_counts_twice() -> None:
    model = _model("olmoe")
    experts: Any = model.layers[0].mlp.experts
    states, index = torch.randn(3, 32), torch.tensor([[1, 1], [0, 5], [7, 7]])
    weights = torch.tensor([[0.3, 0.4], [0.5, 0.2], [0.1, 0.6]])
    with torch.inference_mode():
        expected = experts(states, index, weights)
        torch.testing.assert_close(masked_dense_experts(experts, states, index, weights), expected)


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
def test_the_models_own_implementation_returns_afterwards(implementation: str) -> None:
    model = _model("olmoe", num_experts_per_tok=6)
    model.config._experts_implementation = implementation
    with experts_kernel(model):
        assert model.config._experts_implementation == KERNEL
    assert model.config._experts_implementation == implementation


def test_the_models_own_implementation_returns_after_a_failure() -> None:
    model = _model("olmoe", num_experts_per_tok=6)

    def fail(*_: Any) -> None:
        assert model.config._experts_implementation == KERNEL
        raise RuntimeError("halfway")

    model.layers[1].mlp.experts.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="halfway"), experts_kernel(model):
        _states(model)
    assert model.config._experts_implementation == "eager"


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("olmoe", {}),  # 2 of 8: skipping six experts saves more than few calls do
        ("gpt_oss", {"num_experts_per_tok": 6}),  # biases, and gate and up in turns
        ("llama4_text", {"num_experts_per_tok": 6}),  # its experts cannot be switched
    ],
)
def test_other_models_keep_their_own_experts(model_type: str, changes: dict[str, int]) -> None:
    model = _model(model_type, **changes)
    with experts_kernel(model) as name:
        assert name == "eager"
        assert model.config._experts_implementation == "eager"


def test_tokens_taken_in_turn_give_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("olmoe", num_experts_per_tok=4)
    with experts_kernel(model):
        whole = _states(model)
        monkeypatch.setattr("moee.backends.experts._MAX_ELEMENTS", 3 * 2 * 16 * 8)  # three tokens at a time
        torch.testing.assert_close(_states(model), whole, atol=TOLERANCE, rtol=TOLERANCE)
