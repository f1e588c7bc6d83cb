"""What the server refuses when there is too much of it, and how it ends what takes too long."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from moee import MoEE
from moee.serve.limits import HELD_BODIES
from moee.serve.server import HEADER_BYTES
from tests.serve.conftest import Serve, WatchedBackend, is_ended, read_answer


def in_threads(*requests: Callable[[], httpx.Response]) -> list[threading.Thread]:
    threads = [threading.Thread(target=request, daemon=True) for request in requests]
    for thread in threads:
        thread.start()
    return threads


def wait_until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class Background:
    """Requests that are on their way while a test goes on."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[httpx.Response] = []
        self._threads: list[threading.Thread] = []

    def post(self, path: str, **body: Any) -> None:
        def work() -> None:
            self.answers.append(httpx.post(f"{self.url}{path}", json=body, timeout=120))

        self._threads += in_threads(work)

    def join(self) -> list[httpx.Response]:
        for thread in self._threads:
            thread.join(120)
        return self.answers


def test_too_large_a_body_is_refused_by_its_announced_length_alone(serve: Serve, fake: MoEE) -> None:
    with serve(fake, payload_limit=1000) as server, server.connect() as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n")  # and no body
        status, body = read_answer(connection)
    assert status == 413
    assert b"larger than 1000 bytes" in body


def test_too_large_a_body_of_unknown_length_is_refused_before_its_end(serve: Serve, fake: MoEE) -> None:
    with serve(fake, payload_limit=1000) as server, server.connect() as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            connection.sendall(b"190\r\n" + b" " * 400 + b"\r\n")  # three times 400 bytes, and no end
        status, _ = read_answer(connection)
    assert status == 413


def test_a_body_at_the_limit_is_accepted(serve: Serve, fake: MoEE) -> None:
    body = json.dumps({"inputs": "a"}).encode()
    with serve(fake, payload_limit=len(body)) as server:
        headers = {"content-type": "application/json"}
        assert server.client.post("/embed", content=body, headers=headers).status_code == 200
        assert server.client.post("/embed", content=body + b" ", headers=headers).status_code == 413


def test_all_bodies_together_are_bounded(serve: Serve, fake: MoEE, backend: WatchedBackend) -> None:
    with serve(fake, payload_limit=1000) as server:
        backend.hold()
        background = Background(server.url)
        for _ in range(HELD_BODIES):
            background.post("/embed", inputs="a" * 980)
        wait_until(lambda: server.service.admission._working == HELD_BODIES)
        refused = server.post("/embed", inputs="a" * 980)
        backend.may_work.set()
        assert {answer.status_code for answer in background.join()} == {200}
        assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
        assert server.post("/embed", inputs="a" * 980).status_code == 200


def test_more_texts_than_the_limit_are_refused(serve: Serve, fake: MoEE, backend: WatchedBackend) -> None:
    with serve(fake, max_client_batch_size=3) as server:
        backend.batches.clear()
        for path, body in (
            ("/embed", {"inputs": ["a"] * 4}),
            ("/embed", {"inputs": [[1]] * 4}),
            ("/v1/embeddings", {"input": ["a"] * 4, "model": "fake"}),
            ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"] * 3}}),
            ("/rerank", {"query": "a", "texts": ["b"] * 4}),
            ("/v1/rerank", {"query": "a", "documents": ["b"] * 4, "model": "fake"}),
        ):
            answer = server.post(path, **body)
            assert answer.status_code == 413, path
            assert "the limit of this server is 3" in answer.text
        assert backend.batches == []
        assert server.post("/embed", inputs=["a"] * 3).status_code == 200


def test_more_tokens_than_ever_fit_are_refused(serve: Serve, fake: MoEE) -> None:
    with serve(fake, max_queue_tokens=20) as server:
        answer = server.post("/embed", inputs=["a b c d e f g h", "a b c d e f g h"])
        assert answer.status_code == 413
        assert "the limit of this server is 20" in answer.json()["error"]
        assert server.post("/embed", inputs="a").status_code == 200


def test_a_full_server_answers_429_with_retry_after_and_recovers(
    serve: Serve, fake: MoEE, backend: WatchedBackend
) -> None:
    with serve(fake, max_concurrent_requests=3) as server:
        backend.hold()
        background = Background(server.url)
        for _ in range(3):
            background.post("/embed", inputs="a")
        wait_until(lambda: server.service.admission._working == 3)
        for path, body in (("/embed", {"inputs": "a"}), ("/v1/embeddings", {"input": "a", "model": "fake"})):
            answer = server.post(path, **body)
            assert answer.status_code == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert server.client.get("/health").status_code == 200  # it is busy, not ill
        backend.may_work.set()
        assert [answer.status_code for answer in background.join()] == [200] * 3
        assert server.post("/embed", inputs="a").status_code == 200


