"""Texts through the model into a store, a whole batch at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence

from moee.embedder import MoEE
from moee.errors import NonFiniteActivationsError
from moee.index.searcher import blocks_of
from moee.method.fusion import join_blocks
from moee.method.texts import counting_cuts
from moee.progress import progress_bar
from moee.stores.base import Store
from moee.stores.reduce import Reducer
from moee.stores.store import Record
from moee.types import Views, join_views

WINDOW_ROWS = 4096
"""Texts given to the model at once: enough to bring similar lengths together, few enough to bound memory."""
SWEEP_BYTES = 1 << 30
"""Views of the texts given at once to a model that is read from disk, which is read again for each such window."""
FLUSH_S = 5.0
"""Longest time that finished texts wait to be written: what a kill can lose, and what a store writes in one go."""
POOLED_ROWS = 64
"""Texts that are split, embedded and pooled at once: what a kill can lose of them."""
_ADVICE = (
    "--chunk 256 splits such texts into passages and loses nothing; --truncate error refuses them, end cuts without a "
    "word."
)


class Writer:
    """Writes records with their vectors.

    Args:
        documents: The embedder with the prompt of documents.
        store: Where they are written.
        reducer: How vectors are shortened; None for not at all.
        chunk: The most tokens of a passage, if vectors are to be made of those of passages.
        show_progress: A bar on stderr.
    """

    def __init__(
        self,
        documents: MoEE,
        store: Store,
        reducer: Reducer | None,
        chunk: int | None = None,
        *,
        show_progress: bool = False,
    ) -> None:
        self._documents = documents
        self._chunk = chunk
        self._store = store
        self._reducer = reducer
        self._show_progress = show_progress

    def write_views(self, records: Sequence[Record], views: Views) -> None:
        """Write records whose views are known, in one transaction."""
        blocks = blocks_of(self._documents, views, self._reducer, hybrid=self._store.layout.hybrid)
        self._store.upsert(records, join_blocks(blocks))

    def write(self, records: Sequence[Record], rows: Sequence[int]) -> None:
        """Embed and write some of the records of a file.

        Raises:
            OutputError, StoreError: If they cannot be written; whole batches written before stay.
            TruncationError: As `MoEE.encode`.
            NonFiniteActivationsError: If the model overflows; names the row of the file.
        """
        if not len(rows):
            return
        if self._chunk is not None:
            self._write_pooled(records, rows, self._chunk)
            return
        size = self._window_size()
        with (
            counting_cuts(len(rows), self._documents.config.max_length, advice=_ADVICE),
            progress_bar("Embedding", len(rows), enabled=self._show_progress, unit="texts") as advance,
        ):
            for start in range(0, len(rows), size):
                chosen = rows[start : start + size]
                window = _Window(self, [records[row] for row in chosen])

                def finished(places: Sequence[int], views: Views, window: _Window = window) -> None:
                    window.add(places, views)
                    advance(len(places))

                try:
                    self._documents.encode_views([record.text for record in window.records], on_batch=finished)
                except NonFiniteActivationsError as error:
                    row = chosen[error.row]
                    raise NonFiniteActivationsError(row=row, what=error.what, text=records[row].text) from error
                finally:
                    window.flush()  # what was finished before a failure or an interrupt

    def _write_pooled(self, records: Sequence[Record], rows: Sequence[int], chunk: int) -> None:
        """Embed texts by their passages, some texts at a time, and write one vector for each."""
        size = POOLED_ROWS if self._documents.info.weights == "memory" else self._window_size()
        with progress_bar("Embedding", len(rows), enabled=self._show_progress, unit="texts") as advance:
            for start in range(0, len(rows), size):
                chosen = [records[row] for row in rows[start : start + size]]
                split = self._documents.split([record.text for record in chosen], chunk)
                owners = [row for row, own in zip(rows[start : start + size], split, strict=True) for _ in own]
                try:
                    views = self._documents.encode_views([each.text for own in split for each in own])
                except NonFiniteActivationsError as error:
                    row = owners[error.row]
                    raise NonFiniteActivationsError(row=row, what=error.what, text=records[row].text) from error
                hybrid = self._store.layout.hybrid
                blocks = blocks_of(self._documents, views, self._reducer, split, hybrid=hybrid)
                self._store.upsert(chosen, join_blocks(blocks))
                advance(len(chosen))

    def _window_size(self) -> int:
        info = self._documents.info
        if info.weights == "memory":
            return WINDOW_ROWS
        return max(WINDOW_ROWS, SWEEP_BYTES // (4 * (info.hidden_size + sum(info.num_experts))))


class _Window:
    """Finished texts that wait to be written."""

    def __init__(self, writer: Writer, records: Sequence[Record]) -> None:
        self.records = records
        self._writer = writer
        self._waiting: list[tuple[Sequence[int], Views]] = []
        self._flushed = time.monotonic()

    def add(self, places: Sequence[int], views: Views) -> None:
        self._waiting.append((places, views))
        if time.monotonic() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            places = [place for each, _ in self._waiting for place in each]
            views = join_views([views for _, views in self._waiting])
            self._writer.write_views([self.records[place] for place in places], views)
            self._waiting.clear()
        self._flushed = time.monotonic()
