"""`/v1/rerank`: the request of Cohere, Jina and vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from moee import MoEE
from moee.method.config import EmbedderConfig
from tests.serve.conftest import Running, Serve, WatchedBackend, serving

QUERY = "Where did the cat sit?"
DOCUMENTS = ["Rates rose again.", "A cat sat on a mat.", "A kitten took a seat.", "A cat sat on a mat."]


@pytest.fixture(scope="module")
def server(tiny: MoEE) -> Iterator[Running]:
    with serving(tiny, served_model_name="tiny") as running:
        yield running


def rerank(server: Running, **body: Any) -> Any:
    answer = server.post("/v1/rerank", **{"model": "tiny", "query": QUERY, "documents": DOCUMENTS, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_results_are_those_of_rank(server: Running, tiny: MoEE) -> None:
    answer = rerank(server)
    expected = tiny.rank(QUERY, DOCUMENTS)
    assert answer["model"] == "tiny"
    assert [result["index"] for result in answer["results"]] == [each["corpus_id"] for each in expected]
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == pytest.approx([each["score"] for each in expected], abs=1e-6)
    assert all(set(result) == {"index", "relevance_score"} for result in answer["results"])
    lengths = [
        len(ids)
        for ids in tiny.backend.tokenize([f'This sentence : "{text}" means in one word:"' for text in DOCUMENTS])
    ]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > sum(lengths)


def test_the_best_few_come_back_with_their_texts(server: Running) -> None:
    whole = rerank(server, return_documents=True, fusion="hs")["results"]
    assert [result["document"]["text"] for result in whole] == [DOCUMENTS[result["index"]] for result in whole]
    assert rerank(server, return_documents=True, fusion="hs", top_n=2)["results"] == whole[:2]
    assert rerank(server, return_documents=True, fusion="hs", top_n=99.0)["results"] == whole


def test_documents_may_be_objects_with_a_text(server: Running) -> None:
    assert rerank(server, documents=[{"text": text} for text in DOCUMENTS]) == rerank(server)


def test_query_and_documents_have_their_prompts(serve: Serve, backend: WatchedBackend) -> None:
    config = EmbedderConfig(calibration="none", query_prompt="Query: {text}", document_prompt="Text: {text}")
    embedder = MoEE(backend, config)
    with serve(embedder) as server:
        found = rerank(server, model="fake")
    expected = embedder.rank(QUERY, DOCUMENTS)
    assert [result["index"] for result in found["results"]] == [each["corpus_id"] for each in expected]
    scores = [result["relevance_score"] for result in found["results"]]
    assert scores == pytest.approx([each["score"] for each in expected], abs=1e-6)


def test_as_many_documents_as_the_limit_fit_beside_the_query(serve: Serve, fake: MoEE) -> None:
    with serve(fake, max_client_batch_size=3) as server:
        assert server.post("/v1/rerank", model="fake", query="a", documents=["b"] * 3).status_code == 200
        assert server.post("/rerank", query="a", texts=["b"] * 3).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code", "param", "message"),
    [
        ({"model": "rerank-v3.5"}, 404, "model_not_found", "model", "'tiny' is"),
        ({"query": " "}, 400, "empty_input", "query", "is only whitespace"),
        ({"documents": []}, 400, "empty_input", "documents", "documents is empty. Send at least one"),
        ({"documents": "a"}, 400, "invalid_value", "documents", "documents is of type str; send a list of strings"),
        ({"documents": ["a", 5]}, 400, "invalid_value", "documents", "Document 1 is no string but a number"),
        ({"documents": ["a", {"text": ""}]}, 400, "empty_input", "documents", "The text of document 1 is empty"),
        ({"documents": [{"image": "x"}]}, 400, "invalid_value", "documents", "it must have `text` alone"),
        ({"documents": [{}]}, 400, "invalid_value", "documents", "an object with no fields"),
        ({"top_n": 0}, 400, "invalid_value", "top_n", "greater than or equal to 1"),
        ({"top_k": 3}, 400, "invalid_value", None, "Did you mean 'top_n'?"),
        ({"documents": ["a", "word " * 6000]}, 413, "context_length_exceeded", "documents", "Text 1 of documents is"),
        ({"query": "word " * 6000}, 413, "context_length_exceeded", "query", "The text of query is"),
    ],
)
def test_what_is_wrong_is_said_in_openais_shape(
    server: Running, body: dict[str, Any], status: int, code: str, param: str | None, message: str
) -> None:
    answer = server.post("/v1/rerank", **{"model": "tiny", "query": "a", "documents": ["b"], **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert message in error["message"]


def test_long_texts_are_cut_where_they_may(server: Running) -> None:
    answer = server.post("/v1/rerank", model="tiny", query="a", documents=["word " * 6000], truncate=True)
    assert answer.status_code == 200
    assert answer.headers["x-truncated-inputs"] == "1"
