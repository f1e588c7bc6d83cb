"""Words and labels of groups of texts, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from moee.plots.topics import kmeans, topic_labels, topic_words


def test_topic_words_are_those_that_set_a_cluster_apart() -> None:
    texts = ["The red apple and a pear, said Anna", "apple pear plum", "engine wheel said Anna", "engine brake brake"]
    fruit, cars = topic_words(texts, np.array([0, 0, 1, 1]))
    assert set(list(fruit)[:2]) == {"apple", "pear"}
    assert set(list(cars)[:2]) == {"engine", "brake"}
    assert list(fruit) == sorted(fruit, key=lambda word: -fruit[word])
    assert "the" not in fruit  # a stop word
    # 2 of the cluster's 8 words; 8 and 7 words in the clusters and 2 uses in all: log(1 + (8 + 7) / 2 / 2)
    assert fruit["apple"] == pytest.approx(2 / 8 * np.log1p(7.5 / 2))


def test_a_text_in_no_group_has_no_say() -> None:
    texts = ["apple pear", "engine wheel", "apple engine noise"]
    with_it, without = np.array([0, 1, -1]), np.array([0, 1])
    assert topic_words(texts, with_it) == topic_words(texts[:2], without)


def test_equal_weights_keep_the_order_of_the_texts() -> None:
    words = topic_words(["pear apple", "wheel engine"], np.array([0, 1]))
    assert [list(each) for each in words] == [["pear", "apple"], ["wheel", "engine"]]


def test_a_group_without_words_has_an_empty_label() -> None:
    assert topic_labels(["12 34", "the of and", "apple"], np.array([0, 1, 2])) == ["", "", "apple"]
    assert topic_labels(["apple"], np.array([-1])) == []


def test_a_label_names_each_stem_once() -> None:
    texts = ["cells cells cell nucleus cat cats", "engine"]
    assert topic_labels(texts, np.array([0, 1]), words=5) == ["cells, nucleus, cat", "engine"]
    assert topic_labels(["art arts artist"], np.array([0])) == ["art, artist"]


def test_words_of_any_script_are_labels() -> None:
    texts = ["Москва столица", "čeština jazyk"]
    assert topic_labels(texts, np.array([0, 1])) == ["москва, столица", "čeština, jazyk"]


def test_halves_of_negated_verbs_are_no_words() -> None:
    texts = ["She didn't bake and wouldn’t; the baker's oven", "engine"]
    assert set(topic_words(texts, np.array([0, 1]))[0]) == {"bake", "baker", "oven"}


def test_kmeans_finds_groups_that_lie_apart_and_the_seed_fixes_them() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(center, 0.1, (20, 2)) for center in (0, 5, 10)]).astype(np.float32)
    labels = kmeans(points, 3, seed=0)
    assert [len(set(labels[start : start + 20])) for start in (0, 20, 40)] == [1, 1, 1]
    assert len(set(labels)) == 3
    np.testing.assert_array_equal(labels, kmeans(points, 3, seed=0))
