"""Random projections of the routers' inputs: the control for the claim that routing knows more than any linear map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from moee.backends.base import Backend
from moee.backends.checkpoint.support import LoadOptions
from moee.backends.fake import FakeBackend
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.backends.open import open_backend
from moee.types import CapturePlan
from tests.architectures.tiny import SEQUENCES, backend_for
from tests.evaluate.conftest import GOLDEN

PLAN = CapturePlan(projections=True)
TOLERANCE = 1e-5


def golden() -> Backend:
    return open_backend(GOLDEN / "olmoe-tiny", LoadOptions(dtype="float32"))


@pytest.fixture(scope="module", params=["fake", "golden", "olmoe", "qwen2_moe", "deepseek_v3", "gpt_oss"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "fake":
        return FakeBackend()
    return golden() if request.param == "golden" else backend_for(request.param)


def projected(backend: Backend, sequences: Any = SEQUENCES, **plan: Any) -> Any:
    found = backend.forward(sequences, CapturePlan(projections=True, **plan)).projections
    assert found is not None
    return found


def test_they_have_the_shape_of_the_routers(backend: Backend) -> None:
    found = backend.forward(SEQUENCES, PLAN)
    assert found.projections is not None
    assert found.projections.shape == found.routing.shape == (len(SEQUENCES), sum(backend.info.num_experts))
    assert found.projections.dtype == np.float32
    assert np.isfinite(found.projections).all()


def test_they_are_given_only_if_asked_for(backend: Backend) -> None:
    assert backend.forward(SEQUENCES, CapturePlan()).projections is None
    plain, with_them = backend.forward(SEQUENCES, CapturePlan()), backend.forward(SEQUENCES, PLAN)
    np.testing.assert_allclose(plain.routing, with_them.routing, atol=TOLERANCE)
    np.testing.assert_allclose(plain.hidden_states, with_them.hidden_states, atol=TOLERANCE)


def test_a_texts_projection_does_not_depend_on_its_batch(backend: Backend) -> None:
    together = projected(backend)
    alone = np.concatenate([projected(backend, [sequence]) for sequence in SEQUENCES])
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        projected(backend, [SEQUENCES[place] for place in order]), together[order], atol=TOLERANCE
    )


def test_they_are_the_same_every_time(backend: Backend) -> None:
    first = projected(backend)
    torch.manual_seed(999)
    np.random.seed(999)
    assert np.array_equal(projected(backend), first)


def test_a_model_that_is_loaded_again_gives_the_same() -> None:
    assert np.array_equal(projected(golden()), projected(golden()))
    assert np.array_equal(projected(FakeBackend()), projected(FakeBackend()))


def test_padding_side_changes_nothing() -> None:
    right, left = (projected(backend_for("olmoe", padding_side=side)) for side in ("right", "left"))
    np.testing.assert_allclose(right, left, atol=TOLERANCE)


@pytest.mark.parametrize("chosen", ["last", (0,), (1, 0)])
def test_chosen_layers_are_their_blocks_of_the_whole(chosen: Any) -> None:
    for backend in (FakeBackend(), backend_for("olmoe")):
        info = backend.info
        layers = (max(info.layer_ids),) if chosen == "last" else tuple(sorted(chosen))
        ends = np.cumsum(info.num_experts)
        blocks = np.split(projected(backend), ends[:-1], axis=1)
        wanted = np.concatenate([blocks[info.layer_ids.index(layer)] for layer in layers], axis=1)
        np.testing.assert_allclose(projected(backend, routing_layers=chosen), wanted, atol=TOLERANCE)


def test_each_is_a_linear_map_of_what_that_router_reads() -> None:
    """A map fitted on many tokens gives other tokens' projections, and another layer's input does not."""
    backend = backend_for("olmoe")
    assert isinstance(backend, HuggingFaceBackend)
    rng = np.random.default_rng(3)
    sequences = [rng.integers(3, 60, size=length).tolist() for length in rng.integers(2, 9, size=150)]
    inputs = router_inputs(backend, sequences)
    blocks = np.split(projected(backend, sequences), np.cumsum(backend.info.num_experts)[:-1], axis=1)
    for place, block in enumerate(blocks):
        assert misfit(inputs[place], block) < 1e-3
        other = (place + 1) % len(blocks)
        assert misfit(inputs[other], block) > 0.05


def router_inputs(backend: HuggingFaceBackend, sequences: Any) -> list[Any]:
    """The last token's input of every router, `(texts, hidden_size)` each, one text at a time."""
    read: list[list[Any]] = [[] for _ in backend.sites]
    handles = [
        site.module.register_forward_pre_hook(
            lambda _module, args, place=place: read[place].append(args[0].detach().reshape(-1, args[0].shape[-1])[-1])
        )
        for place, site in enumerate(backend.sites)
    ]
    try:
        for sequence in sequences:
            backend.forward([sequence], CapturePlan())
    finally:
        for handle in handles:
            handle.remove()
    return [torch.stack(rows).float().numpy() for rows in read]


def misfit(inputs: Any, block: Any) -> float:
    """Relative error on the last third of the rows of a linear map fitted on the others."""
    split = len(inputs) * 2 // 3
    fitted = np.linalg.lstsq(inputs[:split], block[:split], rcond=None)[0]
    return float(np.linalg.norm(inputs[split:] @ fitted - block[split:]) / np.linalg.norm(block[split:]))


def test_layers_have_maps_of_their_own_that_keep_lengths_on_average() -> None:
    backend = backend_for("olmoe")
    assert isinstance(backend, HuggingFaceBackend)
    rng = np.random.default_rng(4)
    sequences = [rng.integers(3, 60, size=6).tolist() for _ in range(60)]
    inputs = router_inputs(backend, sequences)
    blocks = np.split(projected(backend, sequences), np.cumsum(backend.info.num_experts)[:-1], axis=1)
    for read, block in zip(inputs, blocks, strict=True):
        ratio = np.square(block).mean() / np.square(read).mean()
        assert 0.2 < ratio < 5  # entries of variance 1 / hidden size; few experts, so the average is rough
    assert len({block.tobytes() for block in blocks}) == len(blocks)
