"""The hooks of one forward pass: what leaves them, what they refuse, and that they always go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from moee.backends.forward.capture import capture
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.errors import InputError, NonFiniteActivationsError, OutOfMemoryError, UnsupportedArchitectureError
from moee.method.pooling import TokenLayout
from moee.method.routing import softmax
from moee.types import Activations, CapturePlan
from tests.architectures.tiny import SEQUENCES, backend_for, build, tiny_config, tracing

TOLERANCE = 1e-5


def _own_backend(model_type: str = "olmoe", **changes: Any) -> HuggingFaceBackend:
    """Open a model that no other test shares, so that a test may damage it."""
    from moee.architectures import architecture_for

    config = tiny_config(model_type)
    for key, value in changes.items():
        setattr(config, key, value)
    return HuggingFaceBackend(
        build(config).float(),
        None,  # type: ignore[arg-type]  # token ids are given
        name=model_type,
        fingerprint="test",
        architecture=architecture_for(model_type),
    )


def _weights(length: int, pooling: str) -> np.ndarray[Any, Any]:
    counts = np.arange(1, length + 1) if pooling == "weighted_mean" else np.ones(length)
    return counts / counts.sum()


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_pooled_routing_averages_weights_of_real_tokens(pooling: Any, side: Any) -> None:
    backend, plan = backend_for("olmoe", padding_side=side), CapturePlan(routing_pooling=pooling)
    ours = backend.forward(SEQUENCES, plan)
    assert ours.is_scored
    for number, sequence in enumerate(SEQUENCES):
        with tracing(backend) as traces:
            backend.forward([sequence], plan)
        share = _weights(len(sequence), pooling)
        expected = np.concatenate([share @ softmax(trace.logits) for trace in traces.values()])
        np.testing.assert_allclose(ours.routing[number], expected, atol=TOLERANCE)


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_pooled_hidden_states_average_real_tokens(pooling: Any, side: Any) -> None:
    backend = backend_for("olmoe", padding_side=side)
    ours = backend.forward(SEQUENCES, CapturePlan(hidden_pooling=pooling))
    for number, sequence in enumerate(SEQUENCES):
        with torch.inference_mode():
            states = backend.text_model(torch.tensor([sequence])).last_hidden_state[0].numpy()
        expected = _weights(len(sequence), pooling) @ states
        np.testing.assert_allclose(ours.hidden_states[number], expected, atol=TOLERANCE)


def _hidden(layers: Any) -> Activations:
    return backend_for("laguna").forward(SEQUENCES, CapturePlan(hidden_layers=layers))


def test_hidden_layers_are_the_outputs_of_decoder_layers() -> None:
    backend = backend_for("laguna")
    with torch.inference_mode():
        output = backend.text_model(torch.tensor([SEQUENCES[2]]), output_hidden_states=True)
    for layer_id in (0, 1):
        # upstream's entry 0 is the embedding
        expected = output.hidden_states[layer_id + 1][0, -1]
        np.testing.assert_allclose(_hidden((layer_id,)).hidden_states[2], expected, atol=TOLERANCE)


def test_the_last_hidden_layer_is_after_the_final_norm_however_it_is_named() -> None:
    last = _hidden("last").hidden_states
    for layers in ((2,), (-1,)):
        np.testing.assert_array_equal(_hidden(layers).hidden_states, last)


def test_several_hidden_layers_are_averaged() -> None:
    parts = [_hidden((layer_id,)).hidden_states for layer_id in range(3)]
    np.testing.assert_allclose(_hidden("all").hidden_states, np.mean(parts, axis=0), atol=TOLERANCE)
    np.testing.assert_allclose(_hidden((0, -1)).hidden_states, np.mean([parts[0], parts[2]], axis=0), atol=TOLERANCE)


def test_chosen_routing_layers_are_blocks_of_the_whole() -> None:
    backend = backend_for("laguna")  # routers in layers 1 and 2, 16 experts in all
    whole = backend.forward(SEQUENCES, CapturePlan())
    split = whole.num_experts[0]
    first = backend.forward(SEQUENCES, CapturePlan(routing_layers=(1,)))
    last = backend.forward(SEQUENCES, CapturePlan(routing_layers="last"))
    negative = backend.forward(SEQUENCES, CapturePlan(routing_layers=(-1,)))
    assert (first.layer_ids, last.layer_ids, negative.layer_ids) == ((1,), (2,), (2,))
    np.testing.assert_array_equal(first.routing, whole.routing[:, :split])
    np.testing.assert_array_equal(last.routing, whole.routing[:, split:])
    np.testing.assert_array_equal(negative.routing, last.routing)


def test_layers_that_cannot_be_read_are_named() -> None:
    backend = backend_for("laguna")
    with pytest.raises(InputError, match=r"routing_layers \[0\] have no router\. Layers with routers: \[1, 2\]"):
        backend.forward(SEQUENCES, CapturePlan(routing_layers=(0,)))
    with pytest.raises(InputError, match="Layer 3 does not exist: the model has 3 layers"):
        backend.forward(SEQUENCES, CapturePlan(hidden_layers=(3,)))


def test_a_layer_without_one_state_per_token_cannot_be_pooled() -> None:
    # DeepSeek-V4 runs several residual streams between its layers
    with pytest.raises(UnsupportedArchitectureError, match="Layer 0 does not return one state per token"):
        backend_for("deepseek_v4").forward(SEQUENCES, CapturePlan(hidden_layers=(0,)))


@pytest.mark.parametrize("pooling", ["last_token", "mean"])
def test_a_value_that_is_not_finite_names_its_text(pooling: Any) -> None:
    backend = _own_backend()
    with torch.no_grad():
        backend.text_model.embed_tokens.weight[SEQUENCES[3][-1]] = torch.nan
    assert all(SEQUENCES[3][-1] not in sequence for sequence in SEQUENCES[:3])
    with pytest.raises(NonFiniteActivationsError, match="router logits of layer 0 is NaN") as caught:
        backend.forward(SEQUENCES, CapturePlan(hidden_pooling=pooling, routing_pooling=pooling))
    assert caught.value.row == 3


class _Gate(nn.Module):
    """Returns whatever it is told to."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, _states: torch.Tensor) -> Any:
        return self.output


