"""Workers: each entry in a process of its own with its own model, so that its peak memory is its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from moee.backends.checkpoint.support import quiet
from moee.bench.entries import OURS, Computed
from moee.bench.run import explain
from moee.bench.weights import Setup, use_threads
from moee.bench.worker import LocalWorker, Repeat
from moee.errors import MoEEError
from rivals.peers import PEERS


class WorkerError(MoEEError):
    """An entry failed in its own process."""


class OwnProcess:
    """An entry in a process of its own.

    Raises:
        WorkerError: If it could not be built there; says why.
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
        """See `Worker`."""
        ids: list[list[int]] = self._ask("token_ids", list(texts))
        return ids

    def vectors(self, texts: Sequence[str]) -> Computed:
        """See `Worker`."""
        vectors: Computed = self._ask("vectors", list(texts))
        return vectors

    def facts(self) -> dict[str, Any]:
        """See `Worker`."""
        facts: dict[str, Any] = self._ask("facts")
        return facts

    def warm_up(self, texts: Sequence[str]) -> None:
        """See `Worker`."""
        self._ask("warm_up", list(texts))

    def repeat(self, texts: Sequence[str], *, one_by_one: bool) -> Repeat:
        """See `Worker`."""
        found: Repeat = self._ask("repeat", list(texts), one_by_one=one_by_one)
        return found

    def close(self) -> None:
        """See `Worker`."""
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
            raise WorkerError(
                f"The process of {self._name} ended with code {code}, without a word. "
                "-9 is the system's answer to too much memory: use fewer peers."
            ) from error
        if not done:
            raise WorkerError(f"{self._name}: {value}")
        return value


def serve(name: str, setup: Setup, pipe: Connection) -> None:
    """Be an entry in this process: build it, then answer until the pipe says None."""
    try:
        use_threads(setup)
        with quiet(bars=False):
            worker = LocalWorker(({**OURS, **PEERS})[name].open(setup, None), setup)
        pipe.send((True, None))
    except Exception as error:  # whatever it is, the other side reports it
        pipe.send((False, explain(error)))
        return
    while (message := pipe.recv()) is not None:
        method, arguments, options = message
        try:
            pipe.send((True, getattr(worker, method)(*arguments, **options)))
        except Exception as error:
            pipe.send((False, explain(error)))
