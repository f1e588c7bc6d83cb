"""Indexes that keep words: how they are made, asked, and kept up to date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from moee import MoEE
from moee.data import calibration_texts
from moee.errors import InputError
from moee.index.build import add_texts, build_index
from moee.index.fit import BuildOptions
from moee.index.searcher import Searcher
from moee.maps.points import read_points
from tests.index.conftest import WriteCorpus

QUERY = calibration_texts()[17]


@pytest.fixture(scope="module")
def lexical() -> MoEE:
    """An embedder with the lexical view beside the hidden states."""
    return MoEE.from_pretrained("fake", fusion="weighted", weights={"hs": 1.0, "lexical": 1.0})


@pytest.fixture
def hybrid(lexical: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> Iterator[Searcher]:
    build_index(tmp_path / "index", write_corpus(), lexical, BuildOptions(hybrid=True))
    with Searcher.open(tmp_path / "index", model=lexical) as opened:
        yield opened


def test_words_take_the_place_of_the_lexical_block(hybrid: Searcher) -> None:
    assert list(hybrid.manifest.layout.dims) == ["hs", "rw"]
    assert hybrid.views == ("hs", "rw", "lexical")
    assert hybrid.weights == {"hs": 1.0, "rw": 0.0, "lexical": 1.0}
    hit = hybrid.search(QUERY, 1)[0]
    assert hit.record.id == "t17"
    assert hit.cosines == pytest.approx({"hs": 1.0, "rw": 1.0, "lexical": 1.0}, abs=1e-5)
    assert hit.score == pytest.approx(1.0, abs=1e-5)


def test_words_can_be_weighed_left_out_and_insisted_on(hybrid: Searcher) -> None:
    words = hybrid.search("the cell", 5, weights={"lexical": 1.0})
    assert all("cell" in hit.record.text.lower() or "the" in hit.record.text.lower() for hit in words)
    dense = hybrid.search("the cell", 5, hybrid=False)
    assert [hit.score for hit in dense] == [hit.cosines["hs"] for hit in dense]
    assert "lexical" not in dense[0].cosines
    alone = hybrid.search("the cell", 5, fusion="hs")
    assert [hit.record.id for hit in alone] == [hit.record.id for hit in dense]
    both = hybrid.search("the cell", 5, fusion="hs", hybrid=True)
    assert [hit.to_dict() for hit in both] == [hit.to_dict() for hit in hybrid.search("the cell", 5)]
    with pytest.raises(InputError, match="not all 0"):
        hybrid.search("the cell", 5, weights={"lexical": 1.0}, hybrid=False)


def test_added_and_deleted_texts_are_found_by_their_words(hybrid: Searcher, write_corpus: WriteCorpus) -> None:
    words = {"lexical": 1.0}
    corpus = write_corpus(3, name="more.jsonl")
    records = [replace(record, text=f"A quetzalcoatlus flew over {record.id}.") for record in corpus.records]
    add_texts(hybrid, replace(corpus, records=records))
    assert {hit.record.id for hit in hybrid.search("quetzalcoatlus", 9, weights=words)} == {"t0", "t1", "t2"}
    hybrid.store.delete(["t1"])
    assert {hit.record.id for hit in hybrid.search("quetzalcoatlus", 9, weights=words)} == {"t0", "t2"}


def test_a_shortened_index_keeps_its_words(lexical: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    build_index(tmp_path / "index", write_corpus(), lexical, BuildOptions(dims=4, quantize="int8", hybrid=True))
    with Searcher.open(tmp_path / "index", model=lexical) as searcher:
        assert sum(searcher.manifest.layout.dims.values()) == 4
        assert searcher.search(QUERY, 1)[0].record.id == "t17"


def test_without_words_the_lexical_view_is_a_block(lexical: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    corpus = write_corpus()
    build_index(tmp_path / "index", corpus, lexical)
    with Searcher.open(tmp_path / "index", model=lexical) as searcher:
        assert list(searcher.manifest.layout.dims) == ["hs", "rw", "lexical"]
        assert searcher.manifest.layout.dims["lexical"] == lexical.config.lexical_dim
        assert searcher.search(QUERY, 1)[0].record.id == "t17"
        with pytest.raises(InputError, match="keeps no words"):
            searcher.search(QUERY, 1, hybrid=True)
    with pytest.raises(InputError, match="hybrid was False and is True now"):
        build_index(tmp_path / "index", corpus, lexical, BuildOptions(hybrid=True))


def test_words_beside_the_views_of_the_paper(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    build_index(tmp_path / "index", write_corpus(), fake, BuildOptions(hybrid=True))
    with Searcher.open(tmp_path / "index", model=fake) as searcher:
        assert searcher.views == ("hs", "rw", "lexical")
        assert searcher.weights == {"hs": 1.0, "rw": searcher.alpha, "lexical": 1.0}
        assert searcher.search("quick", 1)[0].cosines["lexical"] >= 0


def test_a_map_of_an_index_with_words_is_one_of_its_vectors(hybrid: Searcher) -> None:
    points = read_points(hybrid.index, max_points=500, seed=0)
    assert points.vectors.shape == (400, 16)  # HS alone counts, beside the words
