"""A backend without weights: every vector is drawn from a generator seeded by the tokens.

For tests, for examples, and for trying the commands before a model is at hand. It keeps every promise of a real
backend (a text's vector depends on the text alone) and says nothing about meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from moee.backends.base import closed
from moee.errors import InputError
from moee.method.prompts import TemplateParts, TextParts
from moee.method.routing import chosen_layers, score_experts
from moee.types import Activations, CapturePlan, ModelInfo

_HIDDEN_SIZE = 16
_LAYERS = 2
_EXPERTS = 8
_TOP_K = 2
_MAX_TOKENS = 4096
_RANDOM_MAP = np.random.default_rng(0).standard_normal((_HIDDEN_SIZE, _LAYERS, _EXPERTS)).astype(np.float32)


class FakeBackend:
    """Deterministic random activations: a mean over tokens of fixed random vectors, the last token counting most."""

    def __init__(self) -> None:
        self._is_closed = False
        self._info = ModelInfo(
            name="fake",
            fingerprint="fake-1",
            model_type="fake",
            hidden_size=_HIDDEN_SIZE,
            num_layers=_LAYERS,
            layer_ids=tuple(range(_LAYERS)),
            num_experts=(_EXPERTS,) * _LAYERS,
            top_k=(_TOP_K,) * _LAYERS,
            scoring_func="softmax",
            max_tokens=_MAX_TOKENS,
            dtype="float32",
            device="cpu",
        )

    @property
    def info(self) -> ModelInfo:
        """What the layers above may know of the model."""
        return self._info

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """One token a word: a hash of it, or a single 0 for a whole prompt without words."""
        self._check_open()
        is_part = isinstance(prompts, (TemplateParts, TextParts))
        limit = prompts.limit if isinstance(prompts, TextParts) else None
        return [_hashes(prompt)[:limit] or ([] if is_part else [0]) for prompt in prompts]

    def detokenize(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Refuse: a hash does not lead back to its word."""
        raise InputError(
            "The fake model cannot turn token ids back into text: its tokens are hashes of words. Send texts, or use a "
            "model with a tokenizer, such as 'demo'."
        )

    def run(
        self, batches: Sequence[Sequence[Sequence[int]]], plan: CapturePlan, *, shared: int = 0
    ) -> Iterator[Activations]:
        """Draw the activations of batches. See `base.Backend.run`."""
        for sequences in batches:
            yield self.forward(sequences, plan)

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        """Draw the activations of one batch."""
        self._check_open()
        layers = chosen_layers(plan.routing_layers, range(_LAYERS), _LAYERS)
        drawn = np.stack([_draw(sequence) for sequence in sequences])
        hidden, routers = drawn[:, :_HIDDEN_SIZE], drawn[:, _HIDDEN_SIZE:].reshape(len(sequences), _LAYERS, _EXPERTS)
        routing = routers[:, layers]
        is_scored = plan.routing_pooling != "last_token"
        if is_scored:
            routing = score_experts(routing, plan.scoring, scoring_func="softmax", top_k=_TOP_K)
        return Activations(
            hidden_states=np.ascontiguousarray(hidden),
            routing=routing.reshape(len(sequences), -1),
            is_scored=is_scored,
            layer_ids=layers,
            num_experts=(_EXPERTS,) * len(layers),
            top_k=(_TOP_K,) * len(layers),
            tokens=None if plan.tokens_layer is None else np.stack([_own(each, plan) for each in sequences]),
            projections=(hidden @ _RANDOM_MAP[:, layers].reshape(_HIDDEN_SIZE, -1)) if plan.projections else None,
        )

    def close(self) -> None:
        """Refuse all work from now on, as a backend with weights does."""
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise closed(self._info.name)


def _own(sequence: Sequence[int], plan: CapturePlan) -> np.typing.NDArray[np.float32]:
    """Mean over a text's own tokens, `(hidden,)`; a layer turns it by its number."""
    assert plan.tokens_layer is not None, "asked only where one is"
    before, after = plan.text_span
    own = sequence[before : len(sequence) - after]
    drawn = _draw(own)[:_HIDDEN_SIZE] if own else np.zeros(_HIDDEN_SIZE, dtype=np.float32)
    return np.roll(drawn, plan.tokens_layer % _LAYERS)


def _hashes(words: str) -> list[int]:
    return [int.from_bytes(hashlib.blake2b(word.encode(), digest_size=3).digest()) for word in words.split()]


def _draw(sequence: Sequence[int]) -> np.typing.NDArray[np.float32]:
    """Mean of one fixed random vector per token, `(hidden + layers * experts,)`."""
    width = _HIDDEN_SIZE + _LAYERS * _EXPERTS
    vectors = [np.random.default_rng(token).standard_normal(width) for token in sequence]
    return np.asarray(np.mean(vectors, axis=0), dtype=np.float32)
