"""Search, explanation and map over HTTP, over a real index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moee import MoEE
from moee.data import calibration_texts
from moee.files.rows import Columns
from moee.index.build import build_index
from moee.index.fit import BuildOptions
from moee.index.map_file import CorpusMap, MapOrigin, Topic, state_of
from moee.index.records_from_file import read_corpus
from moee.index.searcher import Searcher
from moee.method.config import EmbedderConfig
from moee.method.fusion import fuse
from moee.types import View
from tests.serve.conftest import Running, Serve, WatchedBackend, serving

TEXTS = calibration_texts()[:200]
QUERY = "how do cells divide"


@dataclass
class Indexed:
    server: Running
    searcher: Searcher
    backend: WatchedBackend


def build(folder: Path, embedder: MoEE, options: BuildOptions | None = None) -> Path:
    file = folder / "texts.jsonl"
    rows = [{"id": f"t{place}", "text": text, "number": place} for place, text in enumerate(TEXTS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    build_index(folder / "books", read_corpus(str(file), Columns(fields=("number",))), embedder, options)
    return folder / "books"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    backend = WatchedBackend()
    weights: dict[View, float] = {"hs": 1, "rw": 0.2, "tokens": 0.3, "lexical": 1}
    embedder = MoEE(backend, MoEE.from_pretrained("fake", weights=weights, prompt_tokens="apart").config)
    folder = build(tmp_path_factory.mktemp("index"), embedder)
    with Searcher.open(folder, model=embedder) as searcher, serving(searcher.embedder, searcher) as server:
        yield Indexed(server, searcher, backend)


@pytest.mark.parametrize("fusion", [None, "hs", "rw", "sum"])
@pytest.mark.parametrize("alpha", [None, 0.0, 2.5])
def test_search_finds_what_the_library_finds(indexed: Indexed, fusion: str | None, alpha: float | None) -> None:
    answer = indexed.server.post("/search", query=QUERY, k=7, fusion=fusion, alpha=alpha).json()
    hits = indexed.searcher.search(QUERY, 7, fusion=fusion, alpha=alpha)
    assert [found["id"] for found in answer["results"]] == [hit.record.id for hit in hits]
    for found, hit in zip(answer["results"], hits, strict=True):
        assert (found["text"], found["fields"]) == (hit.record.text, dict(hit.record.fields))
        for name in ("score", "hidden", "routing"):
            assert found[name] == pytest.approx(getattr(hit, name), abs=1e-6)
    assert answer["fusion"] == (fusion or ("sum" if alpha is not None else indexed.searcher.fusion))
    assert answer["weights"] == indexed.searcher.chosen_weights(fusion=fusion, alpha=alpha)
    assert answer["alpha"] == pytest.approx(indexed.searcher.alpha if alpha is None else alpha)
    assert (answer["query"], answer["k"]) == (QUERY, 7)
    assert answer["took_ms"] > 0


def test_search_can_return_the_best_passage_of_each_document(fake: MoEE, tmp_path: Path, indexed: Indexed) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [{"id": f"d{number}", "text": " ".join(TEXTS[20 * number :][:20])} for number in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    build_index(tmp_path / "books", read_corpus(str(file)), fake, BuildOptions(chunk=48))
    with Searcher.open(tmp_path / "books", model=fake) as searcher, serving(searcher.embedder, searcher) as server:
        found = server.post("/search", query=QUERY, k=3, per_document=True).json()["results"]
        expected = searcher.search(QUERY, 3, per_document=True)
    assert [each["id"] for each in found] == [hit.record.id for hit in expected]
    assert sorted(each["fields"]["document"] for each in found) == ["d0", "d1", "d2"]
    refused = indexed.server.post("/search", query=QUERY, per_document=True)
    assert refused.status_code == 422
    assert "holds whole texts" in refused.json()["error"]


@pytest.mark.parametrize("weights", [{"hs": 1}, {"hs": 1, "rw": 0.3, "lexical": 2}, {"tokens": 1, "lexical": 1}])
def test_named_weights_are_chosen_when_it_is_asked(indexed: Indexed, weights: dict[View, float]) -> None:
    answer = indexed.server.post("/search", query=QUERY, k=5, weights=weights).json()
    hits = indexed.searcher.search(QUERY, 5, weights=weights)
    assert [found["id"] for found in answer["results"]] == [hit.record.id for hit in hits]
    assert (answer["fusion"], answer["weights"]) == ("weighted", indexed.searcher.chosen_weights(weights))
    best = answer["results"][0]
    assert set(best["cosines"]) == {"hs", "rw", "tokens", "lexical"}
    total = sum(weights.values())
    assert sum(weight * best["cosines"][view] for view, weight in weights.items()) / total == pytest.approx(
        best["score"], abs=1e-6
    )
    found = indexed.server.post("/explain", texts=[QUERY, best["text"]], weights=weights, as_query=True).json()
    assert found["similarity"] == pytest.approx(best["score"], abs=1e-5)
    for view, weight in weights.items():
        assert found["views"][view]["cosine"] == pytest.approx(best["cosines"][view], abs=1e-5)
        assert found["views"][view]["weight"] == weight


def test_another_alpha_embeds_nothing(indexed: Indexed) -> None:
    indexed.server.post("/search", query="asked with many weights")
    indexed.backend.batches.clear()
    for weights in ({"hs": 1, "lexical": 0.5}, {"tokens": 1}):
        assert indexed.server.post("/search", query="asked with many weights", weights=weights).status_code == 200
    for alpha in (0.0, 0.5, 5.0):
        assert indexed.server.post("/search", query="asked with many weights", alpha=alpha).status_code == 200
    assert indexed.backend.batches == []


def test_only_the_latest_queries_are_remembered(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moee.serve.finder.REMEMBERED", 2)
    for query in ("first", "second", "first", "third", "first"):
        indexed.server.post("/search", query=query)
    indexed.backend.batches.clear()
    indexed.server.post("/search", query="first")
    assert indexed.backend.batches == []
    indexed.server.post("/search", query="second")
    assert indexed.backend.batches == [1]


def test_a_filter_narrows_the_search(indexed: Indexed) -> None:
    answer = indexed.server.post("/search", query=QUERY, k=50, filter="number >= 190").json()
    assert {found["fields"]["number"] for found in answer["results"]} == set(range(190, 200))


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"query": ""}, 400, "is empty. Leave it out"),
        ({"query": "a", "k": 0}, 422, "greater than or equal to 1"),
        ({"query": "a", "k": 10**6}, 422, "less than or equal to 1000"),
        ({"query": "a", "fusion": "concat"}, 422, "'hs', 'rw' or 'sum'"),
        ({"query": "a", "alpha": -0.5}, 422, "greater than or equal to 0"),
        ({"query": "a", "weights": {"hs": 0}}, 422, "must count more than 0"),
        ({"query": "a", "weights": {"hs": 1}, "fusion": "hs"}, 422, "fusion='hs' takes no weights"),
        ({"query": "a", "filter": "number = 3"}, 422, "=="),
        ({"query": "a", "filter": "numbr == 3"}, 422, "Did you mean 'number'?"),
        ({"query": "a", "where": "number == 3"}, 422, "Unknown field 'where'"),
        ({"query": "word " * 5000}, 413, "over the limit of 4096"),
    ],
)
def test_a_search_that_cannot_be_says_why_before_the_model_runs(
    indexed: Indexed, body: dict[str, Any], status: int, message: str
) -> None:
    indexed.backend.batches.clear()
    answer = indexed.server.post("/search", **body)
    assert (answer.status_code, indexed.backend.batches) == (status, [])
    assert message in answer.json()["error"]


@pytest.mark.parametrize("chosen", [{}, {"fusion": "rw"}, {"alpha": 3.0}, {"weights": {"rw": 1, "lexical": 0.5}}])
def test_explain_gives_the_parts_of_the_library(indexed: Indexed, chosen: dict[str, Any]) -> None:
    answer = indexed.server.post("/explain", texts=TEXTS[:2], **chosen).json()
    expected = indexed.searcher.documents.explain(*TEXTS[:2], **chosen).to_dict()
    assert answer == json.loads(json.dumps(expected))
    assert sum(view["part"] for view in answer["views"].values()) == pytest.approx(answer["similarity"], abs=1e-6)
    parts = sum(part for layer in answer["layers"] for part in layer["parts"])
    assert parts == pytest.approx(answer["routing"], abs=1e-6)
    words = sum(word["part"] for word in answer["words"]) + answer["collisions"]
    assert words == pytest.approx(answer["views"].get("lexical", {"part": 0})["part"], abs=1e-6)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    """An index whose queries and texts have prompts, and statistics, of their own."""
    backend = WatchedBackend()
    prompts = {"query_prompt": "Question: {text}", "document_prompt": "Answer: {text}"}
    embedder = MoEE(backend, MoEE.from_pretrained("fake", **prompts).config)
    folder = build(tmp_path_factory.mktemp("asked"), embedder)
    with Searcher.open(folder, model=embedder) as searcher, serving(searcher.embedder, searcher) as server:
        yield Indexed(server, searcher, backend)


@pytest.mark.parametrize("fusion", [None, "hs", "rw", "sum"])
@pytest.mark.parametrize("alpha", [None, 2.5])
def test_a_hit_is_explained_with_the_score_that_it_was_found_by(
    asked: Indexed, fusion: str | None, alpha: float | None
) -> None:
    hit = asked.server.post("/search", query=QUERY, k=1, fusion=fusion, alpha=alpha).json()["results"][0]
    chosen = {"texts": [QUERY, hit["text"]], "fusion": fusion, "alpha": alpha}
    found = asked.server.post("/explain", **chosen, as_query=True).json()
    assert found["similarity"] == pytest.approx(hit["score"], abs=1e-5)
    for name in ("hidden", "routing"):
        if found[f"{name}_cosine"] is not None:
            assert found[f"{name}_cosine"] == pytest.approx(hit[name], abs=1e-5)
    assert sum(view["part"] for view in found["views"].values()) == pytest.approx(found["similarity"], abs=1e-6)
    for plain in ({}, {"as_query": False}):
        other = asked.server.post("/explain", **chosen, **plain).json()
        expected = asked.searcher.documents.explain(*chosen["texts"], fusion=fusion, alpha=alpha)  # type: ignore[arg-type]
        assert other["similarity"] == pytest.approx(expected.similarity, abs=1e-6)
        assert other["similarity"] != pytest.approx(found["similarity"], abs=1e-4)


def test_a_query_without_a_prompt_of_its_own_has_the_main_one(serve: Serve, tmp_path: Path) -> None:
    embedder = MoEE(WatchedBackend(), MoEE.from_pretrained("fake", document_prompt="Answer: {text}").config)
    with (
        Searcher.open(build(tmp_path, embedder), model=embedder) as searcher,
        serve(searcher.embedder, searcher) as server,
    ):
        hit = server.post("/search", query=QUERY, k=1).json()["results"][0]
        found = server.post("/explain", texts=[QUERY, hit["text"]], as_query=True).json()
    assert found["similarity"] == pytest.approx(hit["score"], abs=1e-5)


def test_without_an_index_a_query_is_explained_as_it_is_encoded(serve: Serve, backend: WatchedBackend) -> None:
    config = EmbedderConfig(calibration="none", query_prompt="Query: {text}", document_prompt="Text: {text}")
    embedder = MoEE(backend, config)
    with serve(embedder) as server:
        found = server.post("/explain", texts=["a", "b"], as_query=True).json()
        long = server.post("/explain", texts=["a", "word " * 4096], as_query=True)  # and a word of the prompt
    assert found["similarity"] == pytest.approx(
        float(embedder.encode_query("a") @ embedder.encode_document("b")), abs=1e-6
    )
    assert long.status_code == 413
    assert "Text 1 of texts is 4097 tokens with its prompt" in long.json()["error"]


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_as_query_is_true_or_false(indexed: Indexed, value: Any) -> None:
    answer = indexed.server.post("/explain", texts=["a", "b"], as_query=value)
    assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")


@pytest.mark.parametrize("texts", [["a"], ["a", "b", "c"], ["a", " "], "ab"])
def test_explain_takes_two_texts(indexed: Indexed, texts: Any) -> None:
    assert indexed.server.post("/explain", texts=texts).status_code in (400, 422)


def test_info_describes_the_index(indexed: Indexed) -> None:
    assert indexed.server.client.get("/info").json()["index"] == {
        "name": "books",
        "count": 200,
        "fields": {"number": "integer"},
        "alpha": pytest.approx(indexed.searcher.alpha),
        "fusion": indexed.searcher.fusion,
        "weights": indexed.searcher.weights,
        "dims": dict(indexed.searcher.manifest.layout.dims),
        "has_map": False,
        "store": "flat",
    }


def test_embeddings_are_those_of_the_index(indexed: Indexed) -> None:
    answer = indexed.server.post("/embed", inputs=TEXTS[:3])
    np.testing.assert_allclose(answer.json(), indexed.searcher.embedder.encode(TEXTS[:3]), atol=1e-6)


def test_without_an_index_the_answer_is_404(serve: Serve, fake: MoEE, backend: WatchedBackend) -> None:
    with serve(fake) as server:
        backend.batches.clear()
        for answer in (server.post("/search", query="a"), server.client.get("/map")):
            assert (answer.status_code, answer.json()["error_type"]) == (404, "no_index")
            assert "moee serve --index DIR" in answer.json()["error"]
        assert server.post("/explain", texts=["a", "b"]).status_code == 200
        assert backend.batches == [2]


def test_the_map_is_served_as_it_was_made_and_again_when_it_changes(indexed: Indexed) -> None:
    folder, server = indexed.searcher.folder, indexed.server
    missing = server.client.get("/map")
    assert (missing.status_code, missing.json()["error_type"]) == (404, "no_map")
    assert "moee map books" in missing.json()["error"]

    def save(num_records: int, label: str) -> CorpusMap:
        points = np.arange(3, dtype=np.float32)
        origin = MapOrigin(num_records, state_of(indexed.searcher.manifest), {"hs": 1.0, "rw": 0.5}, 0)
        topics = (Topic(0, label, 0.5, 0.5, 2),)
        ids = ["t0", "t1", "t2"]
        made = CorpusMap(ids, TEXTS[:3], points, points / 3, np.array([0, 0, -1]), topics, origin)
        made.save(folder)
        return made

    try:
        made = save(200, "cells")
        assert server.client.get("/info").json()["index"]["has_map"] is True
        assert server.client.get("/map").json() == {**made.to_dict(), "stale": None}
        save(150, "cells, nuclei")
        again = server.client.get("/map").json()
        assert again["topics"][0]["label"] == "cells, nuclei"
        assert "made of 150 texts, and the index holds 200" in again["stale"]
        (folder / "map.json").write_text("{")
        damaged = server.client.get("/map")
        assert (damaged.status_code, damaged.json()["error_type"]) == (503, "unhealthy")
        assert str(folder) not in damaged.text
    finally:
        (folder / "map.json").unlink()


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    backend = WatchedBackend()
    embedder = MoEE(backend, MoEE.from_pretrained("fake", fusion="sum").config)
    folder = build(tmp_path_factory.mktemp("reduced"), embedder, BuildOptions(dims=12))
    with Searcher.open(folder, model=embedder) as searcher, serving(searcher.embedder, searcher) as server:
        yield Indexed(server, searcher, backend)


def test_a_reduced_index_is_searched_with_reduced_queries(reduced: Indexed) -> None:
    answer = reduced.server.post("/search", query=QUERY, k=5, alpha=0.7).json()
    hits = reduced.searcher.search(QUERY, 5, alpha=0.7)
    assert [found["id"] for found in answer["results"]] == [hit.record.id for hit in hits]
    assert answer["results"][0]["score"] == pytest.approx(hits[0].score, abs=1e-6)


@pytest.mark.parametrize("dimensions", [12, 5])
def test_dimensions_shorten_by_the_fitted_reduction(reduced: Indexed, dimensions: int) -> None:
    model = reduced.server.service.model_name
    body = {"model": model, "input": TEXTS[:4], "dimensions": dimensions, "alpha": 0.7}
    found = [item["embedding"] for item in reduced.server.post("/v1/embeddings", **body).json()["data"]]
    assert reduced.searcher.reducer is not None
    embedder = reduced.searcher.embedder
    blocks = reduced.searcher.reducer.truncate(dimensions).reduce(
        {"hs": embedder.encode(TEXTS[:4], fusion="hs"), "rw": embedder.encode(TEXTS[:4], fusion="rw")}
    )
    np.testing.assert_allclose(found, fuse(blocks, "sum", 0.7), atol=1e-6)
    assert np.shape(found) == (4, dimensions)


def test_shortened_vectors_have_the_cosines_of_the_index(reduced: Indexed) -> None:
    answer = reduced.server.post("/search", query=QUERY, k=3, alpha=0.7).json()
    texts = [QUERY, *(found["text"] for found in answer["results"])]
    vectors = np.float32(reduced.server.post("/embed", inputs=texts, dimensions=12, alpha=0.7).json())
    np.testing.assert_allclose(vectors[1:] @ vectors[0], [found["score"] for found in answer["results"]], atol=1e-5)


@pytest.mark.parametrize("fusion", ["hs", "rw"])
def test_one_view_can_be_shortened_alone(reduced: Indexed, fusion: str) -> None:
    assert reduced.searcher.reducer is not None
    most = reduced.searcher.reducer.dims[fusion]
    vectors = np.float32(reduced.server.post("/embed", inputs=TEXTS[:4], dimensions=most, fusion=fusion).json())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors.shape == (4, most)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dimensions": 13}, "the fitted reducer has 12"),
        ({"dimensions": 12, "fusion": "concat"}, "fusion='concat' cannot be shortened"),
        ({"dimensions": 12, "fusion": "hs"}, "the index allows 1 to"),
    ],
)
def test_dimensions_that_were_not_fitted_are_refused(reduced: Indexed, body: dict[str, Any], message: str) -> None:
    answer = reduced.server.post("/embed", inputs="a", **body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
