"""What `limit` and `corpus_limit` leave of a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from moee.evaluate.tasks import DataError
from tests.evaluate.tasks.test_files import SEARCH, loaded


@pytest.mark.parametrize(
    ("limit", "kept"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, list(range(10))), (99, list(range(10)))]
)
def test_a_limit_takes_rows_at_equal_distances(tmp_path: Path, limit: int, kept: list[int]) -> None:
    rows = [{"sentence1": f"l{n}", "sentence2": f"r{n}", "score": n} for n in range(10)]
    data = loaded(tmp_path, "STS12", {"test": rows}, limit=limit)
    assert data.scores.tolist() == kept
    assert data.texts == (*(f"l{n}" for n in kept), *(f"r{n}" for n in kept))


def test_a_limit_bounds_test_and_training_texts_and_keeps_every_label(tmp_path: Path) -> None:
    train = [{"text": f"r{n}", "label": n // 8} for n in range(24)]  # sorted by label, as many files are
    files = {"train": train, "test": [{"text": f"t{n}", "label": 0} for n in range(5)]}
    for limit, wanted in (
        (3, ["r0", "r8", "r16"]),
        (1, ["r0", "r8", "r16"]),
        (6, ["r0", "r7", "r8", "r15", "r16", "r23"]),
    ):
        data = loaded(tmp_path / str(limit), "EmotionClassification", files, limit=limit)
        assert [data.texts[row] for row in data.train] == wanted
        assert data.train_labels.tolist() == [int(text[1:]) // 8 for text in wanted]
    assert [data.texts[row] for row in data.test] == ["t0", "t1", "t2", "t3", "t4"]
    whole = loaded(tmp_path / "whole", "EmotionClassification", files)
    assert len(whole.train) == 24


def test_a_limit_bounds_the_texts_of_all_clustering_sets_and_drops_what_is_in_none(tmp_path: Path) -> None:
    data = loaded(tmp_path, "TwentyNewsgroupsClustering", limit=2)
    (lines,) = data.sets
    assert [data.texts[data.rows[line]] for line in lines] == ["a", "d"]  # lines 0 and 4: two hold the same text
    assert data.texts == ("a", "d")
    assert len(data.rows) == 2


def test_a_larger_limit_takes_more_clustering_sets(tmp_path: Path) -> None:
    files = {
        "data": [{"text": f"t{n}", "label": n % 2} for n in range(900)],
        "sets": [{"set": n, "rows": list(range(300 * n, 300 * n + 300))} for n in range(3)],
    }
    for limit, sizes in ((100, [100]), (399, [300]), (400, [200, 200]), (700, [233, 233, 233]), (9000, [300] * 3)):
        data = loaded(tmp_path / str(limit), "TwentyNewsgroupsClustering", files, limit=limit)
        assert [len(lines) for lines in data.sets] == sizes
        assert len(data.texts) == sum(sizes)


def test_a_limit_bounds_the_texts_of_each_query_and_article(tmp_path: Path) -> None:
    ranks = loaded(tmp_path / "ranks", "WikiQA", limit=1)
    assert ([len(each) for each in ranks.positives], [len(each) for each in ranks.negatives]) == ([1], [1])
    assert ranks.texts == ("q", "a", "b")
    summaries = loaded(tmp_path / "summaries", "SummEval", limit=2)
    assert [len(each) for each in summaries.human] == [2, 1]
    assert [len(each) for each in summaries.machine] == [len(each) for each in summaries.relevance] == [2, 2]
    assert summaries.relevance[0].tolist() == [1, 2.5]


def test_a_limit_of_queries_bounds_the_documents_too(tmp_path: Path) -> None:
    corpus = [{"_id": f"d{n}", "text": f"text {n}"} for n in range(40)]
    qrels = [{"query_id": "q1", "doc_id": "d39", "score": 1}, {"query_id": "q2", "doc_id": "d38", "score": 1}]
    files = {**SEARCH, "corpus": corpus, "qrels": qrels}
    found = [
        len(loaded(tmp_path / f"{limit} {documents}", "SciFact", files, limit=limit, corpus_limit=documents).documents)
        for limit, documents in ((1, None), (2, None), (2, 15), (2, 1000), (50, 30))
    ]
    assert found == [10, 20, 15, 20, 30]


def test_a_limit_of_documents_keeps_the_ratings_of_every_two_of_them(tmp_path: Path) -> None:
    data = loaded(tmp_path, "Lee50", limit=2)
    assert [data.texts[row] for row in data.documents] == ["a", "c"]
    assert data.similarity.tolist() == [[1.0, 0.3], [0.3, 1.0]]


def test_a_corpus_limit_keeps_every_judged_document_then_the_first_others(tmp_path: Path) -> None:
    kept = {limit: loaded(tmp_path / str(limit), "SciFact", corpus_limit=limit) for limit in (1, 4, 5, 6, 7, None)}
    judged = ("d1", "d3", "d4", "d5")
    assert kept[1].document_ids == kept[4].document_ids == judged
    assert kept[5].document_ids == ("d0", *judged)
    assert kept[6].document_ids == kept[7].document_ids == kept[None].document_ids == tuple(f"d{n}" for n in range(6))
    for data in kept.values():
        assert [data.texts[row][-1] for row in data.documents] == [each[-1] for each in data.document_ids]
        assert data.relevance == kept[None].relevance


def test_a_limit_of_queries_drops_the_judgements_of_the_others(tmp_path: Path) -> None:
    data = loaded(tmp_path, "SciFact", limit=2, corpus_limit=3)
    assert data.query_ids == ("q1", "q3")
    assert data.relevance == {"q1": {"d4": 2, "d1": 0}, "q3": {"d3": 1}}
    assert data.document_ids == ("d1", "d3", "d4")


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(tmp_path: Path, limit: int) -> None:
    with pytest.raises(DataError, match=f"limit is {limit}; it must be 1 or larger"):
        loaded(tmp_path, "STS12", limit=limit)
