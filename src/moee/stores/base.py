"""What every store is: one class, with what it can keep, how it is made and opened, and how it is asked.

Scores are computed here, in float64, from the vectors that a store returns: all stores so give the same numbers, and
the same order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from moee.errors import InputError, OutputError
from moee.files.atomic import atomic_folder
from moee.method.fusion import split_blocks
from moee.stores.filters import Dialect, Filter
from moee.stores.fulltext import Found, no_full_text, query_terms
from moee.stores.quantize import Codec
from moee.stores.records import check_batch, check_layout, check_query, columns_of
from moee.stores.store import Candidates, Hit, Layout, Query, Record, describe_dims
from moee.types import Array, View

MARGIN = 16
"""Candidates that a store returns beyond those asked for: its own order is that of float32, or approximate."""
TIE = 1e-5
"""Scores closer than this may come in any order from a store that computes in float32."""
MAX_CANDIDATES = 4096
"""Candidates up to which a search widens while scores are tied. Beyond, the store decides which of equal ones come."""

_Item = TypeVar("_Item")


class Store(ABC):
    """Keeps records with their vectors. Not safe for several threads at once; one writer at a time.

    Args:
        place: A folder; for a store in a database, its table.
        layout: The shape that the store was made with.
        codec: How vectors are kept; None for float32.
        approximate: Search by an approximate index.

    Raises:
        StoreError: If there is no store, it is damaged or of another layout, or a database cannot be reached.
        MissingExtraError: If the store's package is not installed.
    """

    dialect: ClassVar[Dialect]
    """How filters are written for it."""
    keeps_codes: ClassVar[bool] = False
    """Whether it keeps what a codec gives, or float32 vectors alone."""
    can_approximate: ClassVar[bool] = True
    """Whether it has an approximate index."""
    url_prefixes: ClassVar[tuple[str, ...]] = ()
    """How the urls of its databases begin; none for a store in a folder."""

    def __init__(self, place: Any, layout: Layout, codec: Codec | None = None, *, approximate: bool = False) -> None:
        self.layout = layout
        self._codec = codec
        self._approximate = approximate
        self._columns = columns_of(layout.fields)
        self._open(place)

    @classmethod
    def create(cls, place: Any, layout: Layout, codec: Codec | None = None, *, approximate: bool = False) -> Self:
        """Make an empty store and open it.

        Raises:
            InputError: If there is one already, or the layout cannot be stored.
            OutputError: If it cannot be written.
            StoreError, MissingExtraError: As the constructor.
        """
        check_layout(layout)
        cls._make(place, layout, codec, approximate=approximate)
        return cls(place, layout, codec, approximate=approximate)

    def upsert(self, records: Sequence[Record], vectors: Array) -> None:
        """Add records; one of a known id replaces the former. All or none of a call survive a kill.

        Args:
            records: Records with different ids.
            vectors: `(num_records, dim)` float32, finite.

        Raises:
            InputError: If a field is unknown or of another type, an id comes twice, the shape does not fit, or a vector
                is not finite.
            OutputError: If it cannot be written; the store is as it was.
            StoreError: If another process is writing.
        """
        checked, vectors = check_batch(self.layout, records, vectors)
        if checked:
            self._write(checked, vectors)

    def search(self, vector: Array, k: int, where: Filter | None = None) -> Candidates:
        """Return the `k` records of the largest dot product with `vector`, at least, of those that pass the filter.

        Args:
            vector: `(dim,)` float32, from `Query.vector`.
            k: How many, 1 or larger; fewer come back only if the filter leaves fewer.
            where: None for all.

        Raises:
            InputError: If the vector does not fit, or the filter names an unknown field or compares one with a value of
                another type.
            StoreError: If the store cannot be read.
        """
        vector = check_query(self.layout, vector, k)
        if where is not None:
            where.check(self.layout.fields)
        return self._search(vector, k, where)

    def search_words(self, terms: Sequence[str], k: int, where: Filter | None = None) -> Found:
        """Return the `k` records of the largest BM25, of those that hold a term and pass the filter.

        Args:
            terms: Different terms, from `fulltext.query_terms`.
            k: How many, 1 or larger; fewer come back if fewer hold a term and pass.
            where: None for all.

        Raises:
            InputError: If the store keeps no words, or as `search`.
            StoreError: If the store cannot be read.
        """
        if not self.layout.hybrid:
            raise no_full_text()
        if where is not None:
            where.check(self.layout.fields)
        return self._search_words(terms, k, where) if terms else Found(self.fetch([]), [])

    def word_scores(self, terms: Sequence[str], ids: Sequence[str]) -> dict[str, float]:
        """Return the BM25 of records by id, as `search_words` gives it; those without a term are left out.

        Raises:
            InputError: If the store keeps no words.
            StoreError: If the store cannot be read.
        """
        if not self.layout.hybrid:
            raise no_full_text()
        return self._word_scores(terms, ids) if terms and ids else {}

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of records."""

    @abstractmethod
    def delete(self, ids: Sequence[str]) -> int:
        """Delete records, in one transaction; return how many there were. Unknown ids are no error."""

    @abstractmethod
    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the text of every one of `ids` that is stored."""

    @abstractmethod
    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Return those of `ids` that are stored, in that order, with their vectors."""

    @abstractmethod
    def scan(self, batch_size: int = 4096) -> Iterator[Candidates]:
        """Yield all records in a fixed order, in batches."""

    @abstractmethod
    def compact(self) -> None:
        """Tidy up after many writes, so that reading is as fast as it can be; no record changes.

        Raises:
            OutputError: If it cannot be written; the store is as it was.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and connections, and let others write."""

    @staticmethod
    @abstractmethod
    def _make(place: Any, layout: Layout, codec: Codec | None, *, approximate: bool) -> None:
        """Make an empty store."""

    @abstractmethod
    def _open(self, place: Any) -> None:
        """Open the store, and find out whether it is the one that is meant."""

    @abstractmethod
    def _write(self, records: Sequence[Record], vectors: Array) -> None:
        """Do what `upsert` says, with one or more records that were checked."""

    @abstractmethod
    def _search(self, vector: Array, k: int, where: Filter | None) -> Candidates:
        """Do what `search` says, with values that were checked."""

    @abstractmethod
    def _search_words(self, terms: Sequence[str], k: int, where: Filter | None) -> Found:
        """Do what `search_words` says, with terms, in a store that keeps words."""

    @abstractmethod
    def _word_scores(self, terms: Sequence[str], ids: Sequence[str]) -> dict[str, float]:
        """Do what `word_scores` says, with terms and ids, in a store that keeps words."""


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder that becomes `folder` as a whole.

    Raises:
        InputError: If there is something in it already.
        OutputError: If it cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{str(folder)!r} is not empty. Open the store that it holds, or choose another folder.")
    with atomic_folder(folder) as temporary:
        yield temporary


