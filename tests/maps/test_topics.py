"""Groups of points and what they are called."""

from __future__ import annotations

import numpy as np
import pytest

from moee.errors import InputError
from moee.maps.topics import describe_topics, divide, find_groups
from moee.types import Array

SIZES = (10, 30, 20)


def three_groups() -> Array:
    """Three dense groups of 10, 30 and 20 points, and two points far from all."""
    rng = np.random.default_rng(0)
    middles = zip(((0, 0), (10, 0), (0, 10)), SIZES, strict=True)
    groups = [rng.normal(middle, 0.3, (size, 2)) for middle, size in middles]
    return np.concatenate([*groups, [(30, 30), (-30, 20)]]).astype(np.float32)


def test_dense_groups_are_found_and_numbered_by_size() -> None:
    groups = find_groups(three_groups())
    assert set(groups[:10]) == {2}
    assert set(groups[10:40]) == {0}
    assert set(groups[40:60]) == {1}
    np.testing.assert_array_equal(groups[60:], [-1, -1])


def test_groups_that_touch_are_told_apart_beside_one_that_is_far() -> None:
    """A corpus of many subjects and one odd one: the odd one must not make all others a single topic."""
    rng = np.random.default_rng(0)
    turns = np.arange(6) * np.pi / 3
    middles = [*np.stack([2 * np.cos(turns), 2 * np.sin(turns)], axis=1), (20, 0)]
    places = np.concatenate([rng.normal(middle, 0.45, (200, 2)) for middle in middles]).astype(np.float32)
    groups = find_groups(places)
    assert np.bincount(groups[groups >= 0]).max() < len(places) / 4
    assert set(groups[-200:]) == {0}


def test_groups_below_the_fewest_texts_are_none() -> None:
    groups = find_groups(three_groups(), min_texts=15)
    assert np.bincount(groups[groups >= 0]).min() >= 15
    assert groups.max() == 1
    np.testing.assert_array_equal(find_groups(three_groups(), min_texts=1000), -1)


def test_a_division_leaves_no_text_out() -> None:
    groups = divide(three_groups()[:60], 3, seed=0)
    assert np.bincount(groups).tolist() == sorted(SIZES, reverse=True)
    assert len(set(divide(three_groups(), 7, seed=0))) == 7


def test_topics_have_a_label_a_middle_and_a_count() -> None:
    places = three_groups()
    groups = find_groups(places)
    texts = [*["apple pear"] * 10, *["12"] * 30, *["engine wheel"] * 20, "other", "words"]
    topics = describe_topics(texts, places, groups)
    assert [(topic.topic, topic.label, topic.count) for topic in topics] == [
        (0, "topic 0", 30),
        (1, "engine, wheel", 20),
        (2, "apple, pear", 10),
    ]
    for topic in topics:
        np.testing.assert_allclose((topic.x, topic.y), np.median(places[groups == topic.topic], axis=0), atol=1e-5)
    assert describe_topics(["a"] * 5, places[:5], np.full(5, -1)) == ()


@pytest.mark.parametrize("count", [1, 63])
def test_numbers_of_topics_that_cannot_be_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"{count} topics cannot be made of 62 texts; ask for 2 to 62"):
        divide(three_groups(), count, seed=0)
    with pytest.raises(InputError, match="A topic of 1 texts is none"):
        find_groups(three_groups(), min_texts=1)
