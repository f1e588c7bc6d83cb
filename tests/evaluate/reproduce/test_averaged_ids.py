"""The averaged ids of the original code, on data where it can be worked out what they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moee.errors import InputError
from moee.evaluate.reproduce.averaged_ids import averaged_classes, averaged_clusters, score_averaged_ids
from moee.evaluate.tasks import ClassificationData, ClusteringData, Embed, Indices, apply_statistic, load_task, score
from tests.evaluate.tasks.miniatures import hashed_embed, write_miniature

CLASSES = 3
LABELS = np.arange(60) % CLASSES
TEST = LABELS[45:]


def corners(labels: Indices) -> Embed:
    """Vectors that lie at one corner for each class, far apart."""
    vectors = 10 * np.eye(CLASSES, dtype=np.float32)[labels]
    return lambda rows: vectors[rows]


def classes(test_labels: Indices = TEST) -> ClassificationData:
    names = ("a", "b", "c")
    texts = tuple(f"text {n}" for n in range(60))
    return ClassificationData("made up", texts, np.arange(45), LABELS[:45], np.arange(45, 60), test_labels, names)


def test_two_classifiers_that_agree_keep_their_score() -> None:
    found = averaged_classes(classes(), corners(LABELS), corners(LABELS))
    assert found.metric == "accuracy_artefact"
    assert found.main == 1.0


def test_the_average_of_two_class_ids_is_a_third_class() -> None:
    # training corners are right; test texts of class 0 look like class 2 to the second classifier, and reversed
    swapped = np.concatenate([LABELS[:45], 2 - TEST])
    found = averaged_classes(classes(), corners(LABELS), corners(swapped))
    assert found.items.tolist() == (TEST == 1).astype(float).tolist()  # 0 and 2 average to 1, and nobody said 1


@pytest.mark.parametrize(("ids", "averaged"), [((0, 1), 0), ((1, 2), 2)])
def test_halves_go_to_the_even_id(ids: tuple[int, int], averaged: int) -> None:
    first, second = (np.concatenate([LABELS[:45], np.full(15, each)]) for each in ids)
    found = averaged_classes(classes(np.full(15, averaged)), corners(first), corners(second))
    assert found.main == 1.0


def clusters() -> ClusteringData:
    texts = tuple(f"text {n}" for n in range(60))
    return ClusteringData(
        "made up", texts, np.arange(60), LABELS, (np.arange(60), np.arange(0, 60, 3)), ("a", "b", "c")
    )


def test_two_runs_on_the_same_vectors_keep_their_score() -> None:
    found = averaged_clusters(clusters(), corners(LABELS), corners(LABELS))
    assert found.metric == "v_measure_artefact"
    assert found.items == pytest.approx([1.0, 1.0], abs=1e-12)  # the second set has one class


def test_averaged_cluster_ids_are_another_partition() -> None:
    data = clusters()
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((60, 8)).astype(np.float32)
    found = averaged_clusters(data, corners(LABELS), lambda rows: noise[rows])
    right = score(data, corners(LABELS))
    assert right.main == pytest.approx(1.0, abs=1e-12)
    assert found.main < right.main - 0.05
    assert set(found.metrics) == {"v_measure_artefact", "ami_artefact", "ari_artefact", "v_measure_std_artefact"}


@pytest.mark.parametrize("name", ["EmotionClassification", "TwentyNewsgroupsClustering"])
def test_the_score_is_chosen_by_type_and_follows_from_its_items(tmp_path: Path, name: str) -> None:
    data = load_task(write_miniature(tmp_path, name), name)
    found = score_averaged_ids(data, hashed_embed(data), hashed_embed(data))
    assert all(metric.endswith("_artefact") for metric in found.metrics)
    assert found.metrics[found.metric] == found.main
    assert apply_statistic(found.statistic, found.items, found.targets) == pytest.approx(found.main, abs=1e-12)


def test_other_types_have_no_artefact(tmp_path: Path) -> None:
    data = load_task(write_miniature(tmp_path, "STS12"), "STS12")
    with pytest.raises(InputError, match="STS12 is of type STS"):
        score_averaged_ids(data, hashed_embed(data), hashed_embed(data))
