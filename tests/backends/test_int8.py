"""Models in 8 bits: near to full precision, each token for itself, and routers left alone."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from moee import EmbedderConfig, MoEE
from moee.architectures import architecture_for
from moee.backends.checkpoint.support import LoadOptions
from moee.backends.forward.huggingface import HuggingFaceBackend, text_model_of
from moee.backends.forward.routers import find_routers
from moee.backends.from_disk.layer_store import LayerStore
from moee.backends.int8 import (
    INT8_KERNEL,
    Int8Linear,
    convert,
    is_available,
    modules,
    product,
    quantize,
)
from moee.backends.open import open_backend
from moee.data import calibration_texts
from moee.errors import InputError, UnsupportedArchitectureError
from moee.types import CapturePlan
from tests.architectures.tiny import SEQUENCES, SUPPORTED, tiny_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

pytestmark = pytest.mark.skipif(is_available() is not None, reason=str(is_available()))

GOLDEN = Path(__file__).parents[1] / "golden" / "olmoe-tiny"
TOKENS = torch.tensor([max(SEQUENCES, key=len)])
LAYOUTS = (
    "olmoe",
    "qwen2_moe",
    "mixtral",
    "deepseek_v3",
    "deepseek_v4",  # a gate of its own
    "aria_text",  # transposed
    "gpt_oss",  # transposed, interleaved, with biases
    "nemotron_h",  # without gates
    "muse_spark_text",  # with a norm after every expert
)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.detach(), expected.detach()
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- linear layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_is_near_to_full_precision(dtype: torch.dtype, bias: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = nn.Linear(192, 300, bias=bias).to(dtype)
    states = normal(2, 9, 192).to(dtype)
    found = Int8Linear(linear)(states)
    assert found.dtype == dtype
    assert found.shape == (2, 9, 300)
    expected = nn.functional.linear(states.float(), linear.weight.float(), linear.bias.float() if bias else None)
    # 8 bits on either side leave about 0.8 % each on such data, a bounded weight up to 1.1 %, bfloat16 0.2 %
    assert 0 < relative_error(found, expected) < 0.016


def test_one_large_channel_does_not_drown_the_others() -> None:
    states, weight = normal(50, 256), normal(64, 256, seed=1)
    states[:, 17] *= 100
    weight[:, 17] *= 0.01
    packed = product.PackedMatrix(weight)
    rotated = relative_error(packed.multiply(*product.quantize_rows(states)), states @ weight.T)
    largest = states.abs().amax(dim=1, keepdim=True) / 127
    plain = relative_error((states / largest).round() * largest @ weight.T, states @ weight.T)
    assert rotated < 0.1
    assert plain > 0.15  # what the same 8 bits of activations cost without rotation, weights left exact


def test_a_token_does_not_depend_on_its_batch() -> None:
    layer = Int8Linear(nn.Linear(72, 40))
    states = normal(130, 72)
    together = layer(states)
    for rows in (slice(0, 1), slice(5, 8), slice(20, 129), slice(129, 130)):
        assert torch.equal(layer(states[rows]), together[rows])
    assert torch.equal(layer(states.view(2, 65, 72)).view(130, 40), together)
    assert layer(states[:0]).shape == (0, 40)


def test_layers_work_with_and_without_gradient_modes() -> None:
    layer = Int8Linear(nn.Linear(64, 32))
    states = normal(3, 64).requires_grad_()
    plain = layer(states)
    with torch.inference_mode():
        assert torch.equal(layer(states), plain)


# --- experts -------------------------------------------------------------------------------------------------------


def experts_of(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "is_concatenated")]


def exact_and_int8(model_type: str, top_k: int | None = None) -> tuple[Any, Any]:
    """Return the experts of one layer as transformers computes them, and the same in 8 bits."""
    exact = copy.deepcopy(experts_of(tiny_model(model_type))[-1])
    exact.config._experts_implementation = "eager"
    if top_k is not None:
        exact.config.num_experts_per_tok = top_k
    ours = copy.deepcopy(exact)
    holder = nn.ModuleList([ours])
    assert quantize(holder).experts == exact.down_proj.shape[0]
    return exact, ours


def routed(experts: Any, tokens: int, top_k: int, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Return states, experts and weights; no expert twice for a token."""
    count = experts.down_proj.shape[0]
    dim = experts.down_proj.shape[2 if experts.is_transposed else 1]
    scores = normal(tokens, count, seed=1).softmax(dim=-1)
    weights, index = scores.topk(top_k)
    return scale * normal(tokens, dim), index, weights


