"""The vectors and similarities of the original code of arXiv 2410.10814, its defects included.

For comparison with published numbers only. Everything else in the package uses frozen statistics and one vector. What
the original does, step by step: `EmbedderConfig` recipe `paper`, `prompts.clean_paper`, `calibration.batch_standardise`
and `paired_similarity` below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from moee.embedder import MoEE
from moee.errors import InputError
from moee.method.calibration import batch_standardise
from moee.method.config import recipe_config
from moee.method.fusion import unit
from moee.method.prompts import render
from moee.method.routing import softmax
from moee.types import Array, Views

PROMPTS_OF_THE_ORIGINAL: Mapping[str, str] = MappingProxyType({"none": "quoted"})
"""The original's names of prompts that differ from ours: its `none` puts the text in double quotes."""


def paired_similarity(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Return the original's similarity of each row of `a` with the same row of `b`: `1 - |a' - b'|^2 / 2`.

    On unit vectors this is the cosine. Zero vectors are left at zero, so that two of them score 1, and a zero vector
    scores 0.5 with any other; `moee.method.similarity` gives 0 for both.

    Args:
        a: `(n, dim)`.
        b: `(n, dim)`.

    Raises:
        InputError: If the shapes differ; names both.
    """
    left, right = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    if left.shape != right.shape or left.ndim != 2:
        raise InputError(f"Cannot compare row by row: the shapes are {left.shape} and {right.shape}.")
    return np.asarray(1.0 - 0.5 * np.square(unit(left) - unit(right)).sum(axis=1), dtype=np.float32)


def summed_similarity(a: Views, b: Views, *, alpha: float = 1.0, batch_size: int = 128) -> Array:
    """Return the original's "MoEE (sum)" score of paired texts: `cos_HS + alpha * cos_RW`, both standardised.

    Each side is standardised with the statistics of its own batches, as the original does when it encodes the two
    columns of a data set one after the other.

    Args:
        a: Views of the first texts, under the `paper` recipe.
        b: Views of the second texts.
        alpha: Weight of RW; the original's default is 1.
        batch_size: Texts in a batch; the original's published command uses 128.

    Returns:
        `(n,)` float32.
    """
    hidden = [batch_standardise(side.hidden_states, batch_size) for side in (a, b)]
    routing = [batch_standardise(side.routing_weights, batch_size) for side in (a, b)]
    return paired_similarity(*hidden) + np.float32(alpha) * paired_similarity(*routing)


@lru_cache(maxsize=1)
def _load(model_dir: str) -> MoEE:
    # logits: the softmax that the original takes for DeepSeekMoE follows from them, so one pass gives both
    return MoEE.from_pretrained(model_dir, recipe="paper", scoring="logits", dtype="float32")


def _softmax_by_layer(views: Views) -> Array:
    layers = [softmax(views.routing_layer(layer_id)) for layer_id in views.layer_ids]
    return np.concatenate(layers, axis=1)


def embed(model_dir: str | Path, texts: Sequence[str], prompt: str, batch_size: int) -> dict[str, Any]:
    """Return every intermediate of the original's encoder, in float32.

    Args:
        model_dir: Folder of an OLMoE, Qwen2-MoE or DeepSeekMoE checkpoint. The last one used stays loaded.
        texts: Strings, the empty one included.
        prompt: The original's name of a prompt (`prompteol`, `none`, `sentiment`, ...), or one of ours.
        batch_size: Texts in a batch, for the standardisation.

    Returns:
        `prompts` (the strings given to the tokenizer), `hs` `(n, hidden_size)`, `rw` (the routing vector that the
        original uses for this model), `rw_logits` and `rw_probs` `(n, layers * experts)`; `hs_z`, `rw_z` standardised
        over each batch; and `moee_z`, the two side by side.
    """
    model = _load(str(model_dir))
    template = PROMPTS_OF_THE_ORIGINAL.get(prompt, prompt)
    views = model.encode_views(list(texts), prompt=template)
    logits, probabilities = views.routing_weights, _softmax_by_layer(views)
    scoring = recipe_config("paper", model_type=model.info.model_type).scoring
    rw = probabilities if scoring == "softmax" else logits
    hs_z, rw_z = batch_standardise(views.hidden_states, batch_size), batch_standardise(rw, batch_size)
    return {
        "prompts": [render(template, text, cleaning="paper") for text in texts],
        "hs": views.hidden_states,
        "rw": rw,
        "rw_logits": logits,
        "rw_probs": probabilities,
        "hs_z": hs_z,
        "rw_z": rw_z,
        "moee_z": np.concatenate([hs_z, rw_z], axis=1),
    }
