from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from moee.carve import CarveConfig

VOCABULARY = 257
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    # large enough for the feed-forward layers to matter in the logits
    "initializer_range": 0.2,
}


def save_tokenizer(folder: Path) -> None:
    """A token for every byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: index for index, symbol in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>").save_pretrained(folder)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Two hundred different sentences."""
    rng = random.Random(0)
    subjects = ["A cat", "The old mill", "Nobody", "Every river", "My neighbour", "A small engine", "The committee"]
    verbs = ["watches", "remembers", "carries", "forgets", "measures", "paints", "repairs"]
    objects = ["the harbour", "a red bicycle", "seven letters", "the winter", "an open door", "his own shadow"]
    ends = ["at noon.", "again!", "without a word.", "for 12 years.", "near the bridge?", "in silence."]
    found: dict[str, None] = {}
    while len(found) < 200:
        found[" ".join(rng.choice(part) for part in (subjects, verbs, objects, ends))] = None
    return list(found)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(**SIZES, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 5e4})
    LlamaForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("qwen2")
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=False))
    for layer in model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            torch.nn.init.normal_(projection.bias)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def small() -> CarveConfig:
    """Sizes for the tiny models."""
    return CarveConfig(
        num_experts=4, top_k=2, calibration_tokens=3000, profile_tokens=1000, heldback_tokens=600, sequence_length=64,
        batch_tokens=512,
    )  # fmt: skip
