"""The map as a picture: points in the colours of their topics, and labels that do not cover each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moee.index.map_file import UNCLUSTERED, CorpusMap, Topic
from moee.plots.figure_file import drawable, figure_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#44AA99", "#332288", "#999933")
"""Colours by Okabe and Ito, and by Tol, without those that are light on white. Few enough to be told apart: with more
topics they come again, far from each other, and labels say which topic is which."""
_GREY = "#BBBBBB"
_SIZE = (12.0, 9.0)
_LABELS = 40
"""Topics that get a label, the largest first: more cannot be read."""
_LABEL_LETTERS = 48
_ROOM = 3.0
"""Pixels kept free around a label."""
_TURNS, _STEP = 12, 9.0

Wide = npt.NDArray[np.float64]


def write_picture(corpus_map: CorpusMap, path: Path, *, title: str) -> None:
    """Draw a map into a `.png` or `.svg` file; the errors are those of `figure_file`."""
    with figure_file(path, _SIZE) as figure:
        draw_map(figure, corpus_map, title=title)


def draw_map(figure: Figure, corpus_map: CorpusMap, *, title: str) -> None:
    """Draw a map on an empty figure."""
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.06)
    _draw_points(axes, corpus_map)
    figure.suptitle(drawable(title, 120), fontsize=12, parse_math=False)
    alone = int(np.count_nonzero(corpus_map.topic == UNCLUSTERED))
    notes = [f"{len(corpus_map):,} texts, {len(corpus_map.topics)} topics"]
    if alone:
        notes.append(f"grey: {alone:,} texts in no topic")
    if len(corpus_map.topics) > _LABELS:
        notes.append(f"the {_LABELS} largest topics are labelled")
    figure.text(0.01, 0.01, "; ".join(notes), fontsize=8, color="#555555")
    figure.draw_without_rendering()  # settles the layout, which decides where labels have room
    figure.set_layout_engine("none")
    _draw_labels(figure, axes, corpus_map.topics[:_LABELS])


def topic_colours(topics: Sequence[Topic]) -> list[str]:
    """Return a colour for each topic: among all, the one whose last use is farthest away on the map."""
    chosen: list[str] = []
    for topic in topics:
        distances = dict.fromkeys(COLOURS, math.inf)
        for other, colour in zip(topics, chosen, strict=False):
            distances[colour] = min(distances[colour], math.hypot(topic.x - other.x, topic.y - other.y))
        chosen.append(max(COLOURS, key=lambda colour: distances[colour]))
    return chosen


def _draw_points(axes: Axes, corpus_map: CorpusMap) -> None:
    area = float(np.clip(30_000 / len(corpus_map), 3.0, 60.0))
    colours = np.array([*topic_colours(corpus_map.topics), _GREY])  # the last is that of topic -1
    order = np.argsort(corpus_map.topic != UNCLUSTERED, kind="stable")  # grey below all others
    axes.scatter(
        corpus_map.x[order],
        corpus_map.y[order],
        s=area,
        c=colours[corpus_map.topic[order]],
        alpha=0.8 if len(corpus_map) < 5_000 else 0.5,
        linewidths=0,
        rasterized=True,  # an SVG of fifty thousand marks cannot be opened
    )


def _draw_labels(figure: Figure, axes: Axes, topics: Sequence[Topic]) -> None:
    """Write labels beside the middles of their topics, the largest topics first."""
    from matplotlib.patheffects import withStroke

    edge = axes.get_window_extent()
    pixels = figure.dpi / 72
    taken: list[Bbox] = []
    for topic, colour in zip(topics, topic_colours(topics), strict=True):
        label = axes.annotate(
            drawable(topic.label, _LABEL_LETTERS),
            (topic.x, topic.y),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            color=_darker(colour),
            parse_math=False,
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=4,
            annotation_clip=False,
        )
        box = _free_place(label, label.get_window_extent(), edge, taken, pixels)
        if box is None:
            label.remove()
            continue
        taken.append(box)
        _draw_leader(axes, topic, label)


def _darker(colour: str) -> tuple[float, ...]:
    """Return a colour with the contrast that letters need on white."""
    from matplotlib.colors import to_rgb

    return tuple(0.55 * part for part in to_rgb(colour))


def _free_place(label: Annotation, box: Bbox, edge: Bbox, taken: Sequence[Bbox], pixels: float) -> Bbox | None:
    """Move a label to the nearest place where it is inside and covers no other; None if there is none.

    Boxes are in pixels, of which a point has `pixels`; a picture may be saved at another resolution.
    """
    for right, up in _spiral():
        moved = box.translated(right * pixels, up * pixels).padded(_ROOM)
        is_inside = edge.x0 <= moved.x0 and moved.x1 <= edge.x1 and edge.y0 <= moved.y0 and moved.y1 <= edge.y1
        if is_inside and not any(moved.overlaps(other) for other in taken):
            label.set_position((right, up))
            return moved
    return None


def _spiral() -> Iterator[tuple[float, float]]:
    """Yield offsets in points, nearest first; wider than high, as labels are."""
    yield 0.0, 0.0
    for ring in range(1, 40):
        for turn in range(_TURNS):
            angle = 2 * math.pi * turn / _TURNS
            yield 2 * ring * _STEP * math.cos(angle), ring * _STEP * math.sin(angle)


def _draw_leader(axes: Axes, topic: Topic, label: Annotation) -> None:
    """Join a label that had to move to the middle of its topic."""
    right, up = label.get_position()
    if math.hypot(right, up) > 3 * _STEP:
        axes.annotate(
            "",
            (topic.x, topic.y),
            xytext=(right, up),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": "#555555", "linewidth": 0.7},
            zorder=3,
            annotation_clip=False,
        )
