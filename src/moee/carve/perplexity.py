"""Perplexity of a causal language model on token sequences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import functional

from moee.carve.sequences import PaddedTokens


def perplexity(model: Any, batches: Iterable[PaddedTokens]) -> float:
    """Return exp of the mean negative log likelihood of every token but the first of each sequence."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            # -100 is what cross_entropy leaves out: padding
            targets = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)[:, 1:]
            loss = functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=-100, reduction="sum"
            )
            total += float(loss)
            count += int((targets >= 0).sum())
    return math.exp(total / count)
