"""Scores of each type on data whose score can be worked out by hand, the order of encode calls, and refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from moee.errors import InputError
from moee.evaluate.tasks import (
    ClassificationData,
    ClusteringData,
    DocumentSimilarityData,
    Embed,
    Indices,
    PairData,
    RerankingData,
    RetrievalData,
    STSData,
    SummarizationData,
    TaskScore,
    apply_statistic,
    load_task,
    score,
)
from moee.evaluate.tasks.classification import draw_samples
from moee.types import Array
from tests.evaluate.tasks.miniatures import MINIATURES, hashed_embed, write_miniature


def ints(*values: int) -> Indices:
    return np.array(values, dtype=np.int64)


def at_angles(*degrees: float) -> Array:
    """Unit vectors in the plane: the cosine of two is that of the angle between them."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def lookup(vectors: npt.ArrayLike) -> Embed:
    table = np.asarray(vectors, dtype=np.float32)
    return lambda rows: table[rows]


def texts(count: int) -> tuple[str, ...]:
    return tuple(f"text {n}" for n in range(count))


# one text at 0 degrees against four at growing angles: cosines fall from pair to pair
STS = STSData("STS12", texts(5), ints(0, 0, 0, 0), ints(1, 2, 3, 4), np.array([4.0, 2.0, 3.0, 1.0]))
STS_VECTORS = at_angles(0, 10, 20, 30, 40)


def test_sts_is_the_spearman_of_cosines_and_scores() -> None:
    found = score(STS, lookup(STS_VECTORS))
    assert found.metric == "cosine_spearman"
    assert found.main == pytest.approx(1 - 6 * 2 / (4 * 15), abs=1e-12)  # two neighbours are swapped
    assert found.items == pytest.approx(np.cos(np.radians([10, 20, 30, 40])), abs=1e-6)


def test_sts_with_groups_is_the_mean_of_the_groups() -> None:
    both = STSData("WordSimilarity", texts(5), ints(*[0] * 7), ints(1, 2, 3, 4, 1, 2, 3),
                   np.array([4.0, 2.0, 3.0, 1.0, 1.0, 2.0, 3.0]), tuple("aaaabbb"))  # fmt: skip
    found = score(both, lookup(STS_VECTORS))
    assert found.metrics["cosine_spearman_a"] == pytest.approx(0.8, abs=1e-12)
    assert found.metrics["cosine_spearman_b"] == pytest.approx(-1.0, abs=1e-12)
    assert found.main == pytest.approx((0.8 - 1.0) / 2, abs=1e-12)
    assert len(found.items) == 7


def test_pairs_are_scored_by_average_precision() -> None:
    data = PairData("TwitterSemEval2015", texts(5), ints(0, 0, 0, 0), ints(1, 2, 3, 4), ints(1, 0, 1, 0))
    found = score(data, lookup(STS_VECTORS))
    assert found.metrics["cosine_ap"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-12)


def test_pairs_take_the_best_of_the_similarities_as_mteb_does() -> None:
    # by cosine the mismatch is nearer, by distance the match is: the mismatch is long
    data = PairData("TwitterSemEval2015", texts(3), ints(0, 0), ints(1, 2), ints(1, 0))
    found = score(data, lookup([[1, 0], [1, 0.5], [9, 1]]))
    assert found.metrics["cosine_ap"] == pytest.approx(0.5, abs=1e-12)
    assert found.main == found.metrics["max_ap"] == found.metrics["euclidean_ap"] == pytest.approx(1.0, abs=1e-12)


def test_classification_of_classes_that_lie_apart_is_right_for_every_text() -> None:
    labels = ints(*[0, 1, 2] * 20)
    data = ClassificationData(
        "made up", texts(60), np.arange(45), labels[:45], np.arange(45, 60), labels[45:], ("a", "b", "c")
    )
    found = score(data, lookup(10 * np.eye(3)[labels]))
    assert found.main == 1.0
    assert found.items.tolist() == [1.0] * 15


def test_classification_items_are_shares_of_runs() -> None:
    data = _classification_of_noise()
    found = score(data, hashed_embed(data))
    assert set((found.items * 10).round(9)) <= set(range(11))
    assert 0 < found.main < 1
    assert found.main == pytest.approx(found.items.mean(), abs=1e-12)


