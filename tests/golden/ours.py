"""The original encoder's intermediates from the `paper` recipe, for `compare.py` to hold against the golden arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from moee.embedder import MoEE
from moee.method.calibration import batch_standardise
from moee.method.config import recipe_config
from moee.method.prompts import render
from moee.method.routing import softmax
from moee.types import Array, Views

PROMPTS_OF_THE_ORIGINAL = {"none": "quoted"}
"""The original's names of prompts that differ from ours: its `none` puts the text in double quotes."""


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
