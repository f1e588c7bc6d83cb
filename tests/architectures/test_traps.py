"""Where a capture that knows only one architecture goes wrong in silence on another, one test for each.

The finder for unknown models is tested in tests/backends/test_routers.py, what leaves the hooks in test_capture.py.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import CONFIG_MAPPING, MODEL_MAPPING

from moee.architectures import all_architectures, architecture_for
from moee.backends.checkpoint.headers import TensorEntry
from moee.backends.checkpoint.support import check_supported
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.backends.forward.routers import submodule
from moee.backends.forward.twin import Twin
from moee.backends.kernels.select import experts_kernel
from moee.backends.summary import routers_in_headers
from moee.errors import UnsupportedArchitectureError
from moee.method.routing import native_scores, softmax
from moee.types import CapturePlan
from tests.architectures.tiny import (
    SEQUENCES,
    SUPPORTED,
    VOCAB,
    Trace,
    backend_for,
    build,
    tiny_config,
    tiny_model,
    tracing,
)

LONGEST = max(SEQUENCES, key=len)
TOLERANCE = 1e-5


def _trace(model_type: str) -> dict[str, Trace]:
    backend = backend_for(model_type)
    with tracing(backend) as traces:
        backend.forward([LONGEST], CapturePlan())
    return traces


def _recorded(model_type: str, **options: Any) -> tuple[torch.Tensor, ...]:
    """Return what the model itself records as router logits for the longest text."""
    with torch.inference_mode():
        output = backend_for(model_type).text_model(
            torch.tensor([LONGEST]), output_router_logits=True, use_cache=False, **options
        )
    return output.router_logits  # type: ignore[no-any-return]


def _router_inputs(model_type: str) -> list[torch.Tensor]:
    """Return what every router was given for the longest text: `(tokens, hidden_size)`, or its last token alone."""
    backend, inputs = backend_for(model_type), []
    handles = [
        site.module.register_forward_pre_hook(lambda _module, args: inputs.append(args[0].clone()))
        for site in backend.sites
    ]
    try:
        backend.forward([LONGEST], CapturePlan())
    finally:
        for handle in handles:
            handle.remove()
    return [states.reshape(-1, states.shape[-1]) for states in inputs]


# --- probabilities recorded under the name of logits ---------------------------------------------------------------


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_the_rows_that_read_probabilities_are_those_whose_routers_return_them(model_type: str) -> None:
    for trace in _trace(model_type).values():
        is_distribution = bool((trace.logits >= 0).all()) and np.allclose(trace.logits.sum(axis=1), 1, atol=1e-4)
        assert is_distribution == (architecture_for(model_type).reads == "probabilities")


@pytest.mark.parametrize("model_type", ["gemma4_text", "diffusion_gemma_text"])
def test_probabilities_are_not_put_through_a_second_softmax(model_type: str) -> None:
    ours = backend_for(model_type).forward([LONGEST], CapturePlan())
    for block, recorded in zip(np.split(ours.routing[0], 2), _recorded(model_type), strict=True):
        probabilities = recorded.reshape(len(LONGEST), -1)[-1].numpy()
        np.testing.assert_allclose(softmax(block), probabilities, atol=TOLERANCE)
        assert np.abs(softmax(probabilities) - probabilities).max() > 0.05


# --- more routers than layers --------------------------------------------------------------------------------------


def test_jetmoe_reads_its_feed_forward_routers_only_unless_asked() -> None:
    recorded = [entry.reshape(len(LONGEST), -1)[-1] for entry in _recorded("jetmoe")]
    attention, again, feed_forward = recorded[0::3], recorded[1::3], recorded[2::3]
    for first, second in zip(attention, again, strict=True):
        torch.testing.assert_close(first, second, atol=0, rtol=0)  # upstream records one of them twice
    default = backend_for("jetmoe").forward([LONGEST], CapturePlan())
    assert default.layer_ids == (0, 1)
    np.testing.assert_allclose(default.routing[0], torch.cat(feed_forward), atol=TOLERANCE)
    both = backend_for("jetmoe", include_attention_routers=True).forward([LONGEST], CapturePlan())
    assert both.layer_ids == (0, 0, 1, 1)
    in_order = torch.cat([attention[0], feed_forward[0], attention[1], feed_forward[1]])
    np.testing.assert_allclose(both.routing[0], in_order, atol=TOLERANCE)


def test_asking_for_attention_routers_changes_nothing_where_there_are_none() -> None:
    assert backend_for("olmoe", include_attention_routers=True).info == backend_for("olmoe").info


# --- odd places and odd elements -----------------------------------------------------------------------------------


def test_dbrx_returns_a_bare_tensor_and_counts_experts_in_a_sub_configuration() -> None:
    backend = backend_for("dbrx")
    assert not hasattr(backend.text_model.config, "num_experts_per_tok")
    assert [site.path for site in backend.sites] == ["blocks.0.ffn.router", "blocks.1.ffn.router"]
    assert backend.info.top_k == (2, 2)
    with torch.inference_mode():
        output = backend.sites[0].module(torch.zeros(1, 1, 32))
    assert isinstance(output, torch.Tensor)


def test_llama4_is_read_at_its_logits_and_not_at_its_scores() -> None:
    backend = backend_for("llama4_text")
    states = _router_inputs("llama4_text")[0]
    with torch.inference_mode():
        scores, logits = backend.sites[0].module(states)
    assert ((scores == 0).sum(dim=1) == 7).all()
    ours = backend.forward([LONGEST], CapturePlan()).routing[0, :8]
    np.testing.assert_allclose(ours, logits[-1], atol=TOLERANCE)


def test_ernie_vl_is_read_at_its_text_router_and_never_at_the_one_for_images() -> None:
    backend = backend_for("ernie4_5_vl_moe_text")
    ran: list[str] = []
    blocks = [layer.mlp for layer in backend.text_model.layers if hasattr(layer.mlp, "vision_moe")]
    handles = [block.vision_moe.gate.register_forward_hook(lambda *_: ran.append("vision")) for block in blocks]
    try:
        ours = backend.forward([LONGEST], CapturePlan())
    finally:
        for handle in handles:
            handle.remove()
    assert len(blocks) == 2
    assert not ran
    # upstream records the second element of the whole block
    expected = np.concatenate([entry.reshape(len(LONGEST), -1)[-1] for entry in _recorded("ernie4_5_vl_moe_text")])
    np.testing.assert_allclose(ours.routing[0], expected, atol=TOLERANCE)


# --- width is not the number of experts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "experts_key", "experts", "width"),
    [
        ("longcat_flash", "n_routed_experts", 8, 12),  # and four that do nothing
        ("zaya", "num_experts", 8, 9),  # and the choice to skip them
    ],
)
def test_the_recorded_width_counts_not_the_configured_one(
    model_type: str, experts_key: str, experts: int, width: int
) -> None:
    backend = backend_for(model_type)
    assert getattr(backend.text_model.config, experts_key) == experts
    assert backend.info.num_experts == (width, width)
    assert backend.forward(SEQUENCES, CapturePlan()).routing.shape == (len(SEQUENCES), 2 * width)


def test_inkling_shared_experts_are_not_routing_weights() -> None:
    backend = backend_for("inkling_text")
    assert backend.sites[0].module.weight.shape[0] == 10
    assert backend.info.num_experts == (8, 8)


@pytest.mark.parametrize(
    ("model_type", "shapes"),
    [
        ("inkling_text", {"mlp.gate.weight": (10, 32), "mlp.gate.bias": (8,)}),
        (
            "ernie4_5_vl_moe_text",  # the matrix is stored transposed, the bias with a row for each modality
            {"mlp.gate.weight": (32, 8), "mlp.moe_statics.e_score_correction_bias": (2, 8)},
        ),
        ("deepseek_v4", {"ffn.gate.weight": (8, 32), "ffn.gate.bias": (8,)}),
    ],
)
def test_published_files_tell_the_width_where_the_routers_matrix_does_not(
    model_type: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    entries = [
        TensorEntry(f"model.layers.1.{name}", "F32", shape, Path("model.safetensors"), 0, 0)
        for name, shape in shapes.items()
    ]
    # a layer that goes by token id has the matrix, and nothing else of a router
    entries.append(TensorEntry("model.layers.0.ffn.gate.weight", "F32", (8, 32), Path("model.safetensors"), 0, 0))
    assert routers_in_headers(entries, architecture_for(model_type)) == {1: 8}


# --- the number of routers is not the number of layers -------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "layers", "with_router"),
    [
        ("laguna", 3, (1, 2)),  # the first layer is dense
        ("qwen2_moe", None, None),
        ("jamba", 4, (1, 3)),  # every other layer is dense, and counts one expert
        ("nemotron_h", 4, (1, 3)),  # a layer is a mixer of one kind only
        ("deepseek_v4", 3, (1, 2)),  # the first layer goes by token id
        ("longcat_flash", 2, (0, 1)),  # two attention blocks in each layer
    ],
)
def test_layer_ids_are_those_of_the_layers(
    model_type: str, layers: int | None, with_router: tuple[int, ...] | None
) -> None:
    info = backend_for(model_type).info
    row = architecture_for(model_type)
    assert info.layer_ids == (with_router if with_router is not None else row.tiny_layers)
    assert info.num_layers == (layers if layers is not None else info.num_layers)
    assert len(info.layer_ids) == len(info.num_experts) == len(info.top_k)


def test_longcat_counts_twice_as_many_layers_as_it_has_routers() -> None:
    config: Any = backend_for("longcat_flash").text_model.config
    assert config.num_hidden_layers == 4
    assert backend_for("longcat_flash").info.num_layers == 2


def test_layers_that_choose_by_token_id_are_not_read() -> None:
    backend = backend_for("deepseek_v4")
    router = submodule(backend.text_model.layers[0], "mlp.gate")
    assert type(router).__name__ == "DeepseekV4HashRouter"
    assert router not in [site.module for site in backend.sites]


# --- routers that want more than hidden states ---------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["afmoe", "lfm2_moe", "minimax_m2", "hy_v3", "zaya"])
def test_routers_with_further_arguments_are_read_from_their_output(model_type: str) -> None:
    backend = backend_for(model_type)
    arguments = inspect.signature(type(backend.sites[0].module).forward).parameters
    assert len(arguments) > 2, "the premise: more than self and the hidden states"
    assert np.isfinite(backend.forward(SEQUENCES, CapturePlan()).routing).all()


# --- lists instead of numbers --------------------------------------------------------------------------------------


def test_experts_per_token_may_differ_between_layers() -> None:
    backend = backend_for("hunyuan_v1_moe")
    assert backend.text_model.config.moe_topk == [2, 3, 1]
    assert backend.info.top_k == (2, 3, 1)
    used = [trace.experts for trace in _trace("hunyuan_v1_moe").values()]
    assert [experts.shape[1] for experts in used if experts is not None] == [2, 3, 1]


# --- sigmoid routers and load balancing ----------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["deepseek_v3", "minimax_m2", "afmoe", "laguna", "lfm2_moe", "ernie4_5_moe"])
def test_the_correction_bias_steers_the_choice_and_enters_no_weight(model_type: str) -> None:
    backend, row = backend_for(model_type), architecture_for(model_type)
    first = backend.info.layer_ids[0]
    width = backend.info.num_experts[0]
    assert row.bias is not None
    bias: Any = submodule(backend.text_model.layers[first], row.bias)
    before, used = backend.forward([LONGEST], CapturePlan()), next(iter(_trace(model_type).values())).experts
    kept = bias.clone()
    try:
        with torch.no_grad():
            bias.copy_(torch.linspace(5, -5, width).reshape(bias.shape))
        after, other = backend.forward([LONGEST], CapturePlan()), next(iter(_trace(model_type).values())).experts
    finally:
        with torch.no_grad():
            bias.copy_(kept)
    np.testing.assert_array_equal(after.routing[:, :width], before.routing[:, :width])
    assert not np.array_equal(used, other)


def test_a_softmax_over_logits_serves_sigmoid_routers_too() -> None:
    logits = backend_for("deepseek_v3").forward(SEQUENCES, CapturePlan()).routing[:, :8]
    np.testing.assert_allclose(softmax(logits).sum(axis=1), 1, atol=TOLERANCE)
    native = native_scores(logits, "sigmoid", 2)
    np.testing.assert_allclose(native, 1 / (1 + np.exp(-logits)), atol=TOLERANCE)
    assert np.abs(native.sum(axis=1) - 1).min() > 0.1


# --- a router with a bias of its own -------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["gpt_oss", "openai_privacy_filter"])
def test_a_routers_own_bias_is_part_of_its_logits(model_type: str) -> None:
    backend = backend_for(model_type)
    router: Any = backend.sites[0].module
    assert router.bias.abs().max() > 0.1
    states = _router_inputs(model_type)[0]
    ours = backend.forward([LONGEST], CapturePlan()).routing[0, :8]
    with torch.inference_mode():
        np.testing.assert_allclose(ours, functional.linear(states[-1], router.weight, router.bias), atol=TOLERANCE)


# --- how experts are computed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
def test_the_experts_implementation_does_not_change_what_is_recorded(implementation: str) -> None:
    backend = backend_for("olmoe")
    config: Any = backend.text_model.config
    expected = backend.forward(SEQUENCES, CapturePlan())
    before = config._experts_implementation
    try:
        config._experts_implementation = implementation
        ours = backend.forward(SEQUENCES, CapturePlan())
    finally:
        config._experts_implementation = before
    np.testing.assert_allclose(ours.routing, expected.routing, atol=TOLERANCE)


@pytest.mark.parametrize("model_type", ["llama4_text", "dbrx", "jetmoe", "longcat_flash", "step3p5"])
def test_experts_that_cannot_be_switched_are_left_alone(model_type: str) -> None:
    backend = backend_for(model_type)
    before = str(backend.text_model.config._experts_implementation)
    assert experts_kernel(Twin(backend.text_model).root) == before
    assert np.isfinite(backend.forward(SEQUENCES, CapturePlan()).routing).all()


# --- no row --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model_type", ["olmoe", "qwen2_moe", "mixtral", "gpt_oss", "llama4_text", "phimoe", "glm4_moe"]
)
def test_a_known_model_is_read_the_same_without_its_row(model_type: str) -> None:
    with_row = backend_for(model_type)
    without = HuggingFaceBackend(
        tiny_model(model_type),
        None,  # type: ignore[arg-type]  # token ids are given
        name=model_type,
        fingerprint="tiny",
        architecture=None,
    )
    assert without.info.layer_ids == with_row.info.layer_ids
    assert without.info.top_k == with_row.info.top_k
    ours, theirs = without.forward(SEQUENCES, CapturePlan()), with_row.forward(SEQUENCES, CapturePlan())
    np.testing.assert_allclose(ours.routing, theirs.routing, atol=TOLERANCE)


def test_logits_that_are_capped_are_not_guessed_at() -> None:
    model: Any = tiny_model("laguna")
    with pytest.raises(UnsupportedArchitectureError, match="nothing it returns is its input times its weight"):
        HuggingFaceBackend(model, None, name="laguna", fingerprint="t", architecture=None)  # type: ignore[arg-type]


# --- models whose routing depends on other texts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("nllb-moe", "nllb-moe.* is not supported: it is an encoder-decoder"),
        ("switch_transformers", "switch_transformers.* is not supported: it is an encoder-decoder"),
        ("doge", "doge.* is not supported: its experts are chosen from router scores that are mixed"),
    ],
)
def test_a_model_that_cannot_serve_is_refused_with_the_reason(model_type: str, reason: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=reason):
        check_supported({"model_type": model_type, "num_experts": 8}, "folder")


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("switch_transformers", {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 4}),
        ("nllb-moe", {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32}),
    ],
)
def test_an_encoder_decoder_in_memory_is_refused(model_type: str, sizes: dict[str, int]) -> None:
    config = CONFIG_MAPPING[model_type](vocab_size=VOCAB, num_experts=4, **sizes)
    with torch.device("meta"):
        model = MODEL_MAPPING[type(config)](config)
    with pytest.raises(UnsupportedArchitectureError, match="is an encoder-decoder model"):
        HuggingFaceBackend(model, None, name=model_type, fingerprint="t", architecture=None)  # type: ignore[arg-type]


def test_doge_still_mixes_its_router_scores_across_texts() -> None:
    """The reason that its row gives. If this fails, upstream has mended it and the row can be supported."""
    config = CONFIG_MAPPING["doge"](
        vocab_size=VOCAB, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
        is_moe=True, num_experts=16, num_experts_per_tok=2, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = build(config).float().eval()
    first, second = list(SEQUENCES[0]), list(SEQUENCES[0])[::-1]
    with torch.inference_mode():
        alone = model(torch.tensor([first])).logits[0]
        beside = model(torch.tensor([first, second])).logits[0]
    assert (alone - beside).abs().max() > 1e-3


def test_every_row_without_left_padding_says_why() -> None:
    rows = [row for row in all_architectures() if not row.left_padding]
    assert all("left" in row.notes for row in rows)
    assert len(rows) <= 3, "each of them is a limit of upstream; a new one wants a second look"


def test_a_tiny_configuration_names_no_special_token_outside_its_vocabulary() -> None:
    for model_type in SUPPORTED:
        config = tiny_config(model_type)
        tokens = [getattr(config, key, None) for key in ("pad_token_id", "bos_token_id", "eos_token_id")]
        assert all(token is None or token < VOCAB for token in tokens), model_type
