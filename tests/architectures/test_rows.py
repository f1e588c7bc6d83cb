"""Every architecture row against the network that transformers builds from it.

On a small random model of each supported `model_type`: the routers found are the expected ones, what is captured is
what the model computed and used, a text does not depend on its batch or on padding, and nothing stays hooked.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from moee.architectures import architecture_for
from moee.errors import UnsupportedArchitectureError
from moee.types import CapturePlan
from tests.architectures.tiny import (
    SELECTION,
    SEQUENCES,
    SUPPORTED,
    backend_for,
    expected_experts,
    native_weights,
    read_logits,
    tiny_model,
    tracing,
    used_weights,
    wide_backend_for,
    without_load_balancing,
)

LONGEST = max(SEQUENCES, key=len)
TOLERANCE = 1e-5  # float32: the same sums in another order

pytestmark = pytest.mark.parametrize("model_type", SUPPORTED)


def _by_router(values: Any, num_experts: tuple[int, ...]) -> list[Any]:
    return np.split(values, np.cumsum(num_experts)[:-1], axis=-1)


def _hooks(model: torch.nn.Module) -> Counter[str]:
    counts = {name: len(each._forward_hooks) + len(each._forward_pre_hooks) for name, each in model.named_modules()}
    return Counter(counts)


def _implementations(model: torch.nn.Module) -> list[Any]:
    configs = [module.config for module in model.modules() if hasattr(module, "is_concatenated")]
    return [config._experts_implementation for config in configs]


def test_routers_are_found_where_the_row_says(model_type: str) -> None:
    row, info = architecture_for(model_type), backend_for(model_type).info
    assert info.model_type == model_type
    assert info.layer_ids == row.tiny_layers
    assert info.num_experts == row.tiny_experts
    assert info.scoring_func == row.scoring_func
    assert all(0 < top_k < width for top_k, width in zip(info.top_k, info.num_experts, strict=True))


def test_captured_logits_are_those_the_model_records(model_type: str) -> None:
    row, backend = architecture_for(model_type), backend_for(model_type)
    ours = backend.forward([LONGEST], CapturePlan())
    with torch.inference_mode():
        output = backend.text_model(torch.tensor([LONGEST]), output_router_logits=True, use_cache=False)
    # a mixture-of-attention layer is recorded three times: its attention twice, then its feed-forward block
    recorded = output.router_logits[2::3] if row.attention_router else output.router_logits
    theirs = [entry.reshape(-1, entry.shape[-1])[-1].float().numpy() for entry in recorded]
    captured = _by_router(ours.routing[0], ours.num_experts)
    assert len(theirs) == len(captured)
    for logits, reference in zip(captured, theirs, strict=True):
        value = np.exp(logits) if row.reads == "probabilities" else logits
        np.testing.assert_allclose(value, reference, atol=TOLERANCE, rtol=0)
        assert np.ptp(reference) > 0.1 if row.reads == "logits" else np.ptp(reference) > 0.01


def test_hidden_state_is_the_last_tokens_after_the_final_norm(model_type: str) -> None:
    backend = backend_for(model_type)
    ours = backend.forward([LONGEST], CapturePlan())
    with torch.inference_mode():
        output = backend.text_model(torch.tensor([LONGEST]), use_cache=False)
    np.testing.assert_allclose(ours.hidden_states[0], output.last_hidden_state[0, -1].numpy(), atol=TOLERANCE)
    assert np.std(ours.hidden_states) > 0.01


def test_an_inner_layer_is_read_or_refused(model_type: str) -> None:
    backend, plan = backend_for(model_type), CapturePlan(hidden_layers=(0,))
    with torch.inference_mode():
        output = backend.text_model(torch.tensor([LONGEST]), output_hidden_states=True, use_cache=False)
    after_first = output.hidden_states[1]
    if after_first.dim() > 3:  # several residual streams side by side: there is no one state of a token
        with pytest.raises(UnsupportedArchitectureError, match="does not return one state per token"):
            backend.forward([LONGEST], plan)
        return
    ours = backend.forward([LONGEST], plan)
    np.testing.assert_allclose(ours.hidden_states[0], after_first[0, -1].numpy(), atol=TOLERANCE)


def test_a_layer_is_averaged_over_a_texts_own_tokens(model_type: str) -> None:
    backend, opening, end = wide_backend_for(model_type), [5, 9, 17], [3, 8]
    sequences = [[*opening, *sequence, *end] for sequence in SEQUENCES]
    for layer in (0, -1):
        plan = CapturePlan(tokens_layer=layer, text_span=(len(opening), len(end)))
        together = backend.forward(sequences, plan, shared=len(opening))
        assert together.tokens is not None
        for number in (1, 2):  # the shortest and the longest
            sequence = sequences[number]
            with torch.inference_mode():
                output = backend.text_model(torch.tensor([sequence]), output_hidden_states=True, use_cache=False)
            states = output.last_hidden_state if layer == -1 else output.hidden_states[1]
            own = states[0, len(opening) : len(sequence) - len(end)]
            # several residual streams side by side are averaged as tokens are
            expected = own.flatten(0, -2).mean(dim=0).numpy()
            np.testing.assert_allclose(together.tokens[number], expected, atol=TOLERANCE)
            assert expected.std() > 0.01
        plain = wide_backend_for(model_type, padded=True).forward(sequences, CapturePlan())
        np.testing.assert_allclose(together.hidden_states, plain.hidden_states, atol=TOLERANCE)
        np.testing.assert_allclose(together.routing, plain.routing, atol=TOLERANCE)


def test_native_scores_select_the_experts_that_were_used(model_type: str) -> None:
    row, backend = architecture_for(model_type), backend_for(model_type)
    with tracing(backend) as traces:
        backend.forward([LONGEST], CapturePlan())
    assert list(traces) == [site.path for site in backend.sites]
    for path, trace in traces.items():
        assert trace.experts is not None, f"nothing showed which experts {path} used"
        np.testing.assert_array_equal(expected_experts(backend, row, path, read_logits(row, trace)), trace.experts)
    for less in without_load_balancing(row):
        changed = [
            expected_experts(backend, less, path, read_logits(row, trace)) != trace.experts
            for path, trace in traces.items()
        ]
        assert any(np.any(each) for each in changed), "the premise needs a bias and groups that change the selection"


def test_native_scores_weigh_the_experts_as_the_block_does(model_type: str) -> None:
    """Up to one factor for each token: some renormalise, some scale."""
    row, backend = architecture_for(model_type), backend_for(model_type)
    with tracing(backend) as traces:
        backend.forward([LONGEST], CapturePlan())
    if row.router_class in SELECTION:
        return  # these blocks show which experts ran, and not with what weight
    for path, trace in traces.items():
        used = used_weights(backend, path, trace)
        np.testing.assert_allclose(native_weights(backend, row, path, trace), used, atol=TOLERANCE)


def test_a_text_does_not_depend_on_its_batch(model_type: str) -> None:
    backend = backend_for(model_type)
    together = backend.forward(SEQUENCES, CapturePlan())
    for number, sequence in enumerate(SEQUENCES):
        alone = backend.forward([sequence], CapturePlan())
        np.testing.assert_allclose(together.routing[number], alone.routing[0], atol=TOLERANCE)
        np.testing.assert_allclose(together.hidden_states[number], alone.hidden_states[0], atol=TOLERANCE)


def test_padding_sides_agree(model_type: str) -> None:
    if not architecture_for(model_type).left_padding:
        assert architecture_for(model_type).notes, "a row without left padding says why"
        return
    right = backend_for(model_type).forward(SEQUENCES, CapturePlan())
    left = backend_for(model_type, padding_side="left").forward(SEQUENCES, CapturePlan())
    np.testing.assert_allclose(left.routing, right.routing, atol=TOLERANCE)
    np.testing.assert_allclose(left.hidden_states, right.hidden_states, atol=TOLERANCE)


def test_nothing_stays_hooked(model_type: str) -> None:
    model, backend = tiny_model(model_type), backend_for(model_type)
    hooks, implementations = _hooks(model), _implementations(model)
    backend.forward(SEQUENCES, CapturePlan())
    assert (_hooks(model), _implementations(model)) == (hooks, implementations)


def test_nothing_stays_hooked_when_the_model_fails_midway(model_type: str) -> None:
    model, backend = tiny_model(model_type), backend_for(model_type)

    def fail(*_: Any) -> None:
        raise RuntimeError("in the middle of a forward pass")

    # the last router runs after our hooks on the others have fired
    handle = backend.sites[-1].module.register_forward_pre_hook(fail)
    hooks, implementations = _hooks(model), _implementations(model)
    try:
        with pytest.raises(RuntimeError, match="in the middle"):
            backend.forward(SEQUENCES, CapturePlan())
        assert (_hooks(model), _implementations(model)) == (hooks, implementations)
    finally:
        handle.remove()


def test_texts_side_by_side_equal_texts_alone(model_type: str) -> None:
    """Packed tokens, the beginning computed once and the last layer for last tokens alone, against padded rows."""
    row, backend = architecture_for(model_type), wide_backend_for(model_type)
    opening = [5, 9, 17, 3, 8]
    sequences = [[*opening, *sequence] for sequence in SEQUENCES]
    together = backend.forward(sequences, CapturePlan(), shared=len(opening))
    own = sum(len(sequence) for sequence in SEQUENCES)
    assert backend.packs == row.packs
    if row.packs:
        # the opening is computed once, and nothing is padded
        assert backend.work.tokens == own + len(opening) + 1  # and the one token by which widths were found
        assert backend.work.last_layer_rows - len(opening) - 1 == (len(sequences) if row.trims_last_layer else own)
    for number, sequence in enumerate(sequences):
        alone = wide_backend_for(model_type, padded=True).forward([sequence], CapturePlan())
        np.testing.assert_allclose(together.routing[number], alone.routing[0], atol=TOLERANCE)
        np.testing.assert_allclose(together.hidden_states[number], alone.hidden_states[0], atol=TOLERANCE)
        assert alone.hidden_states.std() > 0.01


def test_pooling_over_all_tokens_does_not_depend_on_the_batch(model_type: str) -> None:
    backend, plan = wide_backend_for(model_type), CapturePlan(hidden_pooling="mean", routing_pooling="weighted_mean")
    sequences = [[5, 9, 17, *sequence] for sequence in SEQUENCES]
    together = backend.forward(sequences, plan, shared=3)  # may not be used: the mean reads those tokens too
    for number, sequence in enumerate(sequences):
        alone = wide_backend_for(model_type, padded=True).forward([sequence], plan)
        np.testing.assert_allclose(together.routing[number], alone.routing[0], atol=TOLERANCE)
        np.testing.assert_allclose(together.hidden_states[number], alone.hidden_states[0], atol=TOLERANCE)
