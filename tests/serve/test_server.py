"""`moee serve` as a process: where it listens, and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from moee.errors import InputError
from moee.serve.server import listen, url_of
from moee.serve.settings import Settings

FAKE = ("-m", "fake", "--calibration", "none", "-p", "0")
SLOW_MODEL = """
import sys, threading, time
from pathlib import Path
from moee.backends.fake import FakeBackend
forward = FakeBackend.forward
def slow(self, sequences, plan):
    while threading.current_thread() is not threading.main_thread() and Path({gate!r}).exists():
        time.sleep(0.01)
    return forward(self, sequences, plan)
FakeBackend.forward = slow
from moee.cli import main
sys.argv = ["moee", "serve", *{arguments!r}]
main()
"""
"""The command itself, over a fake model that works only while there is no file of the name `gate`."""


class Process:
    """A server in a process of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        self.url = self.first_line.removeprefix("Listening on ").strip()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, wait for the end, and return the exit code and what was written to standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def begin(*arguments: str, **environment: str) -> Process:
        program = SLOW_MODEL.format(gate=str(tmp_path / "gate"), arguments=[*FAKE, *arguments])
        process = Process([sys.executable, "-c", program], environment)
        started.append(process)
        return process

    yield begin
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate(timeout=120)


@contextmanager
def posting(url: str, number: int) -> Iterator[list[httpx.Response]]:
    """Have requests on their way inside the context; their answers are in the list after it."""
    answers: list[httpx.Response] = []

    def post(place: int) -> None:
        answers.append(httpx.post(f"{url}/embed", json={"inputs": f"text {place}"}, timeout=120))

    threads = [threading.Thread(target=post, args=(place,)) for place in range(number)]
    for thread in threads:
        thread.start()
    yield answers
    for thread in threads:
        thread.join(120)


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def accepted(client: httpx.Client) -> int:
    """How many requests for vectors have reached the model or its queue."""
    found = re.search(r"^te_request_tokenization_duration_count (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def test_sigterm_finishes_what_was_accepted_and_answers_503_to_what_is_new(start: Start, tmp_path: Path) -> None:
    server = start()
    (tmp_path / "gate").touch()
    with httpx.Client(base_url=server.url, timeout=120) as open_before, posting(server.url, 3) as answers:
        wait_for(lambda: accepted(open_before) == 3)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: open_before.get("/health").status_code == 503)
        for refused in (
            httpx.get(f"{server.url}/health", timeout=120),
            httpx.post(f"{server.url}/embed", json={"inputs": "new"}, timeout=120),
        ):
            assert refused.status_code == 503
            assert refused.json()["error_type"] == "unhealthy"
            assert refused.headers["retry-after"] == "5"
            assert refused.headers["connection"] == "close"
        (tmp_path / "gate").unlink()
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    _, errors = server.process.communicate(timeout=120)
    assert server.process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops(start: Start, number: signal.Signals) -> None:
    server = start()
    with httpx.Client(base_url=server.url) as idle:  # an open connection does not keep it
        assert idle.get("/ping").status_code == 200
        code, errors = server.stop(number)
    assert code == 0
    assert errors.rstrip().endswith("Stopped")


def test_a_second_signal_does_not_wait(start: Start, tmp_path: Path) -> None:
    """For the requests: the batch that is with the model ends, and the process with it."""
    server = start()
    (tmp_path / "gate").touch()
    with httpx.Client(base_url=server.url, timeout=120) as client, posting_and_ignoring(server.url):
        wait_for(lambda: accepted(client) == 1)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: client.get("/health").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.stderr is not None
        assert "Stopped\n" in iter(server.process.stderr.readline, "")
        (tmp_path / "gate").unlink()
        server.process.communicate(timeout=120)


@contextmanager
def posting_and_ignoring(url: str) -> Iterator[None]:
    def post() -> None:
        with suppress(httpx.TransportError):  # the server is gone, as it should be
            httpx.post(f"{url}/embed", json={"inputs": "a"}, timeout=120)

    thread = threading.Thread(target=post)
    thread.start()
    yield
    thread.join(120)


def test_port_0_takes_a_free_one_and_the_first_line_names_it(start: Start) -> None:
    one, other = start(), start()
    assert one.url != other.url
    for server in (one, other):
        assert server.first_line.startswith("Listening on http://127.0.0.1:")
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_json_prints_one_document(start: Start) -> None:
    server = start("--json", "--served-model-name", "mine")
    assert server.process.stdout is not None
    lines = [server.first_line]
    while not lines[-1].startswith("}"):
        lines.append(server.process.stdout.readline())
    document = json.loads("".join(lines))
    assert document["model"] == "mine"
    assert document["index"] is None
    assert httpx.get(f"{document['url']}/v1/models").json()["data"][0]["id"] == "mine"


def test_every_option_has_a_twin_in_the_environment(start: Start) -> None:
    server = start(
        "--max-client-batch-size",
        "7",  # an option beats its twin
        MOEE_API_KEY="sk-env",
        MOEE_MAX_BATCH_TOKENS="1234",
        MOEE_MAX_CLIENT_BATCH_SIZE="5",
        MOEE_MAX_CONCURRENT_REQUESTS="9",
        MOEE_PAYLOAD_LIMIT="4000",
        MOEE_AUTO_TRUNCATE="1",
        MOEE_SERVED_MODEL_NAME="named",
        MOEE_PROMPTS="ke, none",
        MOEE_JSON_OUTPUT="true",
        MOEE_CORS_ALLOW_ORIGIN="https://example.org https://example.com",
    )
    assert httpx.get(f"{server.url}/info").status_code == 401
    answer = httpx.get(
        f"{server.url}/info", headers={"authorization": "Bearer sk-env", "origin": "https://example.com"}
    )
    info = answer.json()
    assert (info["max_batch_tokens"], info["max_client_batch_size"], info["max_concurrent_requests"]) == (1234, 7, 9)
    assert (info["payload_limit"], info["auto_truncate"], info["served_model_name"]) == (4000, True, "named")
    assert info["prompts"] == ["prompteol", "ke", "none"]
    assert answer.headers["access-control-allow-origin"] == "https://example.com"
    _, errors = server.stop()
    logged = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [line["status"] for line in logged if line["message"] == "request"] == [401]
    assert "sk-env" not in errors


def test_a_port_in_use_is_reported_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"Cannot listen on '127.0.0.1', port {port}.*--port 0 takes a free one"):
            listen(Settings(port=port))


@pytest.mark.parametrize("hostname", ["127.0.0.1", "localhost", "::1"])
def test_addresses_are_shown_as_a_browser_takes_them(hostname: str) -> None:
    listener = listen(Settings(hostname=hostname, port=0))
    try:
        url = httpx.URL(url_of(listener))
        assert url.host in ("127.0.0.1", "::1")
        assert url.port == listener.getsockname()[1]
    finally:
        listener.close()


def test_a_host_that_does_not_exist_is_reported() -> None:
    with pytest.raises(InputError, match=r"Cannot listen on 'no\.such\.host\.invalid'"):
        listen(Settings(hostname="no.such.host.invalid"))
