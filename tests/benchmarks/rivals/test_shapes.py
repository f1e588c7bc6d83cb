from __future__ import annotations

import pytest
import torch
from rivals.shapes import SHAPES, build_random, choose_layers, needed_bytes

from moee.errors import InputError
from tests.architectures.tiny import SEQUENCES, tiny_config

GIB = 2**30


def test_memory_grows_with_layers_and_width_of_numbers() -> None:
    """OLMoE: 0.42e9 weights a layer, 0.21e9 in table and head."""
    one, eight = (needed_bytes("olmoe", layers, 4) for layers in (1, 8))
    assert (eight - one) / 7 == pytest.approx(4 * 0.4195e9, rel=0.001)
    assert needed_bytes("olmoe", 8, 2) < eight


def test_what_fits_is_built() -> None:
    assert choose_layers("olmoe", 3, 4, 64 * GIB) == (3, "")
    assert choose_layers("olmoe", None, 4, 64 * GIB) == (SHAPES["olmoe"].default_layers, "")
    assert choose_layers("olmoe", None, 4, None) == (SHAPES["olmoe"].default_layers, "")


def test_a_default_that_does_not_fit_is_halved_and_said() -> None:
    layers, note = choose_layers("qwen1.5-moe", None, 4, 22 * GIB)
    assert layers == 6
    assert note == "12 layers of Qwen1.5-MoE-A2.7B need 30.8 GiB, and 22.0 GiB are free: 6 layers are built instead."


def test_a_wish_that_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(
        InputError, match=r"need .* GiB, and 8\.0 GiB are free\. At most --layers 2 fits now\."
    ) as refused:
        choose_layers("olmoe", 16, 4, 8 * GIB)
    assert needed_bytes("olmoe", 2, 4) <= 8 * GIB < needed_bytes("olmoe", 3, 4), refused.value
    with pytest.raises(InputError, match="not even 1 would fit"):
        choose_layers("olmoe", None, 4, GIB)


def test_layers_that_a_model_does_not_have_are_refused() -> None:
    with pytest.raises(InputError, match="OLMoE-1B-7B-0924 has 16: choose 1 to 16"):
        choose_layers("olmoe", 17, 4, None)
    with pytest.raises(InputError, match="28, the first 1 without experts: choose 2 to 28"):
        choose_layers("deepseek-moe", 1, 4, None)


@pytest.mark.parametrize("model_type", ["olmoe", "qwen2_moe", "deepseek"])
def test_random_models_are_repeatable_and_finite(model_type: str) -> None:
    first, second = (build_random(tiny_config(model_type), "float32", with_head=True) for _ in range(2))
    for (name, weight), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(weight, other), name
        assert weight.dim() == 1 or 0.1 < weight.std() * weight.shape[-1] ** 0.5 < 10, name
    with torch.inference_mode():
        output = first(input_ids=torch.tensor([SEQUENCES[2]]))
    assert torch.isfinite(output[0]).all()
    assert output[0].std() > 0.01
    assert not first.training


def test_rotary_frequencies_survive_the_build() -> None:
    """Weights are drawn after the class is built; its buffers must be those the class computes."""
    from transformers import AutoModel

    config = tiny_config("olmoe")
    random = build_random(config, "float32", with_head=False)
    usual = AutoModel.from_config(config)
    assert torch.equal(random.rotary_emb.inv_freq, usual.rotary_emb.inv_freq)