def _classification_of_noise() -> ClassificationData:
    labels = np.random.default_rng(0).integers(0, 2, 120)
    return ClassificationData(
        "made up", texts(120), np.arange(80), labels[:80], np.arange(80, 120), labels[80:], ("a", "b")
    )


def test_samples_are_balanced_and_differ_from_run_to_run() -> None:
    labels = np.array([0] * 50 + [1] * 30 + [2] * 3)
    drawn = draw_samples(labels, 8, 4, seed=42)
    assert [np.bincount(labels[chosen]).tolist() for chosen in drawn] == [[8, 8, 3]] * 4
    assert len({tuple(sorted(chosen)) for chosen in drawn}) == 4
    again = draw_samples(labels, 8, 4, seed=42)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def _clustering() -> ClusteringData:
    labels = ints(0, 1, 0, 1, 0, 1, 1, 0)
    return ClusteringData("made up", texts(8), np.arange(8), labels, (np.arange(8), ints(1, 3, 5)), ("a", "b"))


def test_clusters_that_lie_apart_are_found() -> None:
    data = _clustering()
    found = score(data, lookup(np.eye(2)[data.labels] + 0.01 * np.random.default_rng(0).random((8, 2))))
    assert found.items.tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
    assert found.metrics["ami"] == found.metrics["ari"] == pytest.approx(1.0, abs=1e-12)


def test_a_set_of_one_class_is_not_encoded() -> None:
    data = _clustering()
    calls: list[list[int]] = []

    def embed(rows: Indices) -> Array:
        calls.append(rows.tolist())
        return np.eye(2, dtype=np.float32)[data.labels[rows]]

    score(data, embed)
    assert calls == [list(range(8))]


def test_tied_candidates_count_negatives_first() -> None:
    data = RerankingData("made up", texts(4), ints(0), (ints(1),), (ints(2, 3),))
    found = score(data, lookup([[1, 0]] * 4))
    assert found.main == pytest.approx(1 / 3, abs=1e-12)
    assert found.metrics["ndcg_at_10"] == pytest.approx(1 / math.log2(4), abs=1e-12)


def test_reranking_averages_over_queries() -> None:
    data = RerankingData("made up", texts(5), ints(0, 0), (ints(1, 3), ints(4)), (ints(2), ints(1)))
    found = score(data, lookup(at_angles(0, 10, 20, 30, 40)))
    assert found.items == pytest.approx([(1 + 2 / 3) / 2, 1 / 2], abs=1e-12)
    assert found.metrics["mrr_at_10"] == pytest.approx(3 / 4, abs=1e-12)


def _retrieval() -> RetrievalData:
    judged = {"q0": {"a": 1, "d": 0}, "q2": {"c": 2, "b": 1, "outside": 1}}
    return RetrievalData(
        "made up", texts(7), ints(0, 1, 2), ints(3, 4, 5, 6), ("q0", "q1", "q2"), tuple("abcd"), judged
    )


def test_retrieval_breaks_ties_by_descending_id_and_counts_what_is_missing() -> None:
    # q0 is as near to a as to b, which comes first; q2 finds c, then b before a; the document outside is never found
    found = score(_retrieval(), lookup(at_angles(0, 0, 90, 0, 0, 80, -90)))
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found.items == pytest.approx([1 / math.log2(3), (2 + 1 / math.log2(3)) / ideal], abs=1e-9)


def test_queries_without_judgements_are_not_encoded() -> None:
    calls: list[list[int]] = []
    vectors = at_angles(0, 0, 90, 0, 0, 80, -90)

    def embed(rows: Indices) -> Array:
        calls.append(rows.tolist())
        return vectors[rows]

    score(_retrieval(), embed)
    assert calls == [[0, 2], [3, 4, 5, 6]]


def test_a_summary_is_as_good_as_its_nearest_human_one() -> None:
    data = SummarizationData("made up", texts(5), (ints(0, 1),), (ints(2, 3, 4),), (np.array([1.0, 3.0, 2.0]),))
    # nearest human summaries are 5, 1 and 20 degrees away: cosine ranks 2, 3, 1 against relevance 1, 3, 2
    found = score(data, lookup(at_angles(0, 90, 5, 91, 110)))
    assert found.main == pytest.approx(1 - 6 * 2 / (3 * 8), abs=1e-12)