@pytest.mark.parametrize("model_type", LAYOUTS)
@torch.inference_mode()
def test_experts_of_every_layout_are_near_to_full_precision(model_type: str) -> None:
    exact, ours = exact_and_int8(model_type)
    inputs = routed(exact, 50, 2)
    found, expected = ours(*inputs), exact(*inputs)
    assert not ours.moee_int8.is_dense
    assert found.shape == expected.shape
    # two products and a gate between them; small widths round worse
    assert 0 < relative_error(found, expected) < 0.03


@pytest.mark.parametrize("model_type", ["olmoe", "qwen2_moe", "mixtral", "deepseek_v3", "deepseek_v4"])
@torch.inference_mode()
def test_many_active_experts_are_computed_in_one_product(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, ours = exact_and_int8(model_type, top_k=6)
    assert ours.moee_int8.is_dense
    inputs = routed(exact, 50, 6)
    expected = exact(*inputs)
    found = ours(*inputs)
    assert 0 < relative_error(found, expected) < 0.03
    monkeypatch.setattr(modules, "_MAX_ELEMENTS", 1)  # one token at a time
    assert torch.equal(ours(*inputs), found)


@pytest.mark.parametrize("top_k", [2, 6])
@torch.inference_mode()
def test_an_expert_that_is_chosen_twice_counts_twice(top_k: int) -> None:
    exact, ours = exact_and_int8("olmoe", top_k=top_k)
    states, _, _ = routed(exact, 3, 2)
    index, weights = torch.tensor([[1, 1], [0, 5], [7, 7]]), torch.tensor([[0.3, 0.4], [0.5, 0.2], [0.1, 0.6]])
    assert relative_error(ours(states, index, weights), exact(states, index, weights)) < 0.03


@pytest.mark.parametrize("top_k", [2, 6])
@torch.inference_mode()
def test_experts_give_a_token_the_same_in_every_batch(top_k: int) -> None:
    _, ours = exact_and_int8("olmoe", top_k=top_k)
    inputs = routed(ours, 90, top_k)
    together = ours(*inputs)
    for rows in (slice(0, 1), slice(3, 10), slice(40, 89), slice(0, 0)):
        assert torch.equal(ours(*(each[rows] for each in inputs)), together[rows])


@torch.inference_mode()
def test_experts_keep_the_dtype_of_the_states() -> None:
    _, ours = exact_and_int8("olmoe")
    states, index, weights = routed(ours, 20, 2)
    found = ours(states.bfloat16(), index, weights.bfloat16())
    assert found.dtype == torch.bfloat16
    assert relative_error(found, ours(states, index, weights)) < 0.02


# --- whole models --------------------------------------------------------------------------------------------------


def converted(model_type: str, **options: Any) -> tuple[PreTrainedModel, PreTrainedModel, convert.Int8Report]:
    exact = text_model_of(tiny_model(model_type))
    ours = copy.deepcopy(exact)
    routers = [site.module for site in find_routers(ours, architecture_for(model_type))]
    return exact, ours, quantize(ours, keep=routers, **{"smallest": 1, **options})


@torch.inference_mode()
def last_states(model: Any) -> torch.Tensor:
    states: torch.Tensor = model(input_ids=TOKENS, use_cache=False).last_hidden_state[0]
    return states


def assert_near(ours: PreTrainedModel, exact: PreTrainedModel, least: float = 0.99) -> None:
    cosines = torch.cosine_similarity(last_states(ours), last_states(exact), dim=-1)
    # the median: random routers have near ties, and a token whose experts change is another token
    assert cosines.median() > least
    assert (cosines < 0.999999).any()


@pytest.mark.parametrize("model_type", ["olmoe", "qwen2_moe", "mixtral", "deepseek_v3", "jamba"])
def test_a_converted_model_is_near_to_the_exact_one(model_type: str) -> None:
    exact, ours, report = converted(model_type)
    assert_near(ours, exact)
    assert report.experts == sum(each.down_proj.shape[0] for each in experts_of(exact))
    assert report.linears == sum(isinstance(module, Int8Linear) for module in ours.modules()) > 0
    assert set(report.kept) == {name for name, module in ours.named_modules() if type(module) is nn.Linear}
    assert report.bytes_after < 0.5 * report.bytes_before  # float32 to int8; scales weigh much in tiny matrices


@pytest.mark.slow
@pytest.mark.parametrize("model_type", SUPPORTED)
def test_every_architecture_runs_in_8_bits(model_type: str) -> None:
    exact, ours, report = converted(model_type)
    assert report.linears > 0
    # the tiny FlexOlmo, 0.96, and Qwen3-Next, 0.97, magnify any change; a product that goes wrong gives about 0
    assert_near(ours, exact, least=0.95)


@torch.inference_mode()
def test_routers_and_small_layers_are_left_alone() -> None:
    exact, ours, report = converted("qwen2_moe", smallest=20)
    assert not any(isinstance(ours.get_submodule(path), Int8Linear) for path in report.kept)
    assert any(path.endswith("shared_expert_gate") for path in report.kept)
    assert all(ours.get_submodule(path).out_features < 20 for path in report.kept)
    for one, other in zip(
        find_routers(ours, architecture_for("qwen2_moe")),
        find_routers(exact, architecture_for("qwen2_moe")),
        strict=True,
    ):
        states = normal(7, exact.config.hidden_size)
        for found, expected in zip(_tensors(one.module(states)), _tensors(other.module(states)), strict=True):
            assert torch.equal(found, expected)
    kept = nn.ModuleDict(
        {"a": nn.Linear(8, 1200), "b": nn.ModuleDict({"c": nn.Linear(8, 1200)}), "d": nn.Linear(8, 1200)}
    )
    assert set(quantize(kept, keep=[kept["a"], kept["b"]]).kept) == {"a", "b.c"}
    assert isinstance(kept["d"], Int8Linear)


def _tensors(output: Any) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else list(output)


def test_weights_are_freed_at_once() -> None:
    model = copy.deepcopy(text_model_of(tiny_model("olmoe")))
    layer: Any = model.layers[0]
    watched = [weakref.ref(each) for each in (layer.self_attn.q_proj.weight, layer.mlp.experts.gate_up_proj)]
    shape = layer.mlp.experts.down_proj.shape
    with _collector_off():
        quantize(layer, smallest=1)
        assert [each() for each in watched] == [None, None]
        assert layer.mlp.experts.down_proj.shape == shape
        # nothing of ours keeps a layer alive
        packed, experts = weakref.ref(layer.self_attn.q_proj), weakref.ref(layer.mlp.experts)
        del layer
        model.layers = nn.ModuleList()
        assert packed() is experts() is None


@contextmanager
def _collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_second_conversion_finds_nothing_to_do() -> None:
    _, ours, _ = converted("olmoe")
    before = last_states(ours)
    again = quantize(ours, keep=[], smallest=1)
    assert (again.linears, again.experts, again.bytes_before) == (0, 0, 0)
    assert torch.equal(last_states(ours), before)


def test_code_that_reads_a_converted_weight_is_told_so() -> None:
    model = nn.Sequential(nn.Linear(8, 4))
    quantize(model, smallest=1)
    weight: Any = model[0].weight
    assert (tuple(weight.shape), weight.dtype) == ((4, 8), torch.float32)
    for wrong in (lambda: nn.functional.linear(torch.ones(2, 8), weight), lambda: weight @ torch.ones(8, 2)):
        with pytest.raises(UnsupportedArchitectureError, match="precision='exact'"):
            wrong()


def test_the_kernel_is_known_to_transformers() -> None:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    converted("olmoe")
    assert ALL_EXPERTS_FUNCTIONS[INT8_KERNEL] is modules.int8_experts


def test_a_model_elsewhere_is_refused() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 1200))
    with pytest.raises(InputError, match="are on meta"):
        quantize(model)