def not_written(folder: Path, error: Exception) -> OutputError:
    """Return the error of a call that could not write and changed nothing."""
    return OutputError(
        f"Cannot write the index in {str(folder)!r}: {error}. Nothing of this call was stored. "
        "Check that the folder is writable and the disk has room."
    )


def chunks(values: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Yield values in runs of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def search(store: Store, query: Query, k: int, where: Filter | None = None) -> list[Hit]:
    """Return the `k` best records of a store, best first; equal scores in the order of their ids.

    A store cannot tell apart scores that differ less than its arithmetic errs, as those of repeated texts do. If the
    last candidates are still as good as the `k`-th, more are asked for, up to `MAX_CANDIDATES`.

    Raises:
        InputError: If `k` is not 1 or larger, the query's blocks do not fit, or the filter does not fit the fields.
        StoreError: If the store cannot be read.
    """
    if k < 1:
        raise InputError(f"k is {k}; it must be 1 or larger.")
    if list(query.dims.items()) != list(store.layout.dims.items()):
        raise InputError(
            f"The query has blocks of the dimensions {describe_dims(query.dims)}, the index of "
            f"{describe_dims(store.layout.dims)}. Query with the model that the index was built with."
        )
    if query.text is not None and not store.layout.hybrid:
        raise no_full_text()
    if not query.is_lexical:
        return _search_dense(store, query, k, where)
    assert query.text is not None, "asked by is_lexical"
    terms = query_terms(query.text)
    if not terms and query.is_dense:
        # a query without a word is carried by its other views, as a text without one is
        return _search_dense(store, replace(query, weights={**query.weights, "lexical": 0.0}), k, where)
    return _search_hybrid(store, query, terms, k, where)


def _search_dense(store: Store, query: Query, k: int, where: Filter | None) -> list[Hit]:
    limit = k + MARGIN
    while True:
        candidates = store.search(query.vector, limit, where)
        hits = rank(query, candidates, len(candidates.records))
        if len(hits) < limit or hits[k - 1].score - hits[-1].score > TIE or limit >= MAX_CANDIDATES:
            return hits[:k]
        limit = min(4 * limit, max(MAX_CANDIDATES, limit))


def _search_hybrid(store: Store, query: Query, terms: Sequence[str], k: int, where: Filter | None) -> list[Hit]:
    """Join what vectors find with what words find, until nothing else can be as good.

    Every candidate has all of its scores, whichever side found it. A record that neither side returned scores no more
    on each side than the last that it did return (the threshold algorithm: Fagin, Lotem and Naor 2003), so the hits are
    exact if the side of the vectors is, up to `MAX_CANDIDATES`.
    """
    limit = k + MARGIN
    best = store.search_words(terms, 1).scores
    while True:
        worded = store.search_words(terms, limit, where)
        dense = store.search(query.vector, limit, where) if query.is_dense else worded.candidates
        candidates = _union(dense, worded.candidates)
        found = store.word_scores(terms, [record.id for record in candidates.records])
        shares = {name: min(score / best[0], 1.0) for name, score in found.items()}
        hits = rank(query, candidates, len(candidates.records), shares)
        if len(hits) <= k or limit >= MAX_CANDIDATES or hits[k - 1].score > _unseen(query, hits, dense, worded, limit):
            return hits[:k]
        limit = min(4 * limit, max(MAX_CANDIDATES, limit))


def _unseen(query: Query, hits: Sequence[Hit], dense: Candidates, worded: Found, limit: int) -> float:
    """Return a score that no record beyond the candidates of two sides exceeds."""
    if query.is_dense and len(dense.records) < limit:
        return -np.inf  # the vectors of all records that pass were looked at
    cosines = {hit.record.id: hit.cosines for hit in hits}
    sides: tuple[tuple[Candidates, tuple[View, ...]], ...] = (
        (dense, tuple(query.blocks)),
        (worded.candidates, ("lexical",)),
    )
    most = 0.0
    for side, views in sides:
        if len(side.records) >= limit:
            last = [sum(query.weights[view] * cosines[each.id][view] for view in views) for each in side.records]
            most += min(last)
    return most / sum(query.weights.values()) + TIE


def _union(left: Candidates, right: Candidates) -> Candidates:
    known = {record.id for record in left.records}
    places = [place for place, record in enumerate(right.records) if record.id not in known]
    records = [*left.records, *(right.records[place] for place in places)]
    return Candidates(records, np.concatenate([left.vectors, right.vectors[places]]))


def rank(query: Query, candidates: Candidates, k: int, shares: Mapping[str, float] | None = None) -> list[Hit]:
    """Score candidates exactly, and return the `k` best as `search` does.

    Args:
        query: What is looked for.
        candidates: What may be found.
        k: How many are returned.
        shares: Lexical scores by id, in a hybrid index; one that is missing is 0.
    """
    if not len(candidates.records):
        return []
    stored = np.asarray(candidates.vectors, dtype=np.float64)
    # Not a matrix product: there the last bit of a row depends on its place, and equal vectors must score alike.
    cosines = {
        view: np.einsum("nd,d->n", block, query.blocks[view].astype(np.float64))
        for view, block in split_blocks(stored, query.dims).items()
    }
    if shares is not None:
        cosines["lexical"] = np.array([shares.get(record.id, 0.0) for record in candidates.records])
    scores = sum(query.weights[view] * each for view, each in cosines.items()) / sum(query.weights.values())
    hits = [
        Hit(record, float(score), dict(zip(cosines, map(float, row), strict=True)))
        for record, score, *row in zip(candidates.records, scores, *cosines.values(), strict=True)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]
