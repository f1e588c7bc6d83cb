"""The queue before the model: what goes together, in which order, and what becomes of those who stop waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.backends.fake import FakeBackend
from moee.errors import InputError, NonFiniteActivationsError
from moee.serve.batcher import Batcher, _pieces
from moee.serve.encoder import Encoder, Options, Part
from moee.serve.metrics import Metrics
from moee.serve.service import Service
from moee.serve.settings import Settings
from moee.types import Activations, CapturePlan
from tests.serve.conftest import PLAIN, WatchedBackend

DEFAULT = Options("prompteol")


@asynccontextmanager
async def batching(embedder: MoEE, *, prompts: Sequence[str] = (), **settings: Any) -> AsyncIterator[Batcher]:
    batcher = Batcher(Encoder(embedder, prompts), Settings(**settings), Metrics())
    batcher.start()
    yield batcher
    await batcher.stop()


async def queued(batcher: Batcher, *requests: Any) -> list[asyncio.Task[Any]]:
    """Start requests, each in the queue before the next."""
    tasks = []
    for request in requests:
        tasks.append(asyncio.create_task(request))
        await settled()
    return tasks


async def settled() -> None:
    """Let every task go on until it waits for a thread: a number of turns of the loop, however long they take."""
    for _ in range(50):
        await asyncio.sleep(0)


def embedding(batcher: Batcher, texts: list[str], tokens: list[int] | None = None, options: Options = DEFAULT) -> Any:
    token_ids = batcher._encoder.tokenize(texts, options.prompt)
    return batcher.encode(texts, tokens or [10] * len(texts), options, token_ids)


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


def test_texts_apart_from_their_template_are_served_as_they_are_encoded(tiny: MoEE) -> None:
    apart = tiny.with_settings(prompt_tokens="apart", weights={"hs": 1, "tokens": 0.5}, max_length=20)
    texts = ["what is it?", "a cat", "many words " * 30]
    encoder = Encoder(apart)
    parts = [Part([text], DEFAULT, encoder.tokenize([text], "prompteol")) for text in texts]
    served = [found.fused[0] for found in encoder.encode(parts) if not isinstance(found, Exception)]
    np.testing.assert_allclose(served, apart.with_settings(truncate="end").encode(texts), atol=1e-5)


def test_requests_that_wait_share_a_turn_and_get_their_own_vectors(fake: MoEE, backend: WatchedBackend) -> None:
    texts = [["a"], ["b c", "d"], ["e", "a", "f g h"]]

    async def test() -> None:
        async with batching(fake) as batcher:
            backend.hold()
            tasks = await queued(batcher, embedding(batcher, ["first"]), *(embedding(batcher, each) for each in texts))
            backend.may_work.set()
            _, *results = await asyncio.gather(*tasks)
        for each, result in zip(texts, results, strict=True):
            np.testing.assert_allclose(result.vectors.fused, fake.encode(each), atol=1e-6)

    backend.batches.clear()
    run(test)
    assert backend.batches[:2] == [1, 5]  # six texts, one of them twice


def test_a_turn_stays_within_its_budget_of_tokens(fake: MoEE, backend: WatchedBackend) -> None:
    async def test() -> None:
        async with batching(fake, max_batch_tokens=100) as batcher:
            backend.hold()
            sizes = (10, 60, 60, 30)
            tasks = await queued(batcher, *(embedding(batcher, [f"t{n}"], [size]) for n, size in enumerate(sizes)))
            backend.may_work.set()
            await asyncio.gather(*tasks)

    backend.batches.clear()
    run(test)
    assert backend.batches == [1, 2, 1]  # 10, then 60 with 30, then the other 60


def test_a_turn_stays_within_its_number_of_requests(fake: MoEE, backend: WatchedBackend) -> None:
    async def test() -> None:
        async with batching(fake, max_batch_requests=2) as batcher:
            backend.hold()
            tasks = await queued(batcher, *(embedding(batcher, [f"t{n}"]) for n in range(6)))
            backend.may_work.set()
            await asyncio.gather(*tasks)

    backend.batches.clear()
    run(test)
    assert backend.batches == [1, 2, 2, 1]


def test_a_request_larger_than_a_turn_is_cut_and_others_come_between(fake: MoEE, backend: WatchedBackend) -> None:
    order: list[str] = []
    large = [f"large {number}" for number in range(6)]

    async def noting(name: str, request: Any) -> Any:
        result = await request
        order.append(name)
        return result

    async def test() -> None:
        async with batching(fake, max_batch_tokens=20) as batcher:
            backend.hold()
            tasks = await queued(
                batcher,
                noting("large", embedding(batcher, large)),
                noting("small", batcher.call(lambda: None)),
            )
            backend.may_work.set()
            result, _ = await asyncio.gather(*tasks)
        np.testing.assert_allclose(result.vectors.fused, fake.encode(large), atol=1e-6)

    backend.batches.clear()
    run(test)
    assert backend.batches[:3] == [2, 2, 2]
    assert order == ["large", "small"]


@pytest.mark.parametrize(
    ("tokens", "pieces"),
    [
        ([5], [(0, 1)]),
        ([5, 5], [(0, 2)]),
        ([5, 6], [(0, 1), (1, 2)]),
        ([50], [(0, 1)]),
        ([50, 1, 50, 1, 1], [(0, 1), (1, 2), (2, 3), (3, 5)]),
    ],
)
def test_pieces_fit_into_a_turn_unless_one_text_does_not(tokens: list[int], pieces: list[tuple[int, int]]) -> None:
    assert _pieces(tokens, 10) == pieces


def test_options_differ_within_a_turn_and_prompts_do_not(fake: MoEE, backend: WatchedBackend) -> None:
    chosen = [
        DEFAULT,
        replace(DEFAULT, fusion="hs"),
        replace(DEFAULT, alpha=0.25),
        Options("ke"),
        replace(DEFAULT, fusion="rw", normalize=False),
        replace(DEFAULT, views=("hs", "rw")),
        replace(DEFAULT, fusion="hs", views=("lexical", "tokens")),
        replace(DEFAULT, weights=(("hs", 1.0), ("tokens", 0.5), ("lexical", 0.25))),
        Options("ke", fusion="concat"),
    ]

    async def test() -> None:
        async with batching(fake, prompts=["ke"]) as batcher:
            backend.hold()
            tasks = await queued(
                batcher,
                embedding(batcher, ["first"]),
                *(embedding(batcher, ["a b", "c"], None, each) for each in chosen),
            )
            backend.may_work.set()
            _, *results = await asyncio.gather(*tasks)
        for each, result in zip(chosen, results, strict=True):
            expected = fake.encode(["a b", "c"], prompt=each.prompt, **each.changes)
            np.testing.assert_allclose(result.vectors.fused, expected, atol=1e-6)
            assert tuple(result.vectors.views) == each.views
            for name, rows in result.vectors.views.items():
                np.testing.assert_allclose(rows, fake.encode(["a b", "c"], weights={name: 1}), atol=1e-6)

    backend.batches.clear()
    run(test)
    assert backend.batches[:3] == [1, 2, 2]  # a run for each prompt; equal texts are computed once


class FragileBackend(FakeBackend):
    """Fails at a text that holds the word `poison`."""

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        poison = self.tokenize(["poison"])[0][0]
        for row, sequence in enumerate(sequences):
            if poison in sequence:
                raise NonFiniteActivationsError(row=row, what="hidden state")
        return super().forward(sequences, plan)


def test_a_text_that_fails_takes_no_other_request_with_it() -> None:
    fake = MoEE(FragileBackend(), PLAIN)
    blocking = threading.Event()

    async def test() -> None:
        async with batching(fake) as batcher:
            first = asyncio.create_task(batcher.call(lambda: blocking.wait(60)))
            await settled()
            tasks = await queued(
                batcher,
                embedding(batcher, ["good"]),
                embedding(batcher, ["fine", "this is poison here"]),
                embedding(batcher, ["better"]),
            )
            blocking.set()
            await first
            good, bad, better = await asyncio.gather(*tasks, return_exceptions=True)
        np.testing.assert_allclose(good.vectors.fused, fake.encode(["good"]), atol=1e-6)
        np.testing.assert_allclose(better.vectors.fused, fake.encode(["better"]), atol=1e-6)
        assert isinstance(bad, NonFiniteActivationsError)
        assert bad.row == 1  # in its own request

    run(test)


def test_whoever_stops_waiting_leaves_the_queue(fake: MoEE, backend: WatchedBackend) -> None:
    async def test() -> None:
        async with batching(fake) as batcher:
            backend.hold()
            first, second, third = await queued(
                batcher, embedding(batcher, ["a"]), embedding(batcher, ["b"]), embedding(batcher, ["c"])
            )
            assert batcher.waiting_tokens == 20
            second.cancel()
            with suppress(asyncio.CancelledError):
                await second
            assert batcher.waiting_tokens == 10
            first.cancel()  # it is with the model, which finishes it for nobody
            with suppress(asyncio.CancelledError):
                await first
            backend.may_work.set()
            await third

    backend.batches.clear()
    run(test)
    assert backend.batches == [1, 1]


def test_a_call_has_the_model_to_itself_and_its_errors_are_its_own(fake: MoEE) -> None:
    def fail() -> None:
        raise InputError("no")

    async def test() -> None:
        async with batching(fake) as batcher:
            assert await batcher.call(lambda: 5) == 5
            with pytest.raises(InputError, match="no"):
                await batcher.call(fail)
            assert (await embedding(batcher, ["a"])).vectors.fused.shape == (1, sum(fake.dims.values()))

    run(test)


def test_vectors_that_depend_on_their_batch_are_not_served() -> None:
    with pytest.raises(InputError, match="served, where texts of different clients share a batch"):
        Encoder(MoEE(FakeBackend(), replace(PLAIN, calibration="batch")))


def test_statistics_are_fitted_before_anyone_waits(backend: WatchedBackend) -> None:
    embedder = MoEE(backend, PLAIN.replace(calibration="zscore"))
    encoder = Encoder(embedder, ["ke"])
    encoder.prepare()
    backend.batches.clear()
    embedder.encode(["a"], prompt="ke")
    embedder.encode(["a"])
    assert backend.batches == [1, 1]


def test_a_request_is_tokenized_once(backend: WatchedBackend) -> None:
    embedder = MoEE(backend, PLAIN.replace(max_length=40))
    texts = ["a b", "c", "long " * 60, "a b"]
    service = Service(embedder, Settings())
    options = Options("prompteol")
    backend.prompts.clear()

    async def test() -> None:
        service.start()
        encoded, tokens = await service.embed(texts, options, truncate=True, param="inputs")
        assert sum("a b" in prompt for prompt in backend.prompts) == 1
        assert tokens == sum(min(40, len(each)) for each in service.encoder.tokenize(texts, "prompteol"))
        expected = embedder.with_settings(truncate="end").encode(texts)
        np.testing.assert_allclose(encoded.vectors.fused, expected, atol=1e-6)
        await service.stop()

    run(test)
