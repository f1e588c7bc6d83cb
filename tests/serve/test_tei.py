"""The routes of text-embeddings-inference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.method.config import EmbedderConfig
from moee.types import View
from tests.serve.conftest import Running, Serve, WatchedBackend, serving

TEXTS = ["A cat sat down.", "Rates rose again.", "A kitten took a seat."]


@pytest.fixture(scope="module")
def server(tiny: MoEE) -> Iterator[Running]:
    with serving(tiny) as running:
        yield running


def test_embed_gives_the_vectors_of_encode(server: Running, tiny: MoEE) -> None:
    answer = server.post("/embed", inputs=TEXTS)
    assert answer.status_code == 200
    assert np.array_equal(np.float32(answer.json()), tiny.encode(TEXTS))
    assert np.array_equal(np.float32(server.post("/embed", inputs=TEXTS[0]).json()), tiny.encode(TEXTS[:1]))


def test_embed_takes_token_ids(server: Running, tiny: MoEE) -> None:
    answer = server.post("/embed", inputs=tiny.backend.tokenize(TEXTS))
    assert np.array_equal(np.float32(answer.json()), tiny.encode(TEXTS))


@pytest.mark.parametrize("fusion", ["hs", "rw", "concat"])
def test_embed_can_leave_vectors_at_their_own_length(server: Running, tiny: MoEE, fusion: Any) -> None:
    answer = server.post("/embed", inputs=TEXTS, normalize=False, fusion=fusion)
    expected = tiny.encode(TEXTS, normalize=False, fusion=fusion)
    assert np.array_equal(np.float32(answer.json()), expected)


WEIGHTS: dict[View, float] = {"hs": 1, "rw": 0.5, "lexical": 2}


def test_every_route_takes_weights(server: Running, tiny: MoEE) -> None:
    vectors = tiny.encode(TEXTS, weights=WEIGHTS)
    np.testing.assert_allclose(server.post("/embed", inputs=TEXTS, weights=WEIGHTS).json(), vectors, atol=1e-6)
    scores = tiny.similarity(vectors[:1], vectors[1:])[0]
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    found = server.post("/similarity", inputs=inputs, parameters={"weights": WEIGHTS}).json()
    np.testing.assert_allclose(found, scores, atol=1e-6)
    ranked = server.post("/rerank", query=TEXTS[0], texts=TEXTS[1:], raw_scores=True, weights=WEIGHTS).json()
    assert {rank["index"]: pytest.approx(rank["score"], abs=1e-6) for rank in ranked} == dict(enumerate(scores))
    body = {"model": server.service.model_name, "query": TEXTS[0], "documents": TEXTS[1:], "weights": WEIGHTS}
    ranked = server.post("/v1/rerank", **body).json()["results"]
    assert {rank["index"]: pytest.approx(rank["relevance_score"], abs=1e-6) for rank in ranked} == dict(
        enumerate(scores)
    )


def test_embed_ignores_fields_that_it_does_not_know(server: Running) -> None:
    assert server.post("/embed", inputs="a", pooling="mean").status_code == 200


def test_embed_cuts_long_texts_only_where_it_may(server: Running, tiny: MoEE) -> None:
    long = "word " * 6000
    refused = server.post("/embed", inputs=["a", long])
    assert refused.status_code == 413
    assert "Text 1 of inputs is" in refused.json()["error"]
    assert "truncate: true" in refused.json()["error"]
    cut = server.post("/embed", inputs=["a", long], truncate=True)
    assert cut.headers["x-truncated-inputs"] == "1"
    assert np.array_equal(np.float32(cut.json()), tiny.with_settings(truncate="end").encode(["a", long]))


def test_a_server_can_cut_long_texts_unless_told_otherwise(serve: Serve, tiny: MoEE) -> None:
    long = "word " * 6000
    with serve(tiny, auto_truncate=True) as server:
        assert server.post("/embed", inputs=long).status_code == 200
        assert server.post("/embed", inputs=long, truncate=False).status_code == 413
        assert "te_truncated_inputs_total 1.0" in server.client.get("/metrics").text


def test_similarity_is_the_cosine(server: Running, tiny: MoEE) -> None:
    answer = server.post(
        "/similarity",
        inputs={"source_sentence": TEXTS[0], "sentences": TEXTS[1:]},
        parameters={"fusion": "sum", "alpha": 0.5},
    )
    vectors = tiny.encode(TEXTS, alpha=0.5)
    np.testing.assert_allclose(answer.json(), tiny.similarity(vectors[:1], vectors[1:])[0], atol=1e-6)


@pytest.mark.parametrize("raw", [True, False])
def test_rerank_orders_texts_by_their_likeness(server: Running, tiny: MoEE, raw: bool) -> None:
    texts = [*TEXTS[1:], TEXTS[0]]
    answer = server.post("/rerank", query=TEXTS[0], texts=texts, raw_scores=raw, return_text=True).json()
    scores = tiny.similarity(tiny.encode([TEXTS[0]]), tiny.encode(texts))[0]
    assert [rank["index"] for rank in answer] == list(np.argsort(-scores))
    assert [rank["text"] for rank in answer] == [texts[rank["index"]] for rank in answer]
    assert answer[0]["index"] == 2
    expected = np.sort(scores)[::-1]
    np.testing.assert_allclose([rank["score"] for rank in answer], expected if raw else (1 + expected) / 2, atol=1e-5)


def test_rerank_uses_the_prompts_of_queries_and_documents(serve: Serve, backend: WatchedBackend) -> None:
    config = EmbedderConfig(calibration="none", query_prompt="Query: {text}", document_prompt="Text: {text}")
    embedder = MoEE(backend, config)
    with serve(embedder) as server:
        answer = server.post("/rerank", query="cats", texts=["a cat", "a rate"], raw_scores=True).json()
    scores = embedder.similarity(embedder.encode_query(["cats"]), embedder.encode_document(["a cat", "a rate"]))[0]
    assert {rank["index"]: pytest.approx(rank["score"], abs=1e-6) for rank in answer} == dict(enumerate(scores))


def test_info_describes_the_model_and_the_limits(server: Running, tiny: MoEE) -> None:
    info = server.client.get("/info").json()
    assert info["model_id"] == Path(tiny.info.name).name  # not where it lies on the server's disk
    assert info["dim"] == tiny.encode(["a"]).shape[1] == sum(info["dims"].values())
    assert info["dims"] == dict(tiny.dims)
    assert info["num_experts"] == list(tiny.info.num_experts)
    assert (info["fusion"], info["alpha"], info["prompt"]) == (tiny.config.fusion, tiny.alpha, "prompteol")
    assert info["weights"] == (dict(tiny.config.weights) if tiny.config.fusion == "weighted" else None)
    assert (info["dtype"], info["device"]) == ("float32", "cpu")
    assert (info["max_client_batch_size"], info["max_batch_tokens"]) == (2048, 16384)
    assert info["index"] is None


@pytest.mark.parametrize("path", ["/health", "/ping"])
def test_health_is_an_empty_200(server: Running, path: str) -> None:
    for answer in (server.client.get(path), server.client.head(path)):
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("path", "body", "status", "error_type", "message"),
    [
        ("/embed", {"inputs": ""}, 400, "empty", "is empty. Leave it out"),
        ("/embed", {"inputs": [10**6]}, 422, "tokenizer", "holds the token id 1000000"),
        ("/embed", {}, 422, "validation", "inputs is missing"),
        ("/embed", {"inputs": "a", "dimensions": 4}, 400, "validation", "no reduction was fitted"),
        ("/embed", {"inputs": "a", "truncation_direction": "Left"}, 422, "validation", "'right' or 'Right'"),
        (
            "/embed",
            {"inputs": "a", "weights": {"hs": 2e6}},
            422,
            "validation",
            "The weight of the view 'hs' is 2000000",
        ),
        ("/embed", {"inputs": "a", "weights": {"hs": 1}, "alpha": 1}, 422, "validation", "are both given"),
        ("/embed", {"inputs": "a", "normalize": "yes"}, 422, "validation", "normalize is 'yes'"),
        ("/similarity", {"inputs": {"source_sentence": "a"}}, 422, "validation", "inputs.sentences is missing"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "empty", "at least one text"),
        ("/rerank", {"query": "a", "texts": ["b", 1]}, 422, "validation", "Text 1 is no string but a number"),
    ],
)
def test_what_is_wrong_is_said_in_teis_shape(
    server: Running, path: str, body: dict[str, Any], status: int, error_type: str, message: str
) -> None:
    answer = server.post(path, **body)
    assert answer.status_code == status
    assert answer.json()["error_type"] == error_type
    assert set(answer.json()) == {"error", "error_type"}
    assert message in answer.json()["error"]


def test_unknown_paths_and_methods_have_the_same_shape(server: Running) -> None:
    missing = server.client.get("/embd")
    assert (missing.status_code, missing.json()["error_type"]) == (404, "not_found")
    wrong = server.client.get("/embed")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json() == {"error": "'/embed' does not take 'GET'; it takes POST.", "error_type": "method_not_allowed"}
    assert server.client.get("/v1/embeddings").json()["error"]["code"] == "method_not_allowed"


def test_a_body_without_a_content_type_is_refused_with_the_header_to_send(server: Running) -> None:
    answer = server.client.post("/embed", content=b'{"inputs": "a"}')
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["error"]
