"""Tiny checkpoint folders on disk, as a user would have them: configuration, safetensors, tokenizer."""

from __future__ import annotations

import string
from pathlib import Path

from tests.architectures.tiny import VOCAB, tiny_model

_UNKNOWN, _PAD = "<unk>", "<pad>"


def save_tokenizer(folder: Path) -> None:
    """Write a tokenizer of one token a character, whose ids a tiny model has."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # transformers reads some models' vocabularies as byte-level whatever the file says, and those spell a space so
    characters = [" ", "Ġ", *string.ascii_letters, *'.,:"'][: VOCAB - 2]
    vocabulary = {token: number for number, token in enumerate([_UNKNOWN, _PAD, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=_UNKNOWN, pad_token=_PAD)
    fast.save_pretrained(folder)


def save_checkpoint(model_type: str, folder: Path) -> Path:
    """Write the shared tiny model of one architecture and a tokenizer; return the folder."""
    tiny_model(model_type).save_pretrained(folder)
    save_tokenizer(folder)
    return folder
