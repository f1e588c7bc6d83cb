"""The floors: their formulas on miniature data, and known values on the evaluation sets."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.naive_bayes import MultinomialNB

from moee.evaluate.tasks import (
    FLOORS,
    ClassificationData,
    ClusteringData,
    DocumentSimilarityData,
    Indices,
    PairData,
    RerankingData,
    RetrievalData,
    STSData,
    SummarizationData,
    apply_statistic,
    floors,
    load_task,
    tfidf_score,
)
from moee.evaluate.tasks.classification import naive_bayes_score
from moee.evaluate.tasks.reranking import expected_average_precision
from moee.evaluate.tasks.retrieval import bm25_score
from moee.evaluate.tasks.words import tfidf, word_counts

TEXTS = (
    "A cat sat on the mat.",
    "the CAT and the cat",
    "Rates rose again, again and again",
    "rates fell",
    "mats for cats",
    "!!!",
    "a dog sat there",
    "the bank raised rates",
)

STEMS = {"cats": "cat", "mats": "mat", "rates": "rat", "rose": "ros", "raised": "rais", "there": "ther"}


def places(*numbers: int) -> Indices:
    return np.array(numbers, dtype=np.int64)


STS = STSData("mini", TEXTS, places(0, 2, 0, 4), places(1, 3, 3, 6), np.array([4.0, 3.0, 0.5, 1.0]))


def reference_vectors(listed: Indices) -> list[dict[str, float]]:
    """The docstring's formula, written out word by word."""
    words = [[STEMS.get(word, word) for word in re.findall("[a-z]+", text.lower())] for text in TEXTS]
    frequency: dict[str, int] = {}
    for place in listed:
        for word in set(words[place]):
            frequency[word] = frequency.get(word, 0) + 1
    weights = {w: max(math.log((len(listed) + 1) / (frequency.get(w, 0) + 1)), 0.01) for each in words for w in each}
    vectors = [{w: (1 + math.log(each.count(w))) * weights[w] for w in each} for each in words]
    lengths = [math.sqrt(sum(value**2 for value in vector.values())) or 1.0 for vector in vectors]
    return [{w: value / n for w, value in vector.items()} for vector, n in zip(vectors, lengths, strict=True)]


def test_tfidf_is_the_formula_of_the_docstring() -> None:
    listed = places(0, 1, 1, 2, 5)
    vectors = tfidf(TEXTS, listed)
    expected = reference_vectors(listed)
    cosines = (vectors @ vectors.T).toarray()
    for i, j in itertools.product(range(len(TEXTS)), repeat=2):
        by_hand = sum(value * expected[j].get(word, 0.0) for word, value in expected[i].items())
        assert cosines[i, j] == pytest.approx(by_hand, abs=1e-12)
    assert np.diag(cosines)[5] == 0  # no words
    assert np.delete(np.diag(cosines), 5) == pytest.approx(1, abs=1e-12)


def test_pairs_score_their_own_cosines() -> None:
    """Repeats count: pair texts are listed as often as the columns hold them."""
    expected = reference_vectors(np.concatenate([STS.left, STS.right]))
    score = tfidf_score(STS)
    for item, i, j in zip(score.items, STS.left, STS.right, strict=True):
        assert item == pytest.approx(sum(v * expected[j].get(w, 0.0) for w, v in expected[i].items()), abs=1e-6)
    assert score.metric == "cosine_spearman"
    labelled = PairData("mini", TEXTS, STS.left, STS.right, places(1, 0, 0, 0))
    floor = tfidf_score(labelled)
    assert floor.main == pytest.approx(average_precision_score(labelled.labels, score.items), abs=1e-9)
    assert floor.items == pytest.approx(score.items, abs=1e-6)


def test_pairs_without_common_words_have_no_floor() -> None:
    apart = STSData("words", TEXTS, places(0, 1, 0), places(3, 2, 3), np.array([1.0, 2.0, 3.0]), ("a", "b", "a"))
    assert floors(apart) == {}
    assert list(floors(STS)) == ["tfidf"]


