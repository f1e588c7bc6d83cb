from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.errors import InputError, UnknownNameError
from moee.index.build import build_index
from moee.index.fit import BuildOptions
from moee.index.searcher import Searcher
from moee.stores.registry import StoreSpec
from moee.types import View
from tests.index.conftest import WEIGHTS, WriteCorpus

GOLDEN = Path(__file__).parents[1] / "golden" / "olmoe-tiny"
ALPHAS = (0.0, 0.1, 0.5, 1.0, 3.0)
QUERIES = ("how do cells divide", "an election was held", "The music of the sea.")


@pytest.fixture
def searcher(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> Iterator[Searcher]:
    build_index(tmp_path / "index", write_corpus(), fake)
    with Searcher.open(tmp_path / "index", model=fake) as opened:
        yield opened


@pytest.mark.parametrize("store", ["flat", "lancedb", "pgvector"])
def test_alpha_at_query_time_equals_embedding_again_with_that_alpha(
    write_corpus: WriteCorpus, tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    """From the file to the hits, in every store: one index serves every alpha, and each view alone."""
    url = request.getfixturevalue("database") if store == "pgvector" else store
    corpus = write_corpus(260)
    model = MoEE.from_pretrained(GOLDEN, dtype="float32")
    build_index(tmp_path / "index", corpus, model, BuildOptions(store=StoreSpec.parse(url, "index")))
    texts, ids = [record.text for record in corpus.records], [record.id for record in corpus.records]
    saved = MoEE.from_pretrained(tmp_path / "index" / "embedder", dtype="float32")
    with Searcher.open(tmp_path / "index", model=model) as searcher:
        assert searcher.alpha == pytest.approx(saved.alpha)
        for fusion, alpha in [("hs", None), ("rw", None), ("sum", None), *(("sum", alpha) for alpha in ALPHAS)]:
            documents = saved.encode_document(texts, fusion=fusion, alpha=alpha)
            queries = saved.encode_query(QUERIES, fusion=fusion, alpha=alpha)
            for query, cosines in zip(QUERIES, saved.similarity(queries, documents), strict=True):
                hits = searcher.search(query, k=260, fusion=fusion, alpha=alpha)
                found = {hit.record.id: hit.score for hit in hits}
                assert max(abs(found[name] - cosine) for name, cosine in zip(ids, cosines, strict=True)) < 1e-5
                assert [hit.score for hit in hits] == sorted(found.values(), reverse=True)


def test_a_hit_brings_both_cosines_so_that_it_can_be_ranked_anew(searcher: Searcher) -> None:
    for alpha in ALPHAS:
        for hit in searcher.search(QUERIES[0], k=50, alpha=alpha):
            assert hit.score == pytest.approx((hit.hidden + alpha * hit.routing) / (1 + alpha), abs=1e-6)


def test_weights_by_name_say_what_alpha_says(searcher: Searcher) -> None:
    assert searcher.views == tuple(searcher.manifest.layout.dims)
    named = searcher.search(QUERIES[0], 5, weights={"hs": 2.0, "rw": 0.5})
    asked = searcher.search(QUERIES[0], 5, fusion="sum", alpha=0.25)
    assert [(hit.record.id, hit.score) for hit in named] == [(hit.record.id, hit.score) for hit in asked]
    alone = searcher.search(QUERIES[0], 5, weights={"rw": 1.0})
    assert [hit.score for hit in alone] == [hit.cosines["rw"] for hit in alone]


def test_weights_that_cannot_be_used_are_refused_before_the_model_runs(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher, "query_blocks", None)
    for how, message in (({"alpha": 0.5}, "Leave alpha out"), ({"fusion": "hs"}, "takes no weights")):
        with pytest.raises(InputError, match=message):
            searcher.search("x", weights={"hs": 1.0}, **how)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="weights name tokens, and there are the views hs, rw here"):
        searcher.search("x", weights={"hs": 1.0, "tokens": 0.5})
    with pytest.raises(InputError, match=r"weight of the view 'hs' is -1.0; it must be a number from 0"):
        searcher.search("x", weights={"hs": -1.0})


def test_four_views_are_weighed_when_asked_as_when_embedded(
    of_four_views: MoEE, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    corpus = write_corpus(120)
    build_index(tmp_path / "index", corpus, of_four_views)
    texts, ids = [record.text for record in corpus.records], [record.id for record in corpus.records]
    with Searcher.open(tmp_path / "index", model=of_four_views) as searcher:
        assert (searcher.fusion, searcher.weights) == ("weighted", WEIGHTS)
        asked: list[dict[View, float] | None] = [
            None,
            {"lexical": 1.0},
            {"hs": 1.0, "tokens": 2.0},
            {"rw": 0.5, "hs": 1.0},
        ]
        for weights in asked:
            expected = searcher.embedder.encode(texts, weights=weights) @ searcher.embedder.encode(
                QUERIES[0], weights=weights
            )
            found = {hit.record.id: hit for hit in searcher.search(QUERIES[0], 120, weights=weights)}
            scores = [found[name].score for name in ids]
            np.testing.assert_allclose(scores, expected, atol=1e-5)
            counts = WEIGHTS if weights is None else weights
            for hit in found.values():
                total = sum(weight * hit.cosines[view] for view, weight in counts.items())
                assert hit.score == pytest.approx(total / sum(counts.values()))
        alpha = searcher.search(QUERIES[0], 3, alpha=0.2)
        assert [hit.score for hit in alpha] == [
            hit.score for hit in searcher.search(QUERIES[0], 3, weights={"hs": 1.0, "rw": 0.2})
        ]
        assert searcher.named_fusion(alpha=0.2) == "sum"


def test_blocks_serve_every_alpha_without_the_model(searcher: Searcher) -> None:
    blocks = searcher.query_blocks(QUERIES)
    for row, query in enumerate(QUERIES):
        for alpha in ALPHAS:
            again = searcher.find(searcher.weigh({view: rows[row] for view, rows in blocks.items()}, alpha=alpha), 5)
            direct = searcher.search(query, 5, alpha=alpha)
            assert [hit.record.id for hit in again] == [hit.record.id for hit in direct]
            assert [hit.score for hit in again] == pytest.approx([hit.score for hit in direct], abs=1e-6)


def test_the_index_says_what_counts_when_a_search_says_nothing(write_corpus: WriteCorpus, tmp_path: Path) -> None:
    model = MoEE.from_pretrained("fake", fusion="hs", alpha=0.75)
    build_index(tmp_path / "index", write_corpus(), model)
    with Searcher.open(tmp_path / "index") as searcher:
        assert (searcher.fusion, searcher.alpha) == ("hs", 0.75)
        assert searcher.query("x").weights == {"hs": 1.0, "rw": 0.0}
        assert searcher.query("x", fusion="sum").weights == {"hs": 1.0, "rw": 0.75}
        assert searcher.query("x", fusion="sum", alpha=np.float32(2)).weights == {"hs": 1.0, "rw": 2.0}


def test_filters_decide_what_is_found(searcher: Searcher) -> None:
    hits = searcher.search(QUERIES[0], k=300, where='kind == "odd" and number < 100')
    assert len(hits) == 50
    assert all(hit.record.fields["kind"] == "odd" and hit.record.fields["number"] < 100 for hit in hits)
    assert searcher.search(QUERIES[0], where="number < 0") == []


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"fusion": "concat"}, InputError, "fusion='concat' cannot be searched: an index keeps each view at unit"),
        ({"fusion": "summ"}, UnknownNameError, "Unknown fusion 'summ'.*Did you mean 'sum'"),
        ({"alpha": -1.0}, InputError, "alpha is -1.0"),
        ({"alpha": float("nan")}, InputError, "alpha is nan"),
        ({"k": 0}, InputError, "k is 0; it must be 1 or larger"),
        ({"where": "nmber > 3"}, InputError, "'nmber'.*Did you mean 'number'"),
        ({"where": "number = 3"}, InputError, "Use == to compare"),
        ({"where": 'number > "3"'}, InputError, "must be a whole number"),
    ],
)
def test_unusable_values_are_refused(
    searcher: Searcher, values: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        searcher.search("x", **values)


def test_empty_queries_are_refused(searcher: Searcher) -> None:
    with pytest.raises(InputError, match="Text 0 is only whitespace"):
        searcher.search(" ")


def test_a_model_in_memory_is_shared_and_keeps_its_own_statistics(write_corpus: WriteCorpus, tmp_path: Path) -> None:
    """Two indices over one model, each with its own statistics."""
    model = MoEE.from_pretrained("fake")
    model.calibrate([f"some text {number}" for number in range(30)])
    before = model.encode(["a b c"])
    build_index(tmp_path / "one", write_corpus(300), model, BuildOptions(calibrate="corpus"))
    build_index(tmp_path / "two", write_corpus(400, name="b.jsonl"), model, BuildOptions(calibrate="corpus"))
    with Searcher.open(tmp_path / "one", model=model) as one, Searcher.open(tmp_path / "two", model=model) as two:
        assert [one.embedder.calibration.num_texts, two.embedder.calibration.num_texts] == [300, 400]
        assert one.search("a b c", k=1)[0].score != two.search("a b c", k=1)[0].score
    assert np.array_equal(model.encode(["a b c"]), before)


def test_settings_that_decide_vectors_must_be_those_of_the_index(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    build_index(tmp_path / "index", write_corpus(), fake)
    with pytest.raises(InputError, match="built with prompt = 'prompteol', and 'ke' is asked for"):
        Searcher.open(tmp_path / "index", prompt="ke")
    with pytest.raises(InputError, match="built with scoring = 'softmax', and 'logits' is asked for"):
        Searcher.open(tmp_path / "index", scoring="logits")
    with pytest.raises(InputError, match="in memory already, and device cannot be chosen"):
        Searcher.open(tmp_path / "index", model=fake, device="cpu")
    Searcher.open(tmp_path / "index", prompt="prompteol", batch_tokens=100).close()


def test_another_precision_of_the_computation_is_announced(
    write_corpus: WriteCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = MoEE.from_pretrained(GOLDEN, dtype="float32")
    build_index(tmp_path / "index", write_corpus(300), model)
    with Searcher.open(tmp_path / "index") as searcher:
        assert searcher.embedder.info.dtype == "float32"
    assert not caplog.messages
    with Searcher.open(tmp_path / "index", dtype="bfloat16"):
        pass
    assert "computed in float32 (exact), the model computes in bfloat16 (exact)" in caplog.text


def test_a_folder_without_an_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no index .*moee index build FILE --out"):
        Searcher.open(tmp_path)


def test_a_model_that_was_moved_is_named_and_found_where_it_is_said_to_be(
    write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    shutil.copytree(GOLDEN, tmp_path / "model")
    model = MoEE.from_pretrained(tmp_path / "model", dtype="float32")
    build_index(tmp_path / "index", write_corpus(30), model, BuildOptions(calibrate="none"))
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"the model in '.*model', which is not there. If it was moved, say where"):
        Searcher.open(tmp_path / "index")
    with Searcher.open(tmp_path / "index", model=str(tmp_path / "moved")) as searcher:
        assert len(searcher.search("a cat", k=3)) == 3
