"""A file of vectors in rows, appended to and mapped into memory, and the exact search over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moee.errors import StoreError
from moee.files.atomic import sync_folder
from moee.stores.quantize import Codec
from moee.types import Array

COPIED_BYTES = 1 << 24
"""Size of the float32 vectors copied or decoded at once; the most that a search takes, beside what it returns."""
SPAN_BYTES = 1 << 28
"""Size of the vectors scored at once where they are mapped. Nothing is copied, so this costs no memory; with small
pieces the threads of a matrix product wait for each other."""

Rows = npt.NDArray[np.int64]
"""`(num_rows,)` numbers of rows, ascending unless said otherwise."""


class VectorFile:
    """Rows of float32 vectors, or of a codec's bytes. How many there are is for the owner to know and to keep."""

    def __init__(self, path: Path, dim: int, codec: Codec | None) -> None:
        self.path = path
        self._dim = dim
        self._codec = codec
        self._dtype: type[Any] = np.float32 if codec is None else np.uint8
        self._width = dim if codec is None else codec.width
        self._stored: npt.NDArray[Any] = np.empty((0, self._width), self._dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self._width * np.dtype(self._dtype).itemsize

    def map(self, num_rows: int) -> None:
        """Look at the first `num_rows` rows from here on.

        Raises:
            StoreError: If the file is missing or holds fewer.
        """
        if len(self._stored) == num_rows:
            return
        self.unmap()
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise StoreError(f"Cannot read {str(self.path)!r}: {error.strerror or error}.") from error
        if size < num_rows * self.row_bytes:
            raise StoreError(
                f"{str(self.path)!r} holds {size:,} bytes, but {num_rows:,} vectors of {self.row_bytes:,} bytes were "
                "stored. The file is damaged; build the index again, or take it from a backup."
            )
        if num_rows:
            shape = (num_rows, self._width)
            self._stored = np.asarray(np.memmap(self.path, dtype=self._dtype, mode="r", shape=shape))

    def unmap(self) -> None:
        """Let go of the file."""
        self._stored = np.empty((0, self._width), self._dtype)

    def append(self, num_rows: int, vectors: Array) -> None:
        """Write vectors behind the first `num_rows` rows, over whatever a killed writer left there, to the disk."""
        rows: npt.NDArray[Any] = vectors if self._codec is None else self._codec.encode(vectors)
        self.append_rows(num_rows, [rows])

    def append_rows(self, num_rows: int, batches: Iterator[npt.NDArray[Any]] | list[npt.NDArray[Any]]) -> None:
        """Write rows as they are stored; see `append`."""
        is_new = not self.path.exists()
        with self.path.open("wb" if is_new else "r+b") as stream:
            stream.truncate(num_rows * self.row_bytes)
            stream.seek(0, os.SEEK_END)
            for batch in batches:
                stream.write(np.ascontiguousarray(batch).data)
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            sync_folder(self.path.parent)

    def take(self, rows: Rows) -> Array:
        """Return the vectors of some rows, in any order: `(len(rows), dim)` float32."""
        return self._decode(self._stored[rows])

    def batches_of(self, rows: Rows) -> Iterator[npt.NDArray[Any]]:
        """Yield some rows as they are stored, a piece at a time."""
        step = max(1, COPIED_BYTES // self.row_bytes)
        for start in range(0, len(rows), step):
            yield self._stored[rows[start : start + step]]

    def search(self, vector: Array, k: int, rows: Rows | None = None) -> Rows:
        """Return the `k` rows of the largest dot product, or all if there are fewer; in no order."""
        best_scores: Array = np.empty(0, np.float32)
        best_rows: Rows = np.empty(0, np.int64)
        for piece_rows, scores in self._scored_pieces(vector, rows):
            best_scores = np.concatenate([best_scores, scores])
            best_rows = np.concatenate([best_rows, piece_rows])
            if len(best_scores) > k:
                kept = np.argpartition(best_scores, len(best_scores) - k)[-k:]
                best_scores, best_rows = best_scores[kept], best_rows[kept]
        return best_rows

    def _scored_pieces(self, vector: Array, rows: Rows | None) -> Iterator[tuple[Rows, Array]]:
        step = max(1, (SPAN_BYTES if self._codec is None else COPIED_BYTES) // (4 * self._dim))
        for start in range(0, len(self._stored), step):
            piece = self._stored[start : start + step]
            if rows is None:
                yield np.arange(start, start + len(piece)), self._decode(piece) @ vector
                continue
            chosen = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(piece))]
            if 4 * len(chosen) > len(piece):  # reading all in a row beats gathering
                yield chosen, (self._decode(piece) @ vector)[chosen - start]
            else:
                yield from self._scored_rows(vector, chosen)

    def _scored_rows(self, vector: Array, rows: Rows) -> Iterator[tuple[Rows, Array]]:
        step = max(1, COPIED_BYTES // (4 * self._dim))
        for start in range(0, len(rows), step):
            gathered = rows[start : start + step]
            yield gathered, self.take(gathered) @ vector

    def _decode(self, stored: npt.NDArray[Any]) -> Array:
        return stored if self._codec is None else self._codec.decode(stored)
