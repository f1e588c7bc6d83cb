"""A wrong or missing key never reaches the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from moee import MoEE
from moee.method.config import EmbedderConfig
from moee.serve.auth import is_public
from tests.serve.conftest import Running, WatchedBackend, read_answer, serving

KEY = "sk-right"
WORK: list[tuple[str, str, Any]] = [
    ("POST", "/v1/embeddings", {"input": "a", "model": "fake"}),
    ("POST", "/embed", {"inputs": "a"}),
    ("POST", "/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    ("POST", "/v1/rerank", {"query": "a", "documents": ["b"], "model": "fake"}),
    ("POST", "/rerank", {"query": "a", "texts": ["b"]}),
    ("POST", "/explain", {"texts": ["a", "b"]}),
    ("POST", "/search", {"query": "a"}),
]
READ = [("GET", path, None) for path in ("/info", "/map", "/v1/models", "/v1/models/fake", "/nothing")]
WRONG = [
    None,
    "",
    "Bearer",
    "Bearer sk-wrong",
    "Bearer sk-righ",
    "Bearer sk-right2",
    "Bearer SK-RIGHT",
    "Basic sk-right",
    "sk-right",
    "Bearer sk-right, Bearer sk-right",
    "Bearer \xe9",
]


@pytest.fixture(scope="module")
def watched() -> WatchedBackend:
    return WatchedBackend()


@pytest.fixture(scope="module")
def server(watched: WatchedBackend) -> Iterator[Running]:
    with serving(MoEE(watched, EmbedderConfig(calibration="none")), api_key=KEY) as running:
        yield running


@pytest.mark.parametrize("header", WRONG)
def test_a_wrong_or_missing_key_never_reaches_the_model(
    server: Running, watched: WatchedBackend, header: str | None
) -> None:
    watched.batches.clear()
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for method, path, body in [*WORK, *READ]:
        answer = server.client.request(method, path, json=body, headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        error = answer.json()["error"]
        shown = error if isinstance(error, str) else error["message"]
        assert KEY not in answer.text
        assert "Authorization: Bearer KEY" in shown
    assert watched.batches == []
    assert server.service.batcher.waiting_tokens == 0


def test_a_wrong_key_is_refused_before_the_body_is_read(server: Running) -> None:
    with server.connect() as connection:
        head = b"POST /embed HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\ncontent-length: 1000000\r\n\r\n"
        connection.sendall(head)  # and no body
        assert read_answer(connection)[0] == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_right_key_opens_everything(server: Running, scheme: str) -> None:
    for method, path, body in [*WORK[:4], *READ[:1]]:
        answer = server.client.request(method, path, json=body, headers={"authorization": f"{scheme} {KEY}"})
        assert answer.status_code == 200, path


@pytest.mark.parametrize("path", ["/", "/health", "/ping", "/metrics", "/openapi.json", "/static/index.html"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sk-wrong"}])
def test_health_metrics_the_schema_and_the_page_are_open(server: Running, path: str, headers: dict[str, str]) -> None:
    assert server.client.get(path, headers=headers).status_code == 200


def test_the_open_schema_says_which_routes_ask_for_the_key(server: Running) -> None:
    schema = server.client.get("/openapi.json")
    assert KEY not in schema.text
    assert schema.json()["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operations in schema.json()["paths"].items():
        for operation in operations.values():
            assert is_public(path) != bool(operation.get("security")), path


@pytest.mark.parametrize(
    "path", ["//info", "/static/../info", "/static/%2e%2e/info", "/health/../info", "/info/", "/INFO", "/%69nfo", "/*"]
)
def test_no_detour_leads_past_the_key(server: Running, path: str) -> None:
    with server.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split()[1] in (b"401", b"404")
    assert b"model_id" not in answer


def test_openais_client_sends_the_key_and_says_when_it_is_wrong(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        assert client.embeddings.create(model="fake", input="a").data
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="The API key is wrong"),
    ):
        client.embeddings.create(model="fake", input="a")
