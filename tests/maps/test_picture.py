"""The picture of a map: where labels stand, and which colours topics have."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from moee.errors import InputError
from moee.index.map_file import CorpusMap, MapOrigin, Topic
from moee.maps.picture import COLOURS, draw_map, topic_colours, write_picture


def some_map(num_topics: int, *, label: str = "apple, pear, plum {}", num_points: int = 600) -> CorpusMap:
    rng = np.random.default_rng(0)
    middles = rng.uniform(0, 20, (num_topics, 2))
    topic = rng.integers(-1, num_topics, num_points)
    places = np.where(topic[:, None] < 0, rng.uniform(0, 20, (num_points, 2)), middles[topic])
    places = (places + rng.normal(0, 0.3, places.shape)).astype(np.float32)
    topics = tuple(
        Topic(number, label.format(number), float(x), float(y), int((topic == number).sum()))
        for number, (x, y) in enumerate(middles)
    )
    names = [f"id{number}" for number in range(num_points)]
    origin = MapOrigin(num_points, "state", {"hs": 1.0, "rw": 0.5}, 0)
    return CorpusMap(names, names, places[:, 0], places[:, 1], topic, topics, origin)


def drawn(shown: CorpusMap, title: str = "a map") -> tuple[Figure, list[Annotation]]:
    """Draw a map, and return the figure with the labels of topics."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    draw_map(figure, shown, title=title)
    return figure, [each for each in figure.axes[0].texts if isinstance(each, Annotation) and each.get_text()]


@pytest.mark.parametrize("num_topics", [1, 12, 40])
def test_labels_cover_neither_each_other_nor_the_edge(num_topics: int) -> None:
    figure, labels = drawn(some_map(num_topics))
    assert len(labels) == num_topics
    boxes = [label.get_window_extent() for label in labels]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    edge = figure.axes[0].get_window_extent()
    assert all(edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1 for box in boxes)


def test_a_map_of_very_many_topics_labels_the_largest_and_says_so() -> None:
    figure, labels = drawn(some_map(70))
    assert [label.get_text() for label in labels] == [f"apple, pear, plum {number}" for number in range(40)]
    assert "the 40 largest topics are labelled" in figure.texts[-1].get_text()


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    shown = some_map(3, label="price in $ & ${}$ <b>")
    figure, labels = drawn(shown, title="Map of $x$")
    assert figure.get_suptitle() == "Map of $x$"
    alone = int((shown.topic < 0).sum())
    assert figure.texts[-1].get_text() == f"600 texts, 3 topics; grey: {alone} texts in no topic"
    assert [label.get_text() for label in labels] == [f"price in $ & ${number}$ <b>" for number in range(3)]
    write_picture(shown, tmp_path / "map.svg", title="Map of $x$")
    assert "Map of $x$" in (tmp_path / "map.svg").read_text(encoding="utf-8")


def test_a_map_without_topics_is_grey(tmp_path: Path) -> None:
    shown = some_map(1)
    nothing = CorpusMap(shown.ids, shown.texts, shown.x, shown.y, np.full(len(shown), -1), (), shown.origin)
    write_picture(nothing, tmp_path / "map.png", title="a map")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_topics_of_one_colour_lie_far_apart() -> None:
    topics = some_map(30).topics
    colours = topic_colours(topics)
    assert set(colours[: len(COLOURS)]) == set(COLOURS)
    distances = [
        math.hypot(a.x - b.x, a.y - b.y)
        for (a, of_a), (b, of_b) in itertools.combinations(zip(topics, colours, strict=True), 2)
        if of_a == of_b
    ]
    every = [math.hypot(a.x - b.x, a.y - b.y) for a, b in itertools.combinations(topics, 2)]
    assert min(distances) > np.percentile(every, 5)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in .png or .svg"):
        write_picture(some_map(1), tmp_path / "map.jpg", title="a map")