def _capture_from(output: Any, *, element: int | None = 0, calls: int = 1) -> dict[str, Any]:
    from moee.backends.forward.routers import RouterSite
    from moee.backends.forward.twin import Twin

    gate = _Gate(output)
    site = RouterSite(0, "layers.0.gate", gate, element, "logits", 2)
    layout = TokenLayout.padded(torch.tensor([3, 2]), 3, "right")
    try:
        twin = Twin(gate)
        with capture(twin, [site], [], layout, CapturePlan(), scoring_func="softmax") as captured:
            for _ in range(calls):
                twin.root(torch.zeros(6, 4))
        return captured.routing
    finally:
        assert not gate._forward_hooks
        assert not twin.root._forward_hooks


def test_only_the_row_of_each_last_token_is_kept() -> None:
    logits = torch.arange(24.0).reshape(6, 4)
    routing = _capture_from((logits, torch.zeros(6, 2)))["layers.0.gate"]
    np.testing.assert_array_equal(routing, logits[[2, 4]])
    assert routing.dtype == np.float32


def test_half_precision_logits_leave_in_float32() -> None:
    routing = _capture_from(torch.ones(6, 4, dtype=torch.bfloat16), element=None)["layers.0.gate"]
    assert routing.dtype == np.float32


@pytest.mark.parametrize("output", [(torch.zeros(6, 4, dtype=torch.int64),), (None,)])
def test_an_output_that_is_not_logits_is_refused(output: Any) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"'layers\.0\.gate' returned .* where its logits"):
        _capture_from(output)


def test_a_router_that_does_not_see_every_token_is_refused() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="returned 5 rows for 2 x 3 tokens"):
        _capture_from((torch.zeros(5, 4),))


def test_a_router_that_runs_twice_is_refused() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="ran twice in one forward pass"):
        _capture_from((torch.zeros(6, 4),), calls=2)


def test_no_cache_is_kept_and_no_head_is_run() -> None:
    backend = backend_for("olmoe")
    seen: list[Any] = []
    handle = backend.text_model.register_forward_hook(lambda _module, _args, output: seen.append(output))
    try:
        backend.forward(SEQUENCES, CapturePlan())
    finally:
        handle.remove()
    assert seen[0].past_key_values is None
    assert seen[0].last_hidden_state.shape == (1, len(SEQUENCES), 32)  # last tokens, side by side


def test_a_bidirectional_configuration_of_a_causal_architecture_is_masked() -> None:
    # Gemma 4 may be configured so; without the mask a text would see the filler after it
    config = tiny_config("gemma4_text")
    values = config.to_dict() | {"use_bidirectional_attention": "all", "sliding_window": 6}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(type(config).from_dict(values)).float()
    from moee.architectures import architecture_for

    backend = HuggingFaceBackend(
        model,
        None,  # type: ignore[arg-type]
        name="gemma4",
        fingerprint="test",
        architecture=architecture_for("gemma4_text"),
    )
    together = backend.forward(SEQUENCES, CapturePlan(hidden_pooling="mean", routing_pooling="mean"))
    for number, sequence in enumerate(SEQUENCES):
        alone = backend.forward([sequence], CapturePlan(hidden_pooling="mean", routing_pooling="mean"))
        np.testing.assert_allclose(together.routing[number], alone.routing[0], atol=TOLERANCE)
        np.testing.assert_allclose(together.hidden_states[number], alone.hidden_states[0], atol=TOLERANCE)


def test_memory_that_runs_out_names_what_helps() -> None:
    backend = backend_for("olmoe")

    def exhaust(*_: Any) -> None:
        torch.empty(1 << 45)  # 128 TiB: torch's own error

    handle = backend.sites[0].module.register_forward_pre_hook(exhaust)
    try:
        with pytest.raises(OutOfMemoryError, match=r"batch of 27 tokens.*--batch-tokens.*--memory.*--precision int8"):
            backend.forward(SEQUENCES, CapturePlan())
    finally:
        handle.remove()
