"""The index as a server asks it: a query is embedded once, and asked again with other weights as a slider moves.

A store serves one thread at a time, so all that touches it runs on one; the model works meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic_core import to_json

from moee.index.map_file import MAP, CorpusMap
from moee.index.passages import check_passages
from moee.index.searcher import Searcher
from moee.serve.errors import Refusal
from moee.serve.schemas import SearchRequest
from moee.types import Array, View

T = TypeVar("T")
Blocks = Mapping[View, Array]
"""The unit blocks of a query, by name."""

REMEMBERED = 256
"""Queries whose blocks are kept: a few KiB each."""


class Finder:
    """An index that many ask at once."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._known: OrderedDict[str, Blocks] = OrderedDict()
        self._map: tuple[tuple[int, int], bytes] | None = None

    async def stop(self) -> None:
        """End the thread."""
        await asyncio.to_thread(self._thread.shutdown)

    @property
    def prompt(self) -> str:
        """The prompt of queries."""
        config = self._searcher.embedder.config
        return config.query_prompt or config.prompt

    @property
    def views(self) -> tuple[View, ...]:
        """The views whose blocks the index holds."""
        return tuple(self._searcher.manifest.layout.dims)

    async def find(self, request: SearchRequest, embed: Callable[[str], Awaitable[Blocks]]) -> dict[str, Any]:
        """Return the answer to a request, but for the time it took.

        Args:
            request: What is looked for.
            embed: Called with a query that was not asked lately; returns its calibrated blocks at unit length, whole.

        Raises:
            InputError: If the filter cannot be read or names an unknown field, weights name a view that the index does
                not hold, or the best of each document is asked for and the index holds whole texts.
            StoreError: If the store fails.
        """
        searcher = self._searcher
        condition = searcher.filter(request.filter)  # before the model runs
        asked: dict[str, Any] = {"fusion": request.fusion, "alpha": request.alpha, "hybrid": request.hybrid}
        weights = searcher.chosen_weights(request.weights, **asked)
        if request.per_document:
            check_passages(searcher.manifest)
        blocks = self._known.get(request.query)
        if blocks is None:
            blocks = self._reduced(await embed(request.query))
        self._remember(request.query, blocks)
        query = searcher.weigh(blocks, weights=weights, text=request.query)
        hits = await self._on_store(
            lambda: searcher.find(query, request.k, condition, per_document=request.per_document)
        )
        return {
            "query": request.query,
            "fusion": searcher.named_fusion(request.weights, request.fusion, request.alpha),
            "weights": weights,
            "alpha": searcher.alpha if request.alpha is None else request.alpha,
            "k": request.k,
            "results": [hit.to_dict() for hit in hits],
        }

    def _reduced(self, blocks: Blocks) -> Blocks:
        """Return a query's blocks as the index stores vectors."""
        reducer = self._searcher.reducer
        if reducer is None:
            return blocks
        short = reducer.reduce({view: block[None] for view, block in blocks.items()})
        return {view: block[0] for view, block in short.items()}

    def _remember(self, query: str, blocks: Blocks) -> None:
        self._known[query] = blocks
        self._known.move_to_end(query)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def map_json(self) -> bytes:
        """Return the map of the index, as JSON.

        Raises:
            Refusal: If there is none.
            StoreError: If it is damaged.
        """
        return await self._on_store(self._read_map)

    async def describe(self) -> dict[str, Any]:
        """Return what `/info` says of the index."""
        searcher = self._searcher
        return {
            "name": searcher.folder.resolve().name,
            "count": await self._on_store(lambda: len(searcher)),
            "fields": dict(searcher.manifest.layout.fields),
            "alpha": searcher.alpha,
            "fusion": searcher.fusion,
            "weights": dict(searcher.weights),
            "dims": dict(searcher.manifest.layout.dims),
            "has_map": (searcher.folder / MAP).is_file(),
            "store": searcher.manifest.store.kind,
        }

    def _read_map(self) -> bytes:
        """Read the map, or take the last one if the file is the same; it may be made while the server runs."""
        path = self._searcher.folder / MAP
        try:
            state = path.stat()
        except FileNotFoundError:
            self._map = None
            raise _no_map(self._searcher) from None
        key = (state.st_mtime_ns, state.st_size)
        if self._map is None or self._map[0] != key:
            found = CorpusMap.load(self._searcher.folder)
            if found is None:
                raise _no_map(self._searcher)
            stale = found.staleness(self._searcher.manifest, len(self._searcher))
            self._map = key, to_json({**found.to_dict(), "stale": stale})
        return self._map[1]

    async def _on_store(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def _no_map(searcher: Searcher) -> Refusal:
    name = searcher.folder.resolve().name
    return Refusal("no_map", f"The index {name!r} has no map. Make one with: moee map {name}")
