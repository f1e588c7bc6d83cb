"""Requests together through one model: a bounded queue, and one thread that owns the model.

While the model works on one turn, what arrives waits. The next turn takes whoever came first, and of the others as many
as fit into its budget of tokens. Nothing waits for company: an idle model starts at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from moee.serve.encoder import Encoder, Options, Part, Vectors
from moee.serve.errors import overloaded
from moee.serve.metrics import Metrics
from moee.serve.settings import Settings

T = TypeVar("T")

_FIRST_GUESS = 1000.0
"""Speed in tokens a second before any turn was measured; it decides only what Retry-After says."""
_MEMORY = 0.2
"""Weight of the last turn in the running mean of the speed."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What became of a request.

    Attributes:
        vectors: One row for each text.
        queue_s: Seconds until the model took the last part.
        inference_s: Seconds of the model's turns, which other requests may have shared.
    """

    vectors: Vectors
    queue_s: float
    inference_s: float


@dataclass(slots=True, eq=False)  # a queue removes a job itself, not one that is equal
class _Job:
    """A part of a request, or a call that needs the model for itself."""

    work: Part | Callable[[], Any]
    tokens: int
    done: asyncio.Future[Any]
    queued_at: float = field(default_factory=time.perf_counter)


class Batcher:
    """The queue before the model."""

    def __init__(self, encoder: Encoder, settings: Settings, metrics: Metrics) -> None:
        self._encoder = encoder
        self._settings = settings
        self._metrics = metrics
        self._waiting: deque[_Job] = deque()
        self._waiting_tokens = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._dispatcher: asyncio.Task[None] | None = None
        self._speed = _FIRST_GUESS

    def start(self) -> None:
        """Begin to take turns; called inside the event loop."""
        self._dispatcher = asyncio.create_task(self._dispatch(), name="dispatcher")

    async def stop(self) -> None:
        """Let the running turn end, and drop what still waits."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._dispatcher
        for job in self._waiting:
            job.done.cancel()
        self._waiting.clear()
        await asyncio.to_thread(self._thread.shutdown)

    @property
    def waiting_tokens(self) -> int:
        """Tokens in the queue."""
        return self._waiting_tokens

    @property
    def waiting_s(self) -> float:
        """Seconds that the queue is expected to take."""
        return self._waiting_tokens / self._speed

    async def encode(
        self, texts: Sequence[str], tokens: Sequence[int], options: Options, token_ids: Sequence[list[int]]
    ) -> Encoded:
        """Turn a request's texts into vectors.

        A request that fits into one turn stays in one piece; a longer one is cut, so that it does not keep others
        waiting until all of it is done.

        Args:
            texts: Checked, within the model's limit or to be cut.
            tokens: Number of tokens of each text.
            options: What the request asks for.
            token_ids: Token ids of every text with its prompt, before any cut.

        Raises:
            Refusal: If too many tokens wait already.
            MoEEError: If the texts cannot be embedded.
        """
        total = sum(tokens)
        limit = self._settings.max_queue_tokens
        if self._waiting and self._waiting_tokens + total > limit:
            raise overloaded(
                f"{self._waiting_tokens} tokens wait for the model and this request has {total}; the limit is {limit}.",
                retry_after_s=self.waiting_s,
            )
        jobs = [
            self._job(Part(texts[start:stop], options, token_ids[start:stop]), sum(tokens[start:stop]))
            for start, stop in _pieces(tokens, self._settings.max_batch_tokens)
        ]
        turns = await self._finished(jobs)
        return Encoded(
            Vectors.join([vectors for vectors, _, _ in turns]),
            queue_s=max(queue_s for _, queue_s, _ in turns),
            inference_s=sum(inference_s for _, _, inference_s in turns),
        )

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function on the model's thread, in its turn."""
        turns = await self._finished([self._job(function, 0)])
        result: T = turns[0][0]
        return result

    def _job(self, work: Part | Callable[[], Any], tokens: int) -> _Job:
        return _Job(work, tokens, asyncio.get_running_loop().create_future())

    async def _finished(self, jobs: list[_Job]) -> list[tuple[Any, float, float]]:
        """Queue jobs and wait for them; whoever stops waiting takes them out of the queue again."""
        self._waiting.extend(jobs)
        self._count(sum(job.tokens for job in jobs))
        self._arrived.set()
        try:
            return [await job.done for job in jobs]
        finally:
            for job in jobs:
                self._forget(job)

    def _forget(self, job: _Job) -> None:
        if not job.done.cancel() and not job.done.cancelled():
            job.done.exception()  # seen: another piece of the request failed first
        with suppress(ValueError):  # it is not in the queue any more
            self._waiting.remove(job)
            self._count(-job.tokens)

    def _count(self, tokens: int) -> None:
        self._waiting_tokens += tokens
        self._metrics.queue_size.set(len(self._waiting))
        self._metrics.queue_tokens.set(self._waiting_tokens)

    async def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                self._arrived.clear()
                continue
            started = time.perf_counter()
            results = await loop.run_in_executor(self._thread, self._run, batch)
            self._settle(batch, results, started)

    def _take(self) -> list[_Job]:
        """Take the first job out of the queue, and what may go with it: parts of the same prompt that fit."""
        batch: list[_Job] = []
        rest: deque[_Job] = deque()
        tokens = 0
        most = self._settings.max_batch_requests or len(self._waiting)
        for job in self._waiting:
            fits = tokens + job.tokens <= self._settings.max_batch_tokens and len(batch) < most
            if not batch or (fits and _share(batch[0], job)):
                batch.append(job)
                tokens += job.tokens
            else:
                rest.append(job)
        self._waiting = rest
        self._count(-tokens)
        return batch

    def _run(self, batch: Sequence[_Job]) -> list[Any]:
        """Work on one turn, in the model's thread; return a result or an exception for every job."""
        parts = [job.work for job in batch if isinstance(job.work, Part)]
        try:
            if parts:
                return list(self._encoder.encode(parts))
            return [job.work() for job in batch if not isinstance(job.work, Part)]
        except Exception as error:  # it belongs to whoever asked; the thread serves others too
            return [error] * len(batch)

    def _settle(self, batch: Sequence[_Job], results: Sequence[Any], started: float) -> None:
        seconds = time.perf_counter() - started
        tokens = sum(job.tokens for job in batch)
        if tokens:
            self._speed += _MEMORY * (tokens / seconds - self._speed)
            self._metrics.batch_size.observe(len(batch))
            self._metrics.batch_tokens.observe(tokens)
            self._metrics.inference.observe(seconds)
        for job, result in zip(batch, results, strict=True):
            self._metrics.queued.observe(started - job.queued_at)
            if job.done.done():
                continue  # nobody waits for it any more
            if isinstance(result, Exception):
                job.done.set_exception(result)
            else:
                job.done.set_result((result, started - job.queued_at, seconds))


def _share(first: _Job, other: _Job) -> bool:
    """Whether two jobs can go to the model together."""
    if not isinstance(first.work, Part) or not isinstance(other.work, Part):
        return False
    return first.work.options.prompt == other.work.options.prompt


def _pieces(tokens: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Cut a list of texts into runs of at most `most` tokens; a longer text is a run of its own."""
    pieces: list[tuple[int, int]] = []
    start = total = 0
    for place, count in enumerate(tokens):
        if place > start and total + count > most:
            pieces.append((start, place))
            start, total = place, 0
        total += count
    return [*pieces, (start, len(tokens))]