def test_more_tokens_than_may_wait_are_429_while_the_queue_is_not_empty(
    serve: Serve, fake: MoEE, backend: WatchedBackend
) -> None:
    with serve(fake, max_queue_tokens=30) as server:
        backend.hold()
        background = Background(server.url)
        background.post("/embed", inputs="in work")
        assert backend.has_begun.wait(120)
        background.post("/embed", inputs="a b c d e f g h")
        wait_until(lambda: server.service.batcher.waiting_tokens > 0)
        refused = server.post("/embed", inputs="a b c d e f g h i j k l m")
        backend.may_work.set()
        assert [answer.status_code for answer in background.join()] == [200, 200]
    assert refused.status_code == 429
    assert "tokens wait for the model" in refused.json()["error"]


def test_a_request_that_takes_too_long_is_answered_504_and_leaves_the_queue(
    serve: Serve, fake: MoEE, backend: WatchedBackend
) -> None:
    with serve(fake, request_timeout=2.0) as server:
        backend.hold()
        background = Background(server.url)
        background.post("/embed", inputs="in work")
        assert backend.has_begun.wait(120)
        waiting = server.post("/v1/embeddings", input="in the queue", model="fake")
        assert (waiting.status_code, waiting.json()["error"]["type"]) == (504, "server_error")
        in_work = background.join()[0]
        assert (in_work.status_code, in_work.json()["error_type"]) == (504, "timeout")
        assert server.service.batcher.waiting_tokens == 0
        backend.batches.clear()
        backend.may_work.set()
        assert server.post("/embed", inputs="later").status_code == 200
        assert backend.batches == [1], "what nobody waited for was not computed"


def test_a_body_that_does_not_arrive_in_time_is_answered_504(serve: Serve, fake: MoEE) -> None:
    with serve(fake, request_timeout=0.5) as server, server.connect() as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert read_answer(connection)[0] == 504


def test_a_client_that_goes_away_leaves_the_queue(serve: Serve, fake: MoEE, backend: WatchedBackend) -> None:
    with serve(fake) as server:
        backend.hold()
        background = Background(server.url)
        background.post("/embed", inputs="in work")
        assert backend.has_begun.wait(120)
        with server.connect() as connection:
            head = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 18\r\n\r\n"
            connection.sendall(head + b'{"inputs": "gone"}')
            wait_until(lambda: server.service.batcher.waiting_tokens > 0)
        wait_until(lambda: server.service.admission._working == 1)
        assert server.service.batcher.waiting_tokens == 0
        backend.batches.clear()
        backend.may_work.set()
        assert background.join()[0].status_code == 200
        assert server.post("/embed", inputs="later").status_code == 200
        assert backend.batches == [1]


def test_too_long_headers_are_refused(serve: Serve, fake: MoEE) -> None:
    with serve(fake) as server, server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nx: " + b"a" * HEADER_BYTES)
        assert read_answer(connection)[0] == 400


@pytest.mark.parametrize("begin", [b"", b"GET /health HTTP/1.1\r\nhost: x\r\n"])
def test_headers_that_do_not_arrive_end_the_connection(
    serve: Serve, fake: MoEE, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr("moee.serve.server.HEADER_SECONDS", 0.3)
    with serve(fake) as server, server.connect() as connection:
        with suppress(ConnectionError):  # it may be ended before all is sent
            for place in range(len(begin)):  # a byte at a time does not put it off
                connection.sendall(begin[place : place + 1])
                time.sleep(0.005)
        assert is_ended(connection)


def test_a_slow_second_request_on_a_connection_is_ended_too(
    serve: Serve, fake: MoEE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moee.serve.server.HEADER_SECONDS", 2.0)
    with serve(fake) as server, server.connect() as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read_answer(connection)[0] == 200
        connection.sendall(b"GET /ping HT")
        assert is_ended(connection)


def test_a_model_that_takes_long_is_no_slow_client(
    serve: Serve, fake: MoEE, backend: WatchedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moee.serve.server.HEADER_SECONDS", 1.0)
    with serve(fake) as server:
        backend.hold()
        background = Background(server.url)
        background.post("/embed", inputs="a")
        assert backend.has_begun.wait(120)
        with server.connect() as silent:  # opened later and ended: the model has taken longer than headers may
            assert is_ended(silent)
        backend.may_work.set()
        assert background.join()[0].status_code == 200
