"""Texts to chunks that fit into a model beside the prompt."""

from __future__ import annotations

from collections.abc import Sequence

from moee.backends.base import Backend
from moee.errors import InputError
from moee.method.chunks import LEAST_ROOM, Chunk, split_texts
from moee.method.config import EmbedderConfig
from moee.method.prompt_tokens import Apart, Filled
from moee.method.prompts import clean, resolve_prompt

_AT_ONCE = 1024
"""Texts given to the tokenizer at once: enough to keep its threads busy, few enough to bound memory."""


def split(backend: Backend, texts: Sequence[str], config: EmbedderConfig, limit: int) -> list[list[Chunk]]:
    """Split texts into chunks of at most `limit` tokens, the prompt counted.

    Args:
        backend: Counts tokens.
        texts: Checked texts.
        config: The prompt, and the limit of the model's input.
        limit: The most tokens of a chunk with the prompt, as `max_length` counts.

    Returns:
        The chunks of every text; see `moee.method.chunks.split_texts`.

    Raises:
        InputError: If the limit leaves no room beside the prompt, or is more than the model is given.
    """
    kind = Apart if config.prompt_tokens == "apart" else Filled
    way = kind(resolve_prompt(config.prompt), backend.tokenize, config.cleaning)
    prompt = len(way.encode([""])[0])
    _check(limit, prompt, config.max_length, backend.info.max_tokens)

    def count(own: Sequence[str]) -> list[int]:
        counted: list[int] = []
        for start in range(0, len(own), _AT_ONCE):
            cleaned = [clean(text, config.cleaning) for text in own[start : start + _AT_ONCE]]
            counted += [len(ids) - prompt for ids in way.encode(cleaned)]
        return counted

    return split_texts(texts, limit - prompt, count)


def _check(limit: int, prompt: int, max_length: int | None, max_tokens: int | None) -> None:
    for most, whose in ((max_length, "max_length is"), (max_tokens, "the model reads")):
        if most is not None and limit > most:
            raise InputError(f"chunk is {limit}, and {whose} {most} tokens. Choose {most} or fewer, or 256.")
    least = prompt + LEAST_ROOM
    if limit < least:
        raise InputError(
            f"chunk is {limit} tokens, and the prompt takes {prompt} of them. Choose {least} or more; 256 holds some "
            "ten sentences."
        )
