"""Where contestants sit: in this process around one model, or each in a process of its own with its own model.

A process of its own makes peak memory its own. Where the model is too large to be loaded several times, all share one.
Only one is at work at a time, either way.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from moee.bench.contestants import Contestant, Vectors, build
from moee.bench.machine import copy_bandwidth, gemm_flops, peak_memory, synchronise
from moee.bench.weights import Setup, Weights, quiet
from moee.errors import MoEEError


@dataclass(frozen=True, slots=True)
class Turn:
    """One contestant's turn over a workload.

    Attributes:
        seconds: From texts to vectors, all of them.
        latencies: Seconds of each call, where every text is a call of its own; else empty.
        peak_bytes: Most memory of the process, weights included.
        device_bytes: Most memory on the accelerator; 0 on a CPU.
        gemm_flops: Operations a second of a large matrix product, just before the turn.
        copy_bytes: Bytes a second of a large copy, read and written, just before the turn.
        passes: Forward passes of the turn, at least.
        work: What the contestant counted; None if it counts nothing.
    """

    seconds: float
    latencies: tuple[float, ...]
    peak_bytes: int
    device_bytes: int
    gemm_flops: float
    copy_bytes: float
    passes: int
    work: dict[str, int] | None


class Seat(Protocol):
    """A contestant that can be asked."""

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that it runs."""
        ...

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Return what it computes, for comparison."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what a reader must know of how it ran."""
        ...

    def warm_up(self, texts: Sequence[str]) -> None:
        """Encode the texts once, not timed."""
        ...

    def turn(self, texts: Sequence[str], *, one_by_one: bool) -> Turn:
        """Encode the texts once, timed."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class LocalSeat:
    """A contestant in this process."""

    def __init__(self, contestant: Contestant, setup: Setup) -> None:
        self._contestant = contestant
        self._setup = setup

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Seat`."""
        return self._contestant.token_ids(texts)

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """See `Seat`."""
        self._contestant.prepare(texts)
        return self._contestant.vectors(texts)

    def facts(self) -> dict[str, Any]:
        """See `Seat`."""
        return self._contestant.facts

    def warm_up(self, texts: Sequence[str]) -> None:
        """See `Seat`."""
        self._contestant.prepare(texts)
        self._contestant.encode(texts)

    def turn(self, texts: Sequence[str], *, one_by_one: bool) -> Turn:
        """See `Seat`."""
        contestant, device = self._contestant, self._setup.device
        contestant.prepare(texts)
        calls = [[text] for text in texts] if one_by_one else [list(texts)]
        passes = sum(contestant.passes(call) for call in calls)
        gemm, copy = gemm_flops(self._setup.dtype, device), copy_bandwidth(device)
        latencies = []
        with peak_memory(device) as memory:
            contestant.take_work()  # of the warm-up
            synchronise(device)
            for call in calls:
                start = time.perf_counter()
                contestant.encode(call)
                synchronise(device)
                latencies.append(time.perf_counter() - start)
        return Turn(
            seconds=sum(latencies),
            latencies=tuple(latencies) if one_by_one else (),
            peak_bytes=memory.host,
            device_bytes=memory.device,
            gemm_flops=gemm,
            copy_bytes=copy,
            passes=passes,
            work=contestant.take_work(),
        )

    def close(self) -> None:
        """See `Seat`. The weights may be another's too."""


class SeatError(MoEEError):
    """A contestant failed in its own process."""


class RemoteSeat:
    """A contestant in a process of its own.

    Raises:
        SeatError: If it could not be built there; says why.
    """

    def __init__(self, name: str, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share what torch has opened
        self._pipe, theirs = context.Pipe()
        self._name = name
        self._process = context.Process(target=serve, args=(name, setup, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends when the process does
        self._answer()

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Seat`."""
        ids: list[list[int]] = self._ask("token_ids", list(texts))
        return ids

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """See `Seat`."""
        vectors: Vectors = self._ask("vectors", list(texts))
        return vectors

    def facts(self) -> dict[str, Any]:
        """See `Seat`."""
        facts: dict[str, Any] = self._ask("facts")
        return facts

    def warm_up(self, texts: Sequence[str]) -> None:
        """See `Seat`."""
        self._ask("warm_up", list(texts))

    def turn(self, texts: Sequence[str], *, one_by_one: bool) -> Turn:
        """See `Seat`."""
        turn: Turn = self._ask("turn", list(texts), one_by_one=one_by_one)
        return turn

    def close(self) -> None:
        """See `Seat`."""
        if self._process.is_alive():
            self._pipe.send(None)
        self._process.join()
        self._pipe.close()

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        self._pipe.send((method, arguments, options))
        return self._answer()

    def _answer(self) -> Any:
        try:
            done, value = self._pipe.recv()
        except EOFError as error:
            self._process.join()
            code = self._process.exitcode
            raise SeatError(
                f"The process of {self._name} ended with code {code}, without a word. "
                "-9 is the system's answer to too much memory: use fewer peers."
            ) from error
        if not done:
            raise SeatError(f"{self._name}: {value}")
        return value


def serve(name: str, setup: Setup, pipe: Connection) -> None:
    """Be a contestant in this process: build it, then answer until the pipe says None."""
    try:
        use_threads(setup)
        with quiet():
            seat = LocalSeat(build(name, setup), setup)
        pipe.send((True, None))
    except Exception as error:  # whatever it is, the other side reports it
        pipe.send((False, explain(error)))
        return
    while (message := pipe.recv()) is not None:
        method, arguments, options = message
        try:
            pipe.send((True, getattr(seat, method)(*arguments, **options)))
        except Exception as error:
            pipe.send((False, explain(error)))


def explain(error: Exception) -> str:
    """Return an error as one line: our own words, or the kind and first line of another's."""
    if isinstance(error, MoEEError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def use_threads(setup: Setup) -> None:
    """Give torch its threads."""
    import torch

    torch.set_num_threads(setup.threads)


def open_seat(name: str, setup: Setup, weights: Weights | None) -> Seat:
    """Seat a contestant.

    Args:
        name: Of the contestant.
        setup: What it is built from.
        weights: A model to share in this process; None is a process of its own.
    """
    if weights is None:
        return RemoteSeat(name, setup)
    with quiet():
        return LocalSeat(build(name, setup, weights), setup)