@pytest.mark.parametrize(
    ("relevant", "scores"),
    [
        ([1, 0, 0, 1], [0.5, 0.5, 0.5, 0.2]),
        ([1, 1, 0, 0, 1], [0.0, 0.0, 0.0, 0.0, 0.0]),
        ([0, 1, 1, 0], [0.9, 0.9, 0.1, 0.1]),
        ([0, 0, 1], [0.3, 0.2, 0.1]),
    ],
)
def test_expected_average_precision_averages_over_the_orders_of_ties(relevant: list[int], scores: list[float]) -> None:
    found = []
    for order in itertools.permutations(range(len(scores))):
        ranked = sorted(order, key=lambda i: -scores[i])  # stable: ties stay as the permutation has them
        hits = np.array(relevant)[ranked]
        found.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits == 1].mean())
    value = expected_average_precision(np.array(relevant, dtype=bool), np.array(scores))
    assert value == pytest.approx(np.mean(found), abs=1e-12)


def test_bm25_ranks_by_the_sum_of_its_formula() -> None:
    data = RetrievalData(
        "mini", TEXTS, places(1, 3), places(0, 2, 4, 6, 7), ("q1", "q2"), ("a", "b", "c", "d", "e"),
        {"q1": {"b": 1, "e": 1}, "q2": {"e": 2, "b": 1}},
    )  # fmt: skip
    counts = word_counts(TEXTS).toarray()
    documents = counts[data.documents]
    lengths = documents.sum(axis=1)
    frequency = (documents > 0).sum(axis=0)
    idf = np.log(1 + (5 - frequency + 0.5) / (frequency + 0.5))
    k = 0.9 * (1 - 0.4 + 0.4 * lengths / lengths.mean())
    sums = [(idf * documents * 1.9 / (documents + k[:, None]))[:, counts[q] > 0].sum(axis=1) for q in data.queries]
    # c and d share no word with q1: they tie at the end, where nothing is relevant
    gains = [np.array([0, 1, 0, 0, 1])[np.argsort(-sums[0])], np.array([0, 1, 0, 0, 2])[np.argsort(-sums[1])]]
    ideals = [np.array([1, 1, 0, 0, 0]), np.array([2, 1, 0, 0, 0])]
    discounts = 1 / np.log2(np.arange(2, 7))
    expected = [float(g @ discounts / (i @ discounts)) for g, i in zip(gains, ideals, strict=True)]
    assert len(set(np.round(sums[0], 9))) >= 4  # so that hardly any order is left to ties
    assert bm25_score(data).items == pytest.approx(expected, abs=1e-9)
    assert set(floors(data)) == {"tfidf", "bm25"}


def test_naive_bayes_agrees_with_scikit_learn_where_no_word_is_new() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(30)])
    labels = rng.integers(3, size=90)
    texts = tuple(" ".join(rng.choice(words[6 * label : 6 * label + 18], size=12)) for label in labels)
    train, test = np.arange(60), np.arange(60, 90)
    data = ClassificationData("mini", texts, train, labels[train], test, labels[test], ("a", "b", "c"))
    counts = word_counts(texts)
    assert (counts[train].sum(axis=0) > 0).all()
    model = MultinomialNB(alpha=1.0).fit(counts[train], labels[train])
    score = naive_bayes_score(data)
    assert score.items.tolist() == (model.predict(counts[test]) == labels[test]).astype(float).tolist()
    assert 0.4 < score.main < 1  # better than chance, and not so easy that the comparison is empty


def test_naive_bayes_gives_a_new_word_the_smoothed_probability_of_each_class() -> None:
    """By hand: class 0 has 1 word, class 1 has 7; V is 3. The new words favour the class with fewer words."""
    texts = ("one", "two two two two two two six", "one new new new", "two new")
    data = ClassificationData("mini", texts, places(0, 1), places(0, 1), places(2, 3), places(0, 1), ("a", "b"))
    # "two new": class 0: (1/4)(1/4) = 0.0625; class 1: (7/10)(1/10) = 0.07
    assert naive_bayes_score(data).items.tolist() == [1.0, 1.0]
    # "two new new": class 0: 1/64 = 0.0156; class 1: 0.7 / 100 = 0.007
    texts = ("one", "two two two two two two six", "two new new")
    data = ClassificationData("mini", texts, places(0, 1), places(0, 1), places(2), places(1), ("a", "b"))
    assert naive_bayes_score(data).items.tolist() == [0.0]