def test_a_machine_that_cannot_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = nn.Sequential(nn.Linear(8, 1200))
    with pytest.raises(InputError, match=r"no oneDNN.*precision='exact'"):
        quantize(model)
    assert type(model[0]) is nn.Linear


# --- with the rest of the package ----------------------------------------------------------------------------------


def backend_of(model: PreTrainedModel, model_type: str = "olmoe") -> HuggingFaceBackend:
    return HuggingFaceBackend(
        model,
        None,  # type: ignore[arg-type]
        name=model_type,
        fingerprint="tiny",
        architecture=architecture_for(model_type),
    )


@pytest.mark.parametrize("top_k", [2, 6])
def test_the_backend_reads_a_converted_model(top_k: int) -> None:
    model = copy.deepcopy(text_model_of(tiny_model("olmoe")))
    model.config.num_experts_per_tok = top_k
    for layer in model.layers:
        layer.mlp.gate.top_k = top_k
    exact = backend_of(copy.deepcopy(model)).forward(SEQUENCES, CapturePlan())
    backend = backend_of(model)
    quantize(model, keep=[site.module for site in backend.sites], smallest=1)
    ours = backend.forward(SEQUENCES, CapturePlan())
    for found, expected in ((ours.hidden_states, exact.hidden_states), (ours.routing, exact.routing)):
        cosines = torch.cosine_similarity(torch.from_numpy(found), torch.from_numpy(expected), dim=-1)
        assert cosines.median() > 0.995
        assert cosines.max() < 0.999999
    # attention and norms are in float32, and a last bit may turn a rounding: one step of 1/127 in a single channel
    alone = [backend.forward([each], CapturePlan()).hidden_states[0] for each in SEQUENCES]
    torch.testing.assert_close(torch.tensor(ours.hidden_states), torch.tensor(np.stack(alone)), rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_vectors_of_the_embedded_default_stay_near_to_the_exact_ones() -> None:
    texts = calibration_texts()[::100]
    options = LoadOptions(dtype="float32", device="cpu")
    exact, ours = MoEE(open_backend("demo", options), EmbedderConfig()), open_backend("demo", options)
    assert isinstance(ours, HuggingFaceBackend)
    report = quantize(ours.text_model, keep=[site.module for site in ours.sites])
    assert report.experts == 30 * 32
    cosines = (exact.encode(texts) * MoEE(ours, EmbedderConfig()).encode(texts)).sum(axis=1)
    assert (
        cosines.min() > 0.975
    )  # 0.981 is the least of 500 sentences, see benchmarks/results/performance/precision.json
    assert 0.995 < cosines.mean() < 0.99999


def test_a_layer_that_is_read_again_is_exact_again() -> None:
    store = LayerStore.open(
        GOLDEN,
        name="here",
        dtype=torch.float32,
        device=torch.device("cpu"),
        architecture=architecture_for("olmoe"),
    )
    states = normal(1, 6, store.model.config.hidden_size)

    def run(layer: Any) -> torch.Tensor:
        with torch.inference_mode():
            out: torch.Tensor = layer.mlp(layer.self_attn.o_proj(states))
            return out

    exact = [run(layer) for _, layer in store.layers()]
    small = [run(layer) for _, layer in store.layers(prepare=lambda _, layer: quantize(layer, smallest=1))]
    again = [run(layer) for _, layer in store.layers()]
    for first, rounded, last in zip(exact, small, again, strict=True):
        assert torch.equal(first, last)
        assert 0 < relative_error(rounded, first) < 0.1


def test_a_model_whose_linear_layers_alone_are_rounded_says_so() -> None:
    exact, ours, report = converted("dbrx")
    assert report.linears
    assert not report.experts
    assert backend_of(exact, "dbrx").info.precision == "exact"
    assert backend_of(ours, "dbrx").info.precision == "int8"
