"""Token ids back into texts, and which of them are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moee.backends.base import Backend
from moee.backends.checkpoint.support import LoadOptions
from moee.backends.fake import FakeBackend
from moee.backends.open import open_backend
from moee.errors import InputError

CHECKPOINT = Path(__file__).parents[2] / "golden" / "olmoe-tiny"
TEXTS = ["A cat sat down.", "  two  spaces, and a tab\t", "naïve café, 東京", 'This sentence : "x" means']


@pytest.fixture(scope="module")
def backend() -> Backend:
    return open_backend(str(CHECKPOINT), LoadOptions(dtype="float32"))


def test_what_was_tokenized_comes_back_unchanged(backend: Backend) -> None:
    assert backend.detokenize(backend.tokenize(TEXTS)) == TEXTS


def test_no_sequences_are_no_texts(backend: Backend) -> None:
    assert backend.detokenize([]) == []


@pytest.mark.parametrize("token", [-1, 10**6, 2**70])
def test_an_id_outside_the_vocabulary_is_refused_with_its_place(backend: Backend, token: int) -> None:
    with pytest.raises(InputError, match=rf"Sequence 1 holds the token id {token}; the tokenizer of .* has ids 0 to"):
        backend.detokenize([[0, 1], [2, token]])


def test_the_fake_model_says_that_it_cannot() -> None:
    with pytest.raises(InputError, match="cannot turn token ids back into text"):
        FakeBackend().detokenize([[1, 2]])


def test_threads_may_use_the_tokenizer_at_once(backend: Backend) -> None:
    alone = backend.tokenize(TEXTS)

    def there_and_back(_: int) -> bool:
        return backend.tokenize(TEXTS) == alone and backend.detokenize(alone) == TEXTS

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(200)))
