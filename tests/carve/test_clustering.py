from __future__ import annotations

import numpy as np
import pytest

from moee.carve.clustering import balanced_kmeans, order_neurons


def unit(points: np.ndarray) -> np.ndarray:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("num_points", "num_clusters"), [(96, 8), (60, 4), (12, 12)])
def test_clusters_have_equal_sizes(num_points: int, num_clusters: int) -> None:
    points = unit(np.random.default_rng(0).normal(size=(num_points, 16)))
    labels = balanced_kmeans(points, num_clusters, iterations=10, rng=np.random.default_rng(1))
    assert np.bincount(labels, minlength=num_clusters).tolist() == [num_points // num_clusters] * num_clusters


def test_separate_groups_of_the_right_size_are_found() -> None:
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(5), 8))
    points = unit(np.eye(5)[groups] + 0.1 * rng.normal(size=(40, 5)))
    labels = balanced_kmeans(points, 5, iterations=10, rng=np.random.default_rng(1))
    assert len(set(zip(groups.tolist(), labels.tolist(), strict=True))) == 5


def test_identical_points_still_give_equal_clusters() -> None:
    labels = balanced_kmeans(unit(np.ones((20, 3))), 4, iterations=5, rng=np.random.default_rng(0))
    assert np.bincount(labels).tolist() == [5] * 4


def test_neurons_that_contribute_most_are_shared_and_none_is_lost() -> None:
    profiles = np.random.default_rng(0).uniform(size=(50, 24)).astype(np.float32)
    profiles[:, [3, 17, 20, 5]] += 10
    order = order_neurons(profiles, num_shared=4, num_experts=5, iterations=5, rng=np.random.default_rng(0))
    assert order[:4].tolist() == [3, 5, 17, 20]
    assert sorted(order.tolist()) == list(range(24))


def test_neurons_that_fire_together_share_an_expert() -> None:
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(4), 6))
    topic = rng.integers(4, size=200)
    profiles = (group[None, :] == topic[:, None]) * rng.uniform(0.5, 1.5, size=(200, 24)) + 0.01
    profiles = np.concatenate([np.full((200, 2), 9.0), profiles], axis=1).astype(np.float32)
    order = order_neurons(profiles, num_shared=2, num_experts=4, iterations=10, rng=np.random.default_rng(0))
    experts = order[2:].reshape(4, 6) - 2
    assert all(len(set(group[members])) == 1 for members in experts)