def test_classification_uses_the_protocol_of_the_vectors() -> None:
    topics = {0: "cat dog mat fur paw tail", 1: "rate bank loan bond fund cash"}
    rng = np.random.default_rng(1)
    labels = np.tile([0, 1], 40)
    texts = tuple(f"{number} " + " ".join(rng.choice(topics[label].split(), 4)) for number, label in enumerate(labels))
    train, test = np.arange(40), np.arange(40, 80)
    data = ClassificationData("mini", texts, train, labels[train], test, labels[test], ("animals", "money"))
    assert tfidf_score(data).main > 0.95
    assert set(floors(data)) == {"tfidf", "naive-bayes"}


def test_the_other_types_have_a_floor() -> None:
    rng = np.random.default_rng(2)
    groups = ["cat dog mat fur", "rate bank loan bond", "sun rain wind snow"]
    labels = np.repeat([0, 1, 2], 20)
    texts = tuple(" ".join(rng.permutation(groups[label].split())[:3]) + f" n{i}" for i, label in enumerate(labels))
    clusters = ClusteringData("mini", texts, np.arange(60), labels, (np.arange(60), np.arange(20)), ("a", "b", "c"))
    score = floors(clusters)["tfidf"]
    assert score.items[1] == 1.0  # one class
    assert score.items[0] > 0.5
    reranking = RerankingData("mini", TEXTS, places(1, 3), (places(0), places(7)), (places(7, 2), places(4, 5)))
    score = floors(reranking)["tfidf"]
    assert score.items.tolist() == [1.0, 1.0]
    summaries = SummarizationData("mini", TEXTS, (places(0, 6),), (places(1, 4, 7),), (np.array([3.0, 2.0, 1.0]),))
    assert floors(summaries)["tfidf"].items[0] > 0
    ratings = np.arange(16.0).reshape(4, 4)
    documents = DocumentSimilarityData("mini", TEXTS, places(0, 1, 2, 3), ratings)
    vectors = tfidf(TEXTS, documents.documents)[:4]
    cosines = (vectors @ vectors.T).toarray()[np.triu_indices(4, 1)]
    assert floors(documents)["tfidf"].items == pytest.approx(cosines, abs=1e-6)


KNOWN = {
    "STS12": {"tfidf": 0.567},
    "STS13": {"tfidf": 0.724},
    "STS16": {"tfidf": 0.720},
    "STSBenchmark": {"tfidf": 0.705},
    "SICK-R": {"tfidf": 0.582},
    "TwitterSemEval2015": {"tfidf": 0.514},
    "WikiQA": {"tfidf": 0.569},
    "QuoraDuplicateRR": {"tfidf": 0.921},
    "SciFact": {"bm25": 0.659},
    "Cranfield": {"bm25": 0.465},
    "SummEval": {"tfidf": 0.196},
    "Lee50": {"tfidf": 0.528},
    "EmotionClassification": {"naive-bayes": 0.767},
    "Banking77Classification": {"naive-bayes": 0.786},
    "AmazonCounterfactual-en": {"naive-bayes": 0.878},
}
"""From the README of the evaluation data: computed there by other code, over words as they are written."""


@pytest.mark.data
@pytest.mark.parametrize("name", KNOWN)
def test_floors_have_their_known_values(data_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moee.evaluate.tasks.words.words", lambda text: re.findall("[a-z0-9]+", text.lower()))
    data = load_task(data_folder / name, name)
    found = floors(data)
    assert set(found) <= set(FLOORS)
    assert {floor: found[floor].main for floor in KNOWN[name]} == pytest.approx(KNOWN[name], abs=0.002)
    for score in found.values():
        assert apply_statistic(score.statistic, score.items, score.targets) == pytest.approx(score.main, abs=1e-9)