def test_articles_without_varied_ratings_are_left_out() -> None:
    flat, varied = np.array([2.0, 2.0]), np.array([1.0, 2.0])
    data = SummarizationData("made up", texts(3), (ints(0), ints(0)), (ints(1, 2), ints(1, 2)), (flat, varied))
    assert len(score(data, lookup(at_angles(0, 10, 20))).items) == 1


def test_document_similarities_that_follow_the_ratings_have_pearson_1() -> None:
    vectors = at_angles(0, 25, 70, 100)
    data = DocumentSimilarityData(
        "Lee50", texts(4), np.arange(4), 0.3 * np.asarray(vectors @ vectors.T, np.float64) + 0.5
    )
    found = score(data, lookup(vectors))
    assert found.metric == "cosine_pearson"
    assert found.main == pytest.approx(1.0, abs=1e-6)
    assert len(found.items) == 6


@pytest.mark.parametrize("name", MINIATURES)
def test_the_main_score_follows_from_items_and_targets(tmp_path: Path, name: str) -> None:
    data = load_task(write_miniature(tmp_path, name), name)
    found = score(data, hashed_embed(data))
    assert apply_statistic(found.statistic, found.items, found.targets) == pytest.approx(found.main, abs=1e-12)
    assert found.metrics[found.metric] == found.main
    assert found.targets is None or len(found.targets) == len(found.items)


def test_group_shares_average_to_the_main_score() -> None:
    rng = np.random.default_rng(3)
    data = STSData(
        "WordSimilarity", texts(30), np.arange(20), np.arange(10, 30), rng.random(20), tuple("a" * 5 + "b" * 15)
    )
    found = score(data, hashed_embed(data))
    assert apply_statistic(found.statistic, found.items, found.targets) == pytest.approx(found.main, abs=1e-12)
    assert found.items.std() > 0


@pytest.mark.parametrize("name", MINIATURES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused_with_the_task(tmp_path: Path, name: str, bad: float) -> None:
    data = load_task(write_miniature(tmp_path, name), name)

    def embed(rows: Indices) -> Array:
        vectors = np.ones((len(rows), 3), dtype=np.float32)
        vectors[len(rows) // 2, 1] = bad
        return vectors

    with pytest.raises(InputError, match=rf"of {name} holds NaN or infinity"):
        score(data, embed)


@pytest.mark.parametrize("name", ["STS12", "SummEval", "Lee50"])
def test_equal_vectors_are_refused_where_the_score_would_be_nan(tmp_path: Path, name: str) -> None:
    data = load_task(write_miniature(tmp_path, name), name)
    with pytest.raises(InputError, match=rf"The score of {name} is NaN: .*equal"):
        score(data, lambda rows: np.ones((len(rows), 3), dtype=np.float32))


def test_equal_scores_are_refused() -> None:
    with pytest.raises(InputError, match=r"STS12 is NaN: all 4 scores are equal"):
        score(replace(STS, scores=np.full(4, 2.5)), lookup(STS_VECTORS))


def test_pairs_of_one_label_are_refused() -> None:
    data = PairData("TwitterSemEval2015", texts(5), ints(0, 0), ints(1, 2), ints(1, 1))
    with pytest.raises(InputError, match="one label only"):
        score(data, lookup(STS_VECTORS))


def test_training_texts_of_one_label_are_refused() -> None:
    data = replace(_classification_of_noise(), train_labels=np.zeros(80, dtype=np.int64))
    with pytest.raises(InputError, match="one label only"):
        score(data, hashed_embed(data))


def test_a_query_without_negatives_is_refused() -> None:
    data = RerankingData("made up", texts(3), ints(0), (ints(1),), (ints(),))
    with pytest.raises(InputError, match="Query 0 of made up"):
        score(data, lookup(STS_VECTORS))


def test_a_search_without_judgements_is_refused() -> None:
    with pytest.raises(InputError, match="none with a judgement"):
        score(replace(_retrieval(), relevance={}), lookup(at_angles(*range(7))))


def test_a_wrong_number_of_vectors_is_refused() -> None:
    with pytest.raises(InputError, match=r"STS12 have shape \(3, 2\)"):
        score(STS, lambda rows: STS_VECTORS[:3])


def test_a_statistic_without_its_targets_is_refused() -> None:
    with pytest.raises(InputError, match="targets is None"):
        apply_statistic("spearman", np.arange(3.0), None)


def test_a_score_is_a_value() -> None:
    assert TaskScore("m", 1.0, {"m": 1.0}, np.ones(1)).statistic == "mean"
