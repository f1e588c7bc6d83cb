"""Ids in and out, one line a request, and never a text."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest

from moee import MoEE
from moee.serve.logs import configure_logs, log_failure
from tests.serve.conftest import Serve

SECRET = "xylophone"
LOGGERS = ("moee", "uvicorn", "asyncio", "py.warnings")


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What went to standard error since it was last asked; the loggers are put back afterwards."""
    before = {name: (log.handlers[:], log.propagate, log.level) for name in LOGGERS if (log := logging.getLogger(name))}
    yield lambda: capsys.readouterr().err
    logging.captureWarnings(False)
    for name, (handlers, propagate, level) in before.items():
        log = logging.getLogger(name)
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)


def lines(written: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in written.splitlines()]


def test_a_request_is_one_json_line_with_its_id_and_counts(serve: Serve, fake: MoEE, logs: Callable[[], str]) -> None:
    configure_logs(as_json=True, quiet=False)
    with serve(fake) as server:
        answer = server.client.post("/embed", json={"inputs": ["a b", "c"]}, headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    (line,) = [each for each in lines(logs()) if each["message"] == "request"]
    assert (line["request_id"], line["method"], line["path"], line["status"]) == ("mine-1", "POST", "/embed", 200)
    assert (line["inputs"], line["tokens"]) == (2, int(answer.headers["x-compute-tokens"]))
    assert {"duration_ms", "tokenization_ms", "queue_ms", "inference_ms", "time", "level"} <= set(line)


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, 'quote"', "é"])
def test_an_id_that_cannot_be_logged_is_replaced(serve: Serve, fake: MoEE, given: str | None) -> None:
    headers = {} if given is None else {"x-request-id": given.encode("latin-1")}
    with serve(fake) as server:
        ids = {server.client.get("/health", headers=headers).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(len(each) == 32 and each.isalnum() for each in ids)


@pytest.mark.parametrize("as_json", [True, False])
def test_no_text_is_logged_whatever_happens_to_it(
    serve: Serve, fake: MoEE, logs: Callable[[], str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    configure_logs(as_json=as_json, quiet=False)
    logging.getLogger("moee").setLevel(logging.DEBUG)

    def fail(*_: object, **__: object) -> None:
        raise ValueError(f"cannot do {SECRET}")

    with serve(fake) as server:
        client = server.client
        assert server.post("/embed", inputs=SECRET).status_code == 200
        assert server.post("/embed", inputs=[SECRET, 5]).status_code == 422
        assert server.post("/embed", inputs=f"{SECRET} " * 5000).status_code == 413
        assert server.post("/embed", inputs="a", prompt_name=SECRET).status_code == 422
        assert server.post("/v1/embeddings", input=SECRET, model=SECRET).status_code == 404
        assert server.post("/v1/embeddings", **{"input": "a", "model": "fake", SECRET: 1}).status_code == 400
        assert client.get(f"/{SECRET}").status_code == 404
        assert client.get(f"/v1/models/{SECRET}").status_code == 404
        assert client.get(f"/info?query={SECRET}").status_code == 200
        assert client.request(SECRET.upper(), "/embed").status_code == 405
        assert client.post("/embed", content=SECRET.encode()).status_code == 422
        assert client.get("/health", headers={"authorization": SECRET, "user-agent": SECRET}).status_code == 200
        monkeypatch.setattr(server.service.encoder, "_together", fail)
        broken = server.post("/embed", inputs=SECRET)
        assert broken.status_code == 500
    written = logs()
    assert SECRET not in written.lower()
    assert SECRET not in broken.text
    assert "Traceback" not in broken.text
    assert "ValueError" in written  # what failed and where is there
    assert "test_logs.py" in written
    assert written.count("path=/embed") + written.count('"path": "/embed"') >= 5


def test_quiet_logs_failures_only(serve: Serve, fake: MoEE, logs: Callable[[], str]) -> None:
    configure_logs(as_json=True, quiet=True)
    with serve(fake) as server:
        assert server.post("/embed", inputs="a").status_code == 200
        assert logs() == ""
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            log_failure(error)
    (line,) = lines(logs())
    assert (line["level"], line["exception"]) == ("ERROR", "ValueError")
