"""Samples bounded by the texts that a model must run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moee.errors import InputError, UnknownNameError
from moee.evaluate.reproduce.run import NoDataError
from moee.evaluate.studies.samples import TYPES, choose_tasks, load_sample
from moee.evaluate.tasks import ClassificationData, score
from tests.evaluate.tasks.miniatures import hashed_embed


@pytest.mark.parametrize("name", ["STS12", "EmotionClassification", "TwentyNewsgroupsClustering", "WikiQA", "SciFact"])
def test_a_sample_is_bounded_and_can_be_scored(name: str, miniatures: Path) -> None:
    sample = load_sample(miniatures, name, 60)
    assert 20 <= len(sample.rows) <= 60
    assert len(sample.texts) == len(sample.rows)
    assert 0 <= score(sample.data, hashed_embed(sample.data)).main <= 1 or name == "STS12"


def test_training_texts_are_thinned_for_each_label_alike(miniatures: Path) -> None:
    data = load_sample(miniatures, "EmotionClassification", 60).data
    assert isinstance(data, ClassificationData)
    counts = np.bincount(data.train_labels)
    assert counts.min() == counts.max() == 10


def test_the_first_set_of_each_type_is_taken(miniatures: Path) -> None:
    chosen = choose_tasks(miniatures, [])
    assert [row.task_type for row in chosen] == list(TYPES)
    assert [row.name for row in choose_tasks(miniatures, ["Classification"])] == [
        "EmotionClassification",
        "AmazonCounterfactual-en",
    ]


def test_wrong_names_and_sizes_are_told(miniatures: Path) -> None:
    with pytest.raises(UnknownNameError, match="SciFact"):
        choose_tasks(miniatures, ["SciFcat"])
    with pytest.raises(NoDataError, match="among those named"):
        choose_tasks(miniatures, ["STS13"])
    with pytest.raises(InputError, match="at least 40"):
        load_sample(miniatures, "STS12", 10)
