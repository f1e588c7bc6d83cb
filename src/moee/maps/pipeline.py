"""From an index to its map, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moee.errors import InputError
from moee.index.folder import IndexFolder
from moee.index.map_file import TEXT_LETTERS, CorpusMap, MapOrigin, state_of
from moee.maps.layout import NEIGHBOURS, Neighbours, check_umap, nearest, place
from moee.maps.points import Points, read_points
from moee.maps.topics import describe_topics, divide, find_groups
from moee.types import View

MAX_POINTS = 50_000
"""Most texts unless told otherwise: what a browser draws at once, and some minutes of two cores."""


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How a map is made.

    Attributes:
        max_points: Most texts of a map; from a larger index, as many are chosen by chance.
        seed: Seed of the choice, the places and k-means.
        topics: Divide the map into as many topics by k-means; None finds dense groups.
        min_texts: Fewest texts of a dense group; None chooses by the size of the corpus.
        weights: What each view counts, by name; None is the index's.
        fusion: `"hs"`, `"rw"` or `"sum"` in place of weights.
        alpha: Weight of the routing weights in `"sum"`; None is the index's.

    Raises:
        InputError: If `min_texts` is given together with `topics`.
    """

    max_points: int = MAX_POINTS
    seed: int = 0
    topics: int | None = None
    min_texts: int | None = None
    weights: Mapping[View, float] | None = None
    fusion: str | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        """Check what excludes each other."""
        if self.topics is not None and self.min_texts is not None:
            raise InputError("A number of topics and the fewest texts of a topic exclude each other. Give one.")


@dataclass(frozen=True, slots=True)
class MadeMap:
    """A map with what it was made of.

    Attributes:
        points: Records and vectors, in the order of the map.
        neighbours: Nearest texts of each point.
        corpus_map: Places and topics.
    """

    points: Points
    neighbours: Neighbours
    corpus_map: CorpusMap


def make_map(
    index: IndexFolder, options: MapOptions | None = None, *, on_step: Callable[[str], None] = lambda _step: None
) -> MadeMap:
    """Make the map of an index; nothing is written.

    Args:
        index: Open; its model is not needed.
        options: How; None for the defaults.
        on_step: Called with a line about each step as it begins.

    Raises:
        InputError: If the index has too few different texts, or an option cannot be used.
        MissingExtraError: If umap-learn or scikit-learn is not installed.
        StoreError: If the store cannot be read.
    """
    options = options or MapOptions()
    check_umap()
    points = read_points(
        index,
        max_points=options.max_points,
        seed=options.seed,
        weights=options.weights,
        fusion=options.fusion,
        alpha=options.alpha,
    )
    some = "" if len(points) == points.num_records else f" of {points.num_records:,}, chosen by chance"
    on_step(f"Comparing {len(points):,} texts{some}.")
    neighbours = nearest(points.vectors, min(NEIGHBOURS, len(points) - 1))
    on_step("Placing them (UMAP).")
    places = place(points.vectors, neighbours, options.seed)
    on_step("Finding topics.")
    if options.topics is not None:
        groups = divide(places, options.topics, options.seed)
    else:
        groups = find_groups(places, min_texts=options.min_texts)
    texts = [record.text for record in points.records]
    corpus_map = CorpusMap(
        ids=[record.id for record in points.records],
        texts=[text[:TEXT_LETTERS] for text in texts],
        x=places[:, 0],
        y=places[:, 1],
        topic=groups,
        topics=describe_topics(texts, places, groups),
        origin=MapOrigin(points.num_records, state_of(index.manifest), dict(points.weights), options.seed),
    )
    return MadeMap(points, neighbours, corpus_map)
