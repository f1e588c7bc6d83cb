"""Read the demo's dense model out of its GGUF file: weights, configuration, tokenizer.

Reads the file directly instead of through transformers, which takes half a minute for the same file.
Only what this one file needs is handled: a Llama graph with tied embeddings and the `smollm` tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.demo.weights import FETCH_LINE
from moee.errors import CheckpointError, MissingExtraError
from moee.types import Array

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers import Tokenizer

_TOP_LEVEL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_PER_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3  # gguf's TokenType.CONTROL


@dataclass(frozen=True, slots=True)
class DemoSource:
    """An opened GGUF file.

    Attributes:
        reader: The open file; tensors stay on disk until they are asked for.
    """

    reader: GGUFReader

    def field(self, key: str) -> Any:
        """Return a metadata value.

        Raises:
            CheckpointError: If the file has no such key.
        """
        found = self.reader.fields.get(key)
        if found is None:
            raise CheckpointError(f"The GGUF file has no field {key!r}. Fetch it again with: {FETCH_LINE}")
        return found.contents()


def open_gguf(path: Path) -> DemoSource:
    """Open a GGUF file for reading.

    Raises:
        MissingExtraError: If the `gguf` package is absent.
        CheckpointError: If the file is not GGUF.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingExtraError("gguf", "reading the demo model's weights", "demo") from error
    try:
        return DemoSource(GGUFReader(path))
    except ValueError as error:
        raise CheckpointError(f"Not a GGUF file: {str(path)!r} ({error}). Fetch it again with: {FETCH_LINE}") from error


def dense_config(source: DemoSource) -> dict[str, Any]:
    """Return the `config.json` values of the dense Llama model."""
    heads = int(source.field("llama.attention.head_count"))
    hidden_size = int(source.field("llama.embedding_length"))
    return {
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "head_dim": hidden_size // heads,
        "intermediate_size": int(source.field("llama.feed_forward_length")),
        "num_hidden_layers": int(source.field("llama.block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(source.field("llama.attention.head_count_kv")),
        "max_position_embeddings": int(source.field("llama.context_length")),
        # stored as float32 in the file: 9.999999747378752e-06 is meant to be 1e-05
        "rms_norm_eps": float(
            np.format_float_scientific(np.float32(source.field("llama.attention.layer_norm_rms_epsilon")))
        ),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(source.field("llama.rope.freq_base"))},
        "vocab_size": int(source.field("llama.vocab_size")),
        "bos_token_id": int(source.field("tokenizer.ggml.bos_token_id")),
        "eos_token_id": int(source.field("tokenizer.ggml.eos_token_id")),
        "pad_token_id": int(source.field("tokenizer.ggml.padding_token_id")),
        "tie_word_embeddings": True,
    }


def dense_tensors(source: DemoSource) -> Iterator[tuple[str, Array]]:
    """Yield every weight under its transformers name, dequantised to float32, one at a time.

    Raises:
        CheckpointError: If the file holds a tensor that this graph does not have.
    """
    from gguf.quants import dequantize

    heads = {
        "attn_q": int(source.field("llama.attention.head_count")),
        "attn_k": int(source.field("llama.attention.head_count_kv")),
    }
    for tensor in source.reader.tensors:
        name, kind = _rename(tensor.name)
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        yield name, _unpermute(values, heads[kind]) if kind in heads else values


def _rename(name: str) -> tuple[str, str]:
    """Return the transformers name of a GGUF tensor, and its kind (`attn_q`, ...)."""
    stem = name.removesuffix(".weight")
    if stem in _TOP_LEVEL:
        return f"{_TOP_LEVEL[stem]}.weight", stem
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if match is None or match[2] not in _PER_LAYER:
        raise CheckpointError(
            f"Unexpected tensor {name!r} in the demo's GGUF file; it is not the file this was made for."
        )
    return f"model.layers.{match[1]}.{_PER_LAYER[match[2]]}.weight", match[2]


def _unpermute(values: Array, num_heads: int) -> Array:
    """Undo llama.cpp's row order of query and key weights, `(num_heads * head_dim, hidden_size)`.

    llama.cpp rotates neighbouring rows (0, 1), transformers rotates halves (0, head_dim / 2).
    """
    rows, columns = values.shape
    pairs = values.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))


def save_tokenizer(source: DemoSource, folder: Path) -> None:
    """Write the tokenizer's files into a folder, so that `AutoTokenizer` loads them offline."""
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = source.field("tokenizer.ggml.tokens")
    special = {
        f"{ours}_token": tokens[source.field(f"tokenizer.ggml.{theirs}_token_id")]
        for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    wrapper: Any = PreTrainedTokenizerFast  # an alias of a class whose constructor has no types
    tokenizer = wrapper(
        tokenizer_object=build_tokenizer(source),
        model_max_length=int(source.field("llama.context_length")),
        **special,
    )
    tokenizer.chat_template = source.field("tokenizer.chat_template")
    tokenizer.save_pretrained(folder)


def build_tokenizer(source: DemoSource) -> Tokenizer:
    """Return the byte-level BPE tokenizer described by the file's metadata.

    The pre-tokenizer named `smollm` splits numbers into single digits before the GPT-2 pattern. No token is
    added before or after a text.

    Raises:
        CheckpointError: If the file has another kind of tokenizer.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    described = (source.field("tokenizer.ggml.model"), source.field("tokenizer.ggml.pre"))
    if described != ("gpt2", "smollm"):
        raise CheckpointError(f"The GGUF file's tokenizer is {described!r}; the demo is made for ('gpt2', 'smollm').")
    tokens: list[str] = source.field("tokenizer.ggml.tokens")
    merges = [
        (left, right) for left, _, right in (merge.partition(" ") for merge in source.field("tokenizer.ggml.merges"))
    ]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    # untyped factories in tokenizers' stubs
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = source.field("tokenizer.ggml.token_type")
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return tokenizer
