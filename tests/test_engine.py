from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from moee.backends.fake import FakeBackend
from moee.engine import compute_views, plan_batches, views_of_texts
from moee.errors import InputError, NonFiniteActivationsError
from moee.method.config import RECIPES, EmbedderConfig
from moee.types import Activations, CapturePlan


class CountingBackend(FakeBackend):
    """Keeps the batches it was given."""

    def __init__(self, *, broken: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.batches: list[list[tuple[int, ...]]] = []
        self.broken = broken

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        self.batches.append([tuple(sequence) for sequence in sequences])
        if self.broken in self.batches[-1]:
            raise NonFiniteActivationsError(row=self.batches[-1].index(self.broken), what="router logits of layer 3")
        return super().forward(sequences, plan)


def test_batches_keep_the_budget_and_hold_every_sequence_once() -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(1, 60, size=200)]
    batches = plan_batches(lengths, 128)
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    assert all(max(lengths[index] for index in batch) * len(batch) <= 128 for batch in batches)
    assert max(lengths) == lengths[batches[0][0]]


def test_a_sequence_over_the_budget_gets_a_batch_of_its_own() -> None:
    assert plan_batches([5, 500, 5], 10) == [[1], [0, 2]]


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="batch_tokens is 0; it must be 1 or larger"):
        plan_batches([1], 0)


def test_duplicates_run_once_and_results_keep_the_order_of_input() -> None:
    backend = CountingBackend()
    sequences = [[1, 2], [3], [1, 2], [4, 5, 6], [3]]
    views = compute_views(backend, sequences, CapturePlan(), batch_tokens=4)
    assert sorted(sequence for batch in backend.batches for sequence in batch) == [(1, 2), (3,), (4, 5, 6)]
    for index, sequence in enumerate(sequences):
        alone = compute_views(FakeBackend(), [sequence], CapturePlan(), batch_tokens=64)
        np.testing.assert_array_equal(views.hidden_states[index], alone.hidden_states[0])
        np.testing.assert_array_equal(views.routing_weights[index], alone.routing_weights[0])


def test_progress_counts_every_text_duplicates_included() -> None:
    steps: list[int] = []
    compute_views(
        FakeBackend(),
        [[1], [1], [2, 3]],
        CapturePlan(),
        batch_tokens=2,
        on_batch=lambda places, _views: steps.append(len(places)),
    )
    assert sum(steps) == 3


def test_a_bad_activation_names_the_row_of_the_input() -> None:
    backend = CountingBackend(broken=(9,))
    with pytest.raises(NonFiniteActivationsError, match="Text 2: the router logits of layer 3 is NaN") as caught:
        compute_views(backend, [[1, 2, 3], [4], [9], [9]], CapturePlan(), batch_tokens=100)
    assert caught.value.row == 2


def test_routing_weights_of_each_layer_are_scored_apart() -> None:
    views = compute_views(FakeBackend(), [[1], [2]], CapturePlan(scoring="softmax"), batch_tokens=8)
    for layer in views.layer_ids:
        np.testing.assert_allclose(views.routing_layer(layer).sum(axis=1), 1, atol=1e-6)


def test_the_mean_over_own_tokens_follows_duplicates_and_order() -> None:
    plan = CapturePlan(tokens_layer=1, text_span=(2, 1))
    own = [[7, 8], [], [9], [7, 8]]
    views = compute_views(FakeBackend(), [[1, 2, *each, 3] for each in own], plan, batch_tokens=8)
    assert views.tokens is not None
    assert not views.tokens[1].any()
    np.testing.assert_array_equal(views.tokens[0], views.tokens[3])
    for place in (0, 2):
        alone = compute_views(FakeBackend(), [[4, 5, *own[place], 6]], plan, batch_tokens=8).tokens
        assert alone is not None
        np.testing.assert_allclose(views.tokens[place], alone[0], atol=1e-6)
    assert compute_views(FakeBackend(), [[1, 2, 3]], CapturePlan(), batch_tokens=8).tokens is None


@pytest.mark.parametrize("prompt", ["prompteol", "Passage: {text}", "{text}"])
def test_texts_apart_from_their_template_give_the_mean_of_their_words(prompt: str) -> None:
    config = EmbedderConfig(prompt=prompt, prompt_tokens="apart", on_empty="encode", max_length=12)
    texts = ["two words", "and three words", "words " * 30, *([""] if prompt != "{text}" else [])]
    views = views_of_texts(FakeBackend(), texts, config.replace(truncate="end"), batch_tokens=64, with_tokens=True)
    bare = views_of_texts(FakeBackend(), texts[:3], config.replace(prompt="{text}", truncate="end"), batch_tokens=64)
    assert views.tokens is not None
    # the fake model's layers differ by a turn, and its hidden state is the mean over all tokens
    expected = np.roll(bare.hidden_states, 1, axis=1)
    np.testing.assert_allclose(views.tokens[:3], expected, atol=1e-6)
    assert not views.tokens[3:].any()


def test_the_mean_over_own_tokens_is_refused_where_they_are_not_known() -> None:
    with pytest.raises(InputError, match=r"prompt_tokens is 'filled'.* Use prompt_tokens='apart'"):
        views_of_texts(FakeBackend(), ["a"], RECIPES["0.1"], batch_tokens=8, with_tokens=True)


def test_no_sequences_is_an_error() -> None:
    with pytest.raises(InputError, match="got an empty list"):
        compute_views(FakeBackend(), [], CapturePlan(), batch_tokens=8)
