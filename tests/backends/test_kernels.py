"""Our expert kernels: the same sum as transformers' loop, chosen by what a layer is, seen by a twin alone."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch

from moee.backends.forward.huggingface import text_model_of
from moee.backends.forward.twin import Twin
from moee.backends.kernels.by_expert import by_expert
from moee.backends.kernels.masked_dense import masked_dense_experts
from moee.backends.kernels.row_counts import few_shapes
from moee.backends.kernels.select import KERNEL, choose, describe_kernel, experts_kernel, experts_of
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
def _states(model: Any) -> torch.Tensor:
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
    assert {choose(each, top_k) for each in experts_of(model)} == {"masked dense"}
    twin = Twin(model)
    assert experts_kernel(twin.root) == KERNEL
    ours = _states(twin.root)
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


@pytest.mark.parametrize("model_type", ["olmoe", "gpt_oss", "mixtral"])
def test_experts_that_are_given_more_rows_add_only_their_own(model_type: str) -> None:
    model = _model(model_type).bfloat16()
    experts: Any = experts_of(model)[0]
    generator = torch.Generator().manual_seed(0)
    number = experts.down_proj.shape[0]
    states = torch.randn(70, model.config.hidden_size, generator=generator).bfloat16()
    index = torch.stack([torch.randperm(number, generator=generator)[:2] for _ in range(70)])
    index[:40, 0] = number - 1  # the last expert has most: its filler lies beyond the last pair
    index[:40, 1] = 0
    weights = torch.rand(70, 2, generator=generator)
    with torch.inference_mode():
        found = by_expert(experts, states, index, weights)
        expected = by_expert(_float(experts), states.float(), index, weights)
    # bfloat16 rounds two products and the gate
    torch.testing.assert_close(found.float(), expected, atol=3e-2 * float(expected.abs().max()), rtol=0)


def _float(experts: Any) -> Any:
    return copy.deepcopy(experts).float()


def test_few_numbers_of_rows_occur() -> None:
    assert [few_shapes(count) for count in range(17)] == list(range(17))
    used = {few_shapes(count) for count in range(17, 4097)}
    assert len(used) < 110
    assert all(count <= few_shapes(count) < count + max(16, count / 8) for count in range(17, 4097))
    assert {size % 16 for size in used} == {0}


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
def test_the_models_own_implementation_stays_while_a_twin_uses_ours(implementation: str) -> None:
    model = _model("olmoe", num_experts_per_tok=6)
    model.config._experts_implementation = implementation
    twin = Twin(model)
    experts_kernel(twin.root)
    assert twin.root.config._experts_implementation == KERNEL
    assert model.config._experts_implementation == implementation
    assert {each.config._experts_implementation for each in experts_of(model)} == {implementation}


@pytest.mark.parametrize(
    "model_type",
    [
        "olmoe",
        "qwen2_moe",
        "deepseek_v3",
        "gpt_oss",  # biases, transposed weights, and gate and up in turns
        "nemotron_h",  # no gate
        "mixtral",
        "deepseek_v4",
    ],
)
def test_expert_after_expert_equals_the_loop(model_type: str) -> None:
    model = _model(model_type)
    chosen = {choose(each, model.config.num_experts_per_tok) for each in experts_of(model)}
    assert chosen == {"by expert"}
    expected = _states(model)
    twin = Twin(model)
    assert experts_kernel(twin.root) == KERNEL
    ours = _states(twin.root)
    torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert expected.std() > 0.1


def test_weights_of_another_dtype_are_cast_one_expert_at_a_time() -> None:
    model = _model("olmoe")
    experts: Any = model.layers[0].mlp.experts
    states, index = torch.randn(5, 32), torch.tensor([[1, 2], [0, 5], [7, 7], [3, 1], [2, 0]])
    weights = torch.rand(5, 2)
    with torch.inference_mode():
        experts.to(torch.bfloat16)
        ours = by_expert(experts, states, index, weights)
        experts.float()  # holds the rounded values
        expected = by_expert(experts, states, index, weights)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, atol=0, rtol=0)


def test_a_tokens_sum_does_not_depend_on_its_neighbours() -> None:
    model = _model("olmoe")
    experts: Any = model.layers[0].mlp.experts
    states, index, weights = torch.randn(40, 32), torch.rand(40, 8).topk(2).indices, torch.rand(40, 2)
    with torch.inference_mode():
        together = by_expert(experts, states, index, weights)
        alone = torch.cat([by_expert(experts, states[[i]], index[[i]], weights[[i]]) for i in range(40)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)  # float32, products of other shapes


def test_experts_that_cannot_be_switched_keep_their_own() -> None:
    model = _model("llama4_text", num_experts_per_tok=6)
    assert experts_kernel(Twin(model).root) == "eager"
    assert describe_kernel(model, 6) == "transformers' eager"


def test_tokens_taken_in_turn_give_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("olmoe", num_experts_per_tok=4)
    twin = Twin(model)
    assert experts_kernel(twin.root) == KERNEL
    whole = _states(twin.root)
    monkeypatch.setattr("moee.backends.kernels.masked_dense._MAX_ELEMENTS", 3 * 2 * 16 * 8)  # three tokens at a time
    torch.testing.assert_close(_states(twin.root), whole, atol=TOLERANCE, rtol=TOLERANCE)
