"""Calibration text to token sequences: passages of running text and PromptEOL prompts, and a part held back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from moee.carve.config import CarveConfig
from moee.errors import InputError
from moee.method.prompts import render, resolve_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenIds = list[int]


@dataclass(frozen=True, slots=True)
class Sequences:
    """What the passes over the model read.

    Attributes:
        calibration: Passages and prompts, mixed in a seeded order.
        heldback: Passages of texts that are not in `calibration`.
        heldback_texts: The texts of `heldback`.
    """

    calibration: list[TokenIds]
    heldback: list[TokenIds]
    heldback_texts: list[str]


@dataclass(frozen=True, slots=True)
class PaddedTokens:
    """Right-padded sequences.

    Attributes:
        input_ids: `(batch, seq)`.
        attention_mask: `(batch, seq)`, 1 on real tokens.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor


def prepare(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, config: CarveConfig) -> Sequences:
    """Split the texts and make token sequences of them.

    Texts are made unique before the split, so that no held-back text is also calibration text.

    Raises:
        InputError: If the texts end before the tokens asked for are reached; says how many they hold.
    """
    unique = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    order = np.random.default_rng(config.seed).permutation(len(unique))
    stream = iter([unique[index] for index in order])
    heldback, heldback_texts = _passages(stream, tokenizer, config.heldback_tokens, config)
    prompt_tokens = round(config.prompt_share * config.calibration_tokens)
    prompts = _prompts(stream, tokenizer, prompt_tokens, config)
    running, _ = _passages(stream, tokenizer, config.calibration_tokens - prompt_tokens, config)
    found = _count(prompts) + _count(running)
    if found < config.calibration_tokens:
        raise InputError(
            f"The {len(unique)} distinct texts give {found} calibration tokens after {_count(heldback)} held back; "
            f"{config.calibration_tokens} were asked for. Give more text, or lower calibration_tokens."
        )
    calibration = prompts + running
    mixed = np.random.default_rng(config.seed + 1).permutation(len(calibration))
    return Sequences([calibration[index] for index in mixed], heldback, heldback_texts)


def passages_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, sequence_length: int) -> list[TokenIds]:
    """Join texts by spaces into running text and cut it into passages of at most `sequence_length` tokens.

    A last passage of one token is left out: it predicts nothing.
    """
    ids = [token for text in texts for token in _running(text, tokenizer)]
    passages = [ids[start : start + sequence_length] for start in range(0, len(ids), sequence_length)]
    return [passage for passage in passages if len(passage) > 1]


def _running(text: str, tokenizer: PreTrainedTokenizerBase) -> TokenIds:
    ids: TokenIds = tokenizer(f"{text} ", add_special_tokens=False)["input_ids"]
    return ids


def _count(sequences: Sequence[TokenIds]) -> int:
    return sum(map(len, sequences))


def _take(texts: Iterator[str], target: int, tokenize: Callable[[str], TokenIds]) -> Iterator[tuple[str, TokenIds]]:
    """Yield texts and their tokens until `target` tokens are reached or the texts end."""
    taken = 0
    while taken < target:
        text = next(texts, None)
        if text is None:
            return
        ids = tokenize(text)
        taken += len(ids)
        yield text, ids


def _passages(
    texts: Iterator[str], tokenizer: PreTrainedTokenizerBase, target: int, config: CarveConfig
) -> tuple[list[TokenIds], list[str]]:
    taken = [text for text, _ in _take(texts, target, lambda text: _running(text, tokenizer))]
    return passages_of(taken, tokenizer, config.sequence_length), taken


def _prompts(
    texts: Iterator[str], tokenizer: PreTrainedTokenizerBase, target: int, config: CarveConfig
) -> list[TokenIds]:
    template = resolve_prompt("prompteol")

    def tokenize(text: str) -> TokenIds:
        # with the special tokens that the tokenizer adds, as the embedder does; the prompt's end must stay
        ids: TokenIds = tokenizer(render(template, text))["input_ids"]
        return ids[-config.sequence_length :]

    return [ids for _, ids in _take(texts, target, tokenize)]


def batches(sequences: Sequence[TokenIds], *, batch_tokens: int) -> Iterator[PaddedTokens]:
    """Yield right-padded batches of at most `batch_tokens` tokens, padding included; sequences of like length together.

    A sequence longer than `batch_tokens` is a batch of its own.
    """
    ordered = sorted(sequences, key=len)
    start = 0
    while start < len(ordered):
        end = start + 1
        while end < len(ordered) and (end + 1 - start) * len(ordered[end]) <= batch_tokens:
            end += 1
        yield _pad(ordered[start:end])
        start = end


def _pad(rows: Sequence[TokenIds]) -> PaddedTokens:
    width = max(map(len, rows))
    # id 0 is as good as any under a mask of 0
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = torch.tensor(row)
        attention_mask[index, : len(row)] = 1
    return PaddedTokens(input_ids, attention_mask)
