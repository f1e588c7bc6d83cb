"""`map.json`: where the texts of an index lie on its two-dimensional map. Reading it needs no extra package.

`moee.maps` makes it. It also records which state of the index it was made of, so that a map that is out of date is
noticed and not taken for the index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moee.errors import StoreError
from moee.files.atomic import atomic_file
from moee.files.json import read_json
from moee.index.manifest import Manifest
from moee.method.fusion import cosine_weights
from moee.types import Array, View

MAP = "map.json"
KIND = "moee-map"
FORMAT_VERSION = 2
_MOST_BYTES = 1 << 32  # it holds a place and a text for each record
UNCLUSTERED = -1
"""The topic of a text that lies in no group."""
TEXT_LETTERS = 200
"""Characters of a text that are kept to be shown; the index has the whole."""

Topics = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Topic:
    """A group of texts on the map.

    Attributes:
        topic: Number of the topic; 0 is the largest.
        label: The words that mark it.
        x: Median place of its texts.
        y: Median place of its texts.
        count: How many texts.
    """

    topic: int
    label: str
    x: float
    y: float
    count: int


@dataclass(frozen=True, slots=True)
class MapOrigin:
    """What a map was made of.

    Attributes:
        num_records: Records in the index; the map shows as many, or a sample.
        state: Digest of the model and the files of the index, from `state_of`.
        weights: What each view counts in the vectors that were placed.
        seed: Seed of the sample and the places.
    """

    num_records: int
    state: str
    weights: Mapping[View, float]
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class CorpusMap:
    """Points in the plane, one for each text, and their topics.

    Attributes:
        ids: Ids of the records.
        texts: First 200 characters of each text.
        x: `(num_points,)` float32.
        y: `(num_points,)` float32.
        topic: `(num_points,)` int64; -1 is a text in no topic.
        topics: Topics in the order of their numbers.
        origin: What the map was made of.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    x: Array
    y: Array
    topic: Topics
    topics: Sequence[Topic]
    origin: MapOrigin

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.ids)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping: one list for each attribute, and the topics as objects."""
        return {
            "ids": list(self.ids),
            "x": _decimals(self.x),
            "y": _decimals(self.y),
            "topic": self.topic.tolist(),
            "texts": list(self.texts),
            "topics": [asdict(topic) for topic in self.topics],
        }

    def save(self, folder: Path) -> None:
        """Write `map.json` into the folder of the index, whole or not at all."""
        values = {"kind": KIND, "format_version": FORMAT_VERSION, "origin": asdict(self.origin), **self.to_dict()}
        with atomic_file(folder / MAP) as temporary:
            temporary.write_text(json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> CorpusMap | None:
        """Read the map of an index; None if it has none.

        Raises:
            StoreError: If it is damaged, or of another version.
        """
        path = folder / MAP
        if not path.is_file():
            return None
        try:
            values = read_json(path, most=_MOST_BYTES)
            if values["kind"] != KIND or values["format_version"] not in range(1, FORMAT_VERSION + 1):
                raise ValueError(f"{values['kind']!r} of format version {values['format_version']!r}")
            return _read(values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{str(path)!r} is not a readable map of format versions 1 to {FORMAT_VERSION} "
                f"({type(error).__name__}: {error}). Make it again with: moee map {folder}"
            ) from error

    def staleness(self, manifest: Manifest, num_records: int) -> str | None:
        """Say how the index changed since the map was made; None if it did not."""
        if num_records != self.origin.num_records:
            return f"The map was made of {self.origin.num_records:,} texts, and the index holds {num_records:,}."
        if state_of(manifest) != self.origin.state:
            return "The index was built again, or a file was added to it, since the map was made."
        return None


def state_of(manifest: Manifest) -> str:
    """Return a digest of what decides the vectors of an index: its model, its files, and how it keeps them."""
    files = [(source.sha256, source.is_complete) for source in manifest.sources]
    kept = (manifest.fingerprint, manifest.dtype, manifest.dims, manifest.reduction, manifest.quantize, manifest.alpha)
    return hashlib.sha256(json.dumps([kept, files]).encode()).hexdigest()[:16]


def _read(values: Mapping[str, Any]) -> CorpusMap:
    found = CorpusMap(
        ids=values["ids"],
        texts=values["texts"],
        x=np.asarray(values["x"], dtype=np.float32),
        y=np.asarray(values["y"], dtype=np.float32),
        topic=np.asarray(values["topic"], dtype=np.int64),
        topics=tuple(Topic(**topic) for topic in values["topics"]),
        origin=_origin(values["origin"]),
    )
    lengths = {name: len(values[name]) for name in ("ids", "texts", "x", "y", "topic")}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"its lists differ in length: {lengths}")
    return found


def _origin(values: Mapping[str, Any]) -> MapOrigin:
    if "weights" in values:
        return MapOrigin(**values)
    # version 1 named a fusion of two views and its alpha
    fusion, alpha = values["fusion"], values["alpha"]
    weights = cosine_weights(fusion, 1.0 if alpha is None else alpha)
    return MapOrigin(values["num_records"], values["state"], weights, values["seed"])


def _decimals(row: Array) -> list[float]:
    """Return the shortest decimals that give back the same float32."""
    return [float(str(value)) for value in row]
