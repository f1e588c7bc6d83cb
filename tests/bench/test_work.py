"""Counted operations: by hand, and against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from rivals.shapes import SHAPES, shape_config
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig

from moee.backends.forward.huggingface import text_model_of
from moee.bench.work import LayerCost, ModelCost, cost_of, counted_work, model_cost
from moee.errors import NoMoELayersError, UnsupportedArchitectureError
from tests.architectures.tiny import build, tiny_config, tiny_model

TOKENS = 24


def test_a_tiny_olmoe_by_hand() -> None:
    """Hidden size 32, experts of 16, 2 of 8 chosen, 4 heads of 8: two layers alike."""
    cost = cost_of(text_model_of(tiny_model("olmoe")))
    attention = 4 * 32 * 32
    router = 32 * 8
    expert = 3 * 32 * 16
    layer = LayerCost(
        linear=2 * (attention + router + 2 * expert),
        keys_values=2 * 2 * 32 * 32,
        per_pair=2 * 2 * 32,
        weights=attention + router,
        expert_weights=8 * expert,
        num_experts=8,
        top_k=2,
    )
    assert cost == ModelCost((layer, layer), head=2 * 32 * 64)
    # a text of 3 tokens has 1 + 2 + 3 pairs, one of a single token has 1
    assert cost.useful([3, 1]) == 2 * (layer.linear * 4 + layer.per_pair * 7)
    assert cost.weights == 2 * (attention + router + 8 * expert)
    assert cost.head_share == pytest.approx(2 * 32 * 64 / (2 * layer.linear))


@pytest.mark.parametrize("model_type", ["olmoe", "qwen2_moe", "deepseek", "mixtral"])
def test_the_count_is_that_of_torch(model_type: str) -> None:
    """With eager attention and experts torch sees plain products: attention's over all pairs, the later ones too."""
    config = tiny_config(model_type)
    config._attn_implementation = config._experts_implementation = "eager"
    model = text_model_of(build(config)).eval()
    ids = torch.randint(3, 60, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, use_cache=False)
    counts = counter.get_flop_counts()["Global"]
    # the rotary tables are made by a product of positions and frequencies, once for all layers
    rotary = 2 * TOKENS * (config.hidden_size // config.num_attention_heads // 2)
    cost = cost_of(model)
    expected = cost.per_token * TOKENS + sum(layer.per_pair for layer in cost.layers) * TOKENS**2
    assert sum(counts.values()) - rotary == pytest.approx(expected, rel=0.01)


def test_the_configuration_alone_gives_the_same_count() -> None:
    for model_type in ("olmoe", "qwen2_moe", "deepseek"):
        assert model_cost(tiny_config(model_type)) == cost_of(text_model_of(tiny_model(model_type)))


@pytest.mark.parametrize(
    ("name", "billions", "active", "head"),
    [("olmoe", 6.71, 1.076, 9.6), ("qwen1.5-moe", 13.69, 2.067, 15.1), ("deepseek-moe", 15.96, 2.409, 8.7)],
)
def test_shapes_have_the_sizes_of_the_published_models(name: str, billions: float, active: float, head: float) -> None:
    """Layers without embeddings: 7B and 1B active, 14.3B and 2.7B, 16.4B and 2.8B with them."""
    cost = model_cost(shape_config(name))
    assert len(cost.layers) == SHAPES[name].layers
    assert cost.weights / 1e9 == pytest.approx(billions, abs=0.01)
    assert cost.per_token / 2e9 == pytest.approx(active, abs=0.001)
    assert 100 * cost.head_share == pytest.approx(head, abs=0.05)


def test_work_that_is_whole_is_useful_work() -> None:
    cost = cost_of(text_model_of(tiny_model("olmoe")))
    lengths = [5, 9, 2]
    assert cost.computed(lengths, tokens=16, last_layer_rows=16) == cost.useful(lengths)
    assert counted_work(cost, lengths, None) == cost.useful(lengths)
    for tokens in (16, 24):  # exactly these, or with padding, which is no work
        work = {"sequences": 3, "tokens": tokens, "last_layer_rows": tokens}
        assert counted_work(cost, lengths, work) == cost.useful(lengths)


def test_a_cut_last_layer_makes_keys_and_values_of_all_tokens_and_the_rest_of_the_last() -> None:
    cost = cost_of(text_model_of(tiny_model("olmoe")))
    first, last = cost.layers
    lengths = [5, 9]
    pairs = 15 + 45
    expected = first.linear * 14 + first.per_pair * pairs
    expected += last.keys_values * 14 + (last.linear - last.keys_values) * 2 + last.per_pair * (5 + 9)
    assert cost.computed(lengths, tokens=14, last_layer_rows=2) == expected


def test_a_shared_beginning_is_less_work() -> None:
    cost = cost_of(text_model_of(tiny_model("olmoe")))
    whole = cost.computed([10, 10], tokens=20, last_layer_rows=20)
    shared = cost.computed([10, 10], tokens=16, last_layer_rows=16)
    assert shared == int(whole * 16 / 20)


def test_few_tokens_read_few_experts() -> None:
    cost = cost_of(text_model_of(tiny_model("olmoe")))
    layer = cost.layers[0]
    assert cost.read(1) == 2 * (layer.weights + layer.expert_weights * 2 // 8)
    assert cost.read(10_000) == pytest.approx(cost.weights)
    assert cost.read(1) < cost.read(4) < cost.read(10_000)


def test_what_is_not_known_is_not_counted() -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"'jamba' are not counted.*can still be measured"):
        model_cost(tiny_config("jamba"))
    with pytest.raises((NoMoELayersError, UnsupportedArchitectureError)):
        model_cost(LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
