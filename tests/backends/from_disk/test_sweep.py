"""Models run a layer at a time: the same numbers as in memory, chunk after chunk, within a limit that is stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moee import MoEE
from moee.architectures import architecture_for
from moee.backends.from_disk.layer_store import LayerStore
from moee.backends.from_disk.sweep import SweepBackend
from moee.data import calibration_texts
from moee.errors import InputError, NonFiniteActivationsError, UnsupportedArchitectureError
from moee.types import Activations, CapturePlan
from tests.architectures.tiny import SEQUENCES, SUPPORTED, tiny_config, tiny_model, wide_backend_for

GOLDEN = Path(__file__).parents[2] / "golden" / "olmoe-tiny"
TOLERANCE = 1e-5  # float32: the same sums in another order
OPENING = [5, 9, 17, 3, 8]
TEXTS = [[*OPENING, *sequence] for sequence in SEQUENCES]
PLENTY = 1 << 50
_IN_WRAPPERS_ONLY = {
    "deepseek_ocr2_text",
    "diffusion_gemma_text",
    "ernie4_5_vl_moe_text",
    "qwen3_omni_moe_text",
    "step3p5",
    "unlimited_ocr_text",
}
"""Text models that transformers opens from a folder only inside a multimodal one."""
PACKED = [name for name in SUPPORTED if architecture_for(name).packs and name not in _IN_WRAPPERS_ONLY]


def sweep_of(model_type: str, folder: Path, **options: Any) -> SweepBackend:
    """Open the tiny model, written to `folder`, for a sweep."""
    row = architecture_for(model_type)
    tiny_model(model_type, window=64).save_pretrained(folder)
    store = LayerStore.open(folder, name=model_type, dtype=torch.float32, device=torch.device("cpu"), architecture=row)
    given: dict[str, Any] = {"memory": PLENTY, "widths": dict(zip(row.tiny_layers, row.tiny_experts, strict=True))}
    return SweepBackend(
        store,
        None,
        name=model_type,
        fingerprint="tiny",
        architecture=row,
        **{**given, **options},  # type: ignore[arg-type]
    )


def joined(parts: list[Activations]) -> tuple[Any, Any]:
    return np.concatenate([each.routing for each in parts]), np.concatenate([each.hidden_states for each in parts])


@pytest.mark.parametrize("model_type", PACKED)
def test_a_sweep_gives_what_the_model_in_memory_gives(model_type: str, tmp_path: Path) -> None:
    backend = sweep_of(model_type, tmp_path)
    routing, hidden = joined(list(backend.run([TEXTS[:2], TEXTS[2:]], CapturePlan(), shared=len(OPENING))))
    expected = wide_backend_for(model_type).forward(TEXTS, CapturePlan())
    np.testing.assert_allclose(routing, expected.routing, atol=TOLERANCE)
    np.testing.assert_allclose(hidden, expected.hidden_states, atol=TOLERANCE)
    assert backend.work.tokens == sum(map(len, SEQUENCES)) + len(OPENING)
    assert backend.info.weights == "disk"


@pytest.mark.parametrize(
    "plan",
    [
        CapturePlan(hidden_pooling="mean", routing_pooling="weighted_mean"),
        CapturePlan(hidden_layers=(0, 1)),
        CapturePlan(hidden_layers="all", routing_layers=(0,)),
        CapturePlan(projections=True),
        CapturePlan(tokens_layer=0, text_span=(len(OPENING) - 1, 1)),
        CapturePlan(tokens_layer=-1, text_span=(len(OPENING), 1)),
    ],
)
def test_every_plan_can_be_swept(plan: CapturePlan, tmp_path: Path) -> None:
    backend = sweep_of("olmoe", tmp_path)
    found = list(backend.run([TEXTS[:3], TEXTS[3:]], plan, shared=len(OPENING)))
    expected = wide_backend_for("olmoe").forward(TEXTS, plan)
    for ours, theirs in zip(joined(found), (expected.routing, expected.hidden_states), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    if plan.projections:
        assert expected.projections is not None
        ours = np.concatenate([each.projections for each in found if each.projections is not None])
        np.testing.assert_allclose(ours, expected.projections, atol=TOLERANCE)
    if plan.tokens_layer is not None:
        assert expected.tokens is not None
        ours = np.concatenate([each.tokens for each in found if each.tokens is not None])
        np.testing.assert_allclose(ours, expected.tokens, atol=TOLERANCE)
        assert ours.std() > 0.01


def test_each_weight_is_read_once_for_a_chunk_and_the_opening_once_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = sweep_of("olmoe", tmp_path)
    once = sum(backend._store.layer_bytes)
    batches = [[text] for text in TEXTS]
    list(backend.run(batches, CapturePlan(), shared=len(OPENING)))
    assert backend._store.bytes_read == once
    monkeypatch.setattr(backend, "chunk_tokens", lambda _batch_tokens: 12)
    list(backend.run(batches, CapturePlan(), shared=len(OPENING)))
    # 5, 1 | 12 | 9 tokens
    assert backend._store.bytes_read == 4 * once
    assert backend.work.tokens == 2 * sum(map(len, SEQUENCES)) + len(OPENING)


def test_a_chunk_is_handed_over_before_the_next_one_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = sweep_of("olmoe", tmp_path)
    monkeypatch.setattr(backend, "chunk_tokens", lambda _batch_tokens: 12)
    once = sum(backend._store.layer_bytes)
    running = backend.run([[text] for text in TEXTS], CapturePlan(), shared=len(OPENING))
    next(running)
    assert backend._store.bytes_read == once
    running.close()  # what a stop does
    assert next(backend.run([TEXTS[:1]], CapturePlan())).hidden_states.shape == (1, 32)


def test_nothing_stays_changed_after_a_failure(tmp_path: Path) -> None:
    backend = sweep_of("olmoe", tmp_path)

    def fail(*_: Any) -> None:
        raise RuntimeError("in the middle of a layer")

    handle = backend.sites[-1].module.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        list(backend.run([TEXTS], CapturePlan()))
    handle.remove()
    assert all("forward" not in vars(layer) for layer in backend.text_model.layers)
    assert not any(module._forward_hooks for module in backend.text_model.modules())
    found = next(backend.run([TEXTS], CapturePlan()))
    expected = wide_backend_for("olmoe").forward(TEXTS, CapturePlan())
    np.testing.assert_allclose(found.hidden_states, expected.hidden_states, atol=TOLERANCE)


def test_a_limit_that_does_not_hold_two_layers_is_refused_and_says_what_would(tmp_path: Path) -> None:
    backend = sweep_of("olmoe", tmp_path, memory=1 << 20)
    with pytest.raises(InputError, match=r"1\.0 MiB of memory do not hold a sweep.*--memory.*--batch-tokens"):
        next(backend.run([TEXTS], CapturePlan()))


def test_a_larger_limit_makes_larger_chunks(tmp_path: Path) -> None:
    backend = sweep_of("olmoe", tmp_path)
    more = backend.chunk_tokens(100)
    backend._memory //= 2
    assert 100 < backend.chunk_tokens(100) < more


def test_a_model_whose_layers_mix_tokens_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="cannot be run a layer at a time"):
        sweep_of("qwen3_next", tmp_path)


def test_an_overflow_names_its_place_in_the_batch(tmp_path: Path) -> None:
    config = tiny_config("olmoe")
    assert config.vocab_size > 40
    backend = sweep_of("olmoe", tmp_path)
    with torch.no_grad():
        backend.text_model.embed_tokens.weight[40] = float("inf")
    running = backend.run([[[1, 2], [3, 4]], [[5, 6], [40, 7], [8]]], CapturePlan())
    next(running)
    with pytest.raises(NonFiniteActivationsError) as caught:
        next(running)
    assert caught.value.row == 1


# --- from the outside ----------------------------------------------------------------------------------------------


def test_a_limit_on_memory_chooses_the_sweep_and_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MoEE.from_pretrained(GOLDEN, dtype="float32", calibration="none", memory="64GiB")
    assert whole.info.weights == "memory"
    # a checkpoint of a few hundred kilobytes fits wherever Python does, so the model is made not to
    monkeypatch.setattr("moee.backends.choose.MemoryBudget.holds", lambda *_: False)
    swept = MoEE.from_pretrained(GOLDEN, dtype="float32", calibration="none", memory="64GiB", batch_tokens=300)
    assert swept.info.weights == "disk"
    assert "layers are read from disk one after the other" in caplog.text
    texts = calibration_texts()[:50]
    assert np.abs(whole.encode(texts) - swept.encode(texts)).max() < TOLERANCE


def test_a_limit_that_the_process_is_over_already_is_refused() -> None:
    with pytest.raises(InputError, match=r"memory limit is 1\.0 MiB"):
        MoEE.from_pretrained(GOLDEN, memory="1MiB")


@pytest.mark.parametrize(("option", "match"), [({"memory": "lots"}, "4GiB"), ({"precision": "int4"}, "int8")])
def test_a_bad_option_is_refused_before_anything_is_read(option: dict[str, str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        MoEE.from_pretrained(GOLDEN, **option)  # type: ignore[arg-type]


def test_experts_may_stay_as_they_are_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """bfloat16 files on a processor that computes in float32: the cast is put off until an expert is used."""
    tiny_model("olmoe").to(torch.bfloat16).save_pretrained(tmp_path)
    tiny_model.cache_clear()  # `to` works in place
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())
    whole = MoEE.from_pretrained(tmp_path, dtype="float32", calibration="none")
    monkeypatch.setattr("moee.backends.choose.weights_fit", lambda *_: False)
    kept = MoEE.from_pretrained(tmp_path, dtype="float32", calibration="none")
    experts = kept._backend.text_model.layers[0].mlp.experts  # type: ignore[attr-defined]
    assert experts.down_proj.dtype == torch.bfloat16
    assert (kept.info.weights, kept.info.dtype) == ("memory", "float32")
    ids = [list(sequence) for sequence in SEQUENCES]
    ours, theirs = (next(iter(each._backend.run([ids], CapturePlan()))) for each in (kept, whole))
    np.testing.assert_allclose(ours.hidden_states, theirs.hidden_states, atol=TOLERANCE)
    np.testing.assert_allclose(ours.routing, theirs.routing, atol=TOLERANCE)
