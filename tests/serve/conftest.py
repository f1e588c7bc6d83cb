"""Real servers on loopback: in a thread where a test looks at the model, in a process where it sends signals."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest

from moee import MoEE
from moee.backends.fake import FakeBackend
from moee.index.searcher import Searcher
from moee.method.config import EmbedderConfig
from moee.serve.app import create_app
from moee.serve.server import build_server, listen, url_of
from moee.serve.service import Service
from moee.serve.settings import Settings
from moee.types import Activations, CapturePlan

CHECKPOINT = Path(__file__).parents[1] / "golden" / "olmoe-tiny"
PLAIN = EmbedderConfig(calibration="none", prompt_tokens="apart")


@dataclass
class Running:
    """A server that runs."""

    url: str
    service: Service
    client: httpx.Client

    def post(self, path: str, **body: Any) -> httpx.Response:
        # as json.dumps writes it: httpx itself could not send half of a surrogate pair
        return self.client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})

    def connect(self) -> socket.socket:
        """Open a connection, to send what no client would."""
        url = httpx.URL(self.url)
        assert url.port is not None
        return socket.create_connection((url.host, url.port), timeout=60)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Read a whole answer, in however many pieces it arrives; return its status and body."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def is_ended(connection: socket.socket) -> bool:
    """Wait for the other side; True if it ends the connection, and False if it sends something."""
    with suppress(ConnectionError):
        return connection.recv(1) == b""
    return True


Serve = Callable[..., AbstractContextManager[Running]]


class WatchedBackend(FakeBackend):
    """The fake model; counts what it is asked, and works only while it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.prompts: list[str] = []
        self.may_work = threading.Event()
        self.may_work.set()
        self.has_begun = threading.Event()

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        self.prompts += prompts
        return super().tokenize(prompts)

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        self.batches.append(len(sequences))
        self.has_begun.set()
        assert self.may_work.wait(120), "the test never let the model work"
        return super().forward(sequences, plan)

    def hold(self) -> None:
        """Let the model stop in its next batch."""
        self.has_begun.clear()
        self.may_work.clear()


@contextmanager
def serving(embedder: MoEE, searcher: Searcher | None = None, **settings: Any) -> Iterator[Running]:
    """Run a server in a thread, on a free port."""
    chosen = Settings(port=0, **settings)
    app = create_app(embedder, chosen, searcher)
    listener = listen(chosen)
    url = url_of(listener)
    ready = threading.Event()
    server = build_server(app, chosen, ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        assert ready.wait(120), "the server did not start"
        with httpx.Client(base_url=url, timeout=120) as client:
            yield Running(url, app.state.service, client)
    finally:
        server.handle_exit(signal.SIGTERM, None)
        thread.join(120)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def serve() -> Serve:
    return serving


@pytest.fixture
def backend() -> WatchedBackend:
    return WatchedBackend()


@pytest.fixture
def fake(backend: WatchedBackend) -> MoEE:
    return MoEE(backend, PLAIN)


@pytest.fixture(scope="session")
def tiny() -> MoEE:
    """A real model with a real tokenizer, small enough for every test."""
    return MoEE.from_pretrained(CHECKPOINT, dtype="float32", calibration="none")
