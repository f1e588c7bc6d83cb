"""From an index to its map. UMAP compiles itself for some ten seconds, so what runs it is slow."""

from __future__ import annotations

import numpy as np
import pytest

from moee.errors import InputError
from moee.maps.pipeline import MapOptions, make_map
from tests.maps.conftest import PER_TOPIC, TOPICS, MakeIndex


@pytest.mark.slow
def test_the_topics_of_the_texts_are_found_and_named(make_index: MakeIndex) -> None:
    index = make_index()
    steps: list[str] = []
    found = make_map(index, on_step=steps.append).corpus_map
    assert steps == ["Comparing 60 texts.", "Placing them (UMAP).", "Finding topics."]
    topics = [text_id.split("-")[0] for text_id in found.ids]
    for topic, words in TOPICS.items():
        numbers = {int(number) for number, name in zip(found.topic, topics, strict=True) if name == topic}
        assert len(numbers) == 1
        assert set(found.topics[numbers.pop()].label.split(", ")) <= set(words)
    assert [topic.count for topic in found.topics] == [PER_TOPIC] * 3
    assert found.staleness(index.manifest, len(index.store)) is None
    assert found.origin.weights == {"hs": 1.0, "rw": index.manifest.alpha}


@pytest.mark.slow
def test_options_decide_the_sample_the_topics_and_the_vectors(make_index: MakeIndex) -> None:
    index = make_index()
    steps: list[str] = []
    made = make_map(index, MapOptions(max_points=30, topics=4, fusion="rw", seed=3), on_step=steps.append)
    assert steps[0] == "Comparing 30 texts of 60, chosen by chance."
    assert len(made.corpus_map) == 30
    assert len(made.corpus_map.topics) == 4
    assert (made.corpus_map.topic >= 0).all()
    assert made.points.vectors.shape[1] == index.manifest.layout.dims["rw"]
    assert (made.corpus_map.origin.num_records, made.corpus_map.origin.seed) == (60, 3)
    again = make_map(index, MapOptions(max_points=30, topics=4, fusion="rw", seed=3))
    np.testing.assert_array_equal(made.corpus_map.x, again.corpus_map.x)


def test_two_ways_to_topics_exclude_each_other() -> None:
    with pytest.raises(InputError, match="exclude each other"):
        MapOptions(topics=3, min_texts=10)
