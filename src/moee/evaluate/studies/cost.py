"""What each view costs in production beside hidden states alone: the numbers behind `moee study cost`.

All times are taken in turn in one run, so that ratios hold on a busy machine where milliseconds do not: in each round
every entry runs once, and a ratio is the median over rounds of an entry's time over that of HS in the same round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.data import calibration_texts
from moee.embedder import MoEE
from moee.method.fusion import DEFAULT_WEIGHTS, unit
from moee.method.lexical import DocumentFrequencies, lexical_block
from moee.method.space import VectorSpace, block_dims
from moee.progress import progress_bar
from moee.stores.flat import FlatStore
from moee.stores.store import Layout, Query, Record
from moee.types import Array, View

if TYPE_CHECKING:
    import torch

BASE = "HS"
"""The entry that all others are compared with."""
VARIANTS: Mapping[str, Mapping[View, float]] = MappingProxyType(
    {
        BASE: {"hs": 1.0},
        "HS + RW": {"hs": 1.0, "rw": 0.2},
        "HS + words": {"hs": 1.0, "lexical": 1.0},
        "HS + tokens": {"hs": 1.0, "tokens": 0.3},
        "HS + RW + words": {"hs": 1.0, "rw": 0.2, "lexical": 1.0},
        "all four views": DEFAULT_WEIGHTS,
    }
)
"""Views of each entry; the numbers do not matter to the cost."""
WORDS, SMALL_ENCODER = "words alone", "MiniLM's shape"
BATCH = 64
"""Texts of a batch."""
SIZES = (10_000, 100_000)
"""Vectors of the indexes that are searched."""
MILLION = 1_000_000
_TOP = 10
_CHUNK = 5_000
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one entry.

    Attributes:
        seconds: Median over rounds.
        ratio: Median over rounds of its time over that of HS in the same round.
    """

    seconds: float
    ratio: float


@dataclass(slots=True)
class Costs:
    """What was measured, by name of the entry.

    Attributes:
        single: One text.
        batch: A batch of `BATCH` texts.
        search: By number of vectors: one query for the ten nearest.
        dims: Length of each block.
        statistics: Bytes that each view's statistics hold in memory.
        rounds: Rounds of `single`.
    """

    single: dict[str, Timing] = field(default_factory=dict)
    batch: dict[str, Timing] = field(default_factory=dict)
    search: dict[int, dict[str, Timing]] = field(default_factory=dict)
    dims: dict[str, dict[View, int]] = field(default_factory=dict)
    statistics: dict[View, int] = field(default_factory=dict)
    rounds: int = 0


class CostStudy:
    """Times encoding and search, and counts bytes.

    Args:
        embedder: The model; its statistics are fitted first, if they are not known.
        rounds: How often each entry runs one text; batches and searches run a third as often, at least three times.
        sizes: Vectors of the indexes that are searched.
        show_progress: Bars on stderr.
    """

    def __init__(
        self, embedder: MoEE, *, rounds: int = 30, sizes: Sequence[int] = SIZES, show_progress: bool = False
    ) -> None:
        self.embedder = embedder
        self._rounds = rounds
        self._sizes = sizes
        self._show_progress = show_progress
        texts = calibration_texts()
        places = np.linspace(0, len(texts) - 1, num=2 * BATCH).astype(int)
        self._texts: list[str] = [texts[place] for place in places]

    def run(self) -> Costs:
        """Measure everything."""
        costs = Costs(rounds=self._rounds)
        costs.dims = {name: self._dims(weights) for name, weights in VARIANTS.items()}
        costs.statistics = self._statistics()
        few = max(3, self._rounds // 3)
        entries = self._entries()
        costs.single = self._in_turn("One text", entries, self._rounds, lambda number: [self._text(number)])
        costs.batch = self._in_turn("A batch", entries, few, lambda _number: self._texts[:BATCH])
        for size in self._sizes:
            costs.search[size] = self._search(size, costs.dims, few)
        return costs

    def _dims(self, weights: Mapping[View, float]) -> dict[View, int]:
        return block_dims(self.embedder.info, self.embedder.config.replace(weights=dict(weights), fusion="weighted"))

    def _text(self, number: int) -> str:
        return self._texts[number % len(self._texts)]

    def _entries(self) -> dict[str, Callable[[list[str]], Any]]:
        found: dict[str, Callable[[list[str]], Any]] = {
            name: self._encode(dict(weights)) for name, weights in VARIANTS.items()
        }
        width = self.embedder.config.lexical_dim
        found[WORDS] = lambda texts: lexical_block(texts, width)
        found[SMALL_ENCODER] = _small_encoder(self.embedder)
        return found

    def _encode(self, weights: dict[View, float]) -> Callable[[list[str]], Array]:
        return lambda texts: self.embedder.encode(texts, weights=weights)

    def _in_turn(
        self, label: str, entries: Mapping[str, Callable[[Any], Any]], rounds: int, argument: Callable[[int], Any]
    ) -> dict[str, Timing]:
        for call in entries.values():
            call(argument(0))  # statistics, kernels and caches are not counted
        times: dict[str, list[float]] = {name: [] for name in entries}
        with progress_bar(label, rounds, enabled=self._show_progress) as advance:
            for number in range(rounds):
                for name, call in entries.items():
                    given = argument(number)
                    started = time.perf_counter()
                    call(given)
                    times[name].append(time.perf_counter() - started)
                advance(1)
        base = times[BASE]
        return {
            name: Timing(median(mine), median(one / other for one, other in zip(mine, base, strict=True)))
            for name, mine in times.items()
        }

    def _search(self, size: int, dims: Mapping[str, Mapping[View, int]], rounds: int) -> dict[str, Timing]:
        """Search indexes of random unit vectors, exactly; each beside that of HS in the same rounds."""
        found: dict[str, Timing] = {}
        with tempfile.TemporaryDirectory() as folder:
            base = _random_store(Path(folder) / "base", size, dims[BASE])
            for name, widths in dims.items():
                if name == BASE:
                    continue
                store = _random_store(Path(folder) / "other", size, widths)
                calls = {BASE: _searching(base, dims[BASE]), name: _searching(store, widths)}
                timings = self._in_turn(f"Search {size:,} vectors: {name}", calls, rounds, lambda number: number)
                found.setdefault(BASE, timings[BASE])
                found[name] = timings[name]
                store.close()
                _remove(Path(folder) / "other")
            base.close()
        return found

    def _statistics(self) -> dict[View, int]:
        """Return the bytes that the frozen statistics of each view hold."""
        space = self.embedder.space(weights=dict(VARIANTS["all four views"]), fusion="weighted")
        return _bytes_by_view(space)


def _bytes_by_view(space: VectorSpace) -> dict[View, int]:
    statistics = space.statistics
    if statistics is None:
        return {}
    frequencies = statistics.frequencies or DocumentFrequencies.builtin()
    arrays: dict[View, list[np.ndarray[Any, Any]]] = {
        "hs": [statistics.hidden_mean, statistics.hidden_scale, statistics.eigenvectors],
        "rw": [statistics.routing_mean, statistics.routing_scale, statistics.routing_whitening],
        "tokens": [statistics.tokens_mean, statistics.tokens_scale],
        "lexical": list(frequencies.arrays().values()),
    }
    return {view: sum(array.nbytes for array in mine) for view, mine in arrays.items()}


def _small_encoder(embedder: MoEE) -> Callable[[list[str]], Array]:
    """Return an encoder with the shape of all-MiniLM-L6-v2 and random weights: what it takes, not what it says.

    Six layers of 384 dimensions. It gets as many tokens as the model's own tokenizer makes of a text, and two more.
    """
    import torch
    from transformers import BertConfig, BertModel

    shape = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    with torch.random.fork_rng():
        model = BertModel(shape).eval()

    def encode(texts: list[str]) -> Array:
        lengths = [len(tokens) + 2 for tokens in embedder.backend.tokenize(texts)]
        mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        with torch.inference_mode():
            states = model(input_ids=torch.ones_like(mask, dtype=torch.long), attention_mask=mask.long())
            return _mean(states.last_hidden_state, mask)

    return encode


def _mean(states: torch.Tensor, mask: torch.Tensor) -> Array:
    return np.asarray(((states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)).numpy())


def _random_store(folder: Path, size: int, dims: Mapping[View, int]) -> FlatStore:
    folder.mkdir()
    store = FlatStore.create(folder / "flat", Layout(dict(dims), {}))
    rng = np.random.default_rng(0)
    for start in range(0, size, _CHUNK):
        count = min(_CHUNK, size - start)
        blocks = [unit(rng.standard_normal((count, width), dtype=np.float32)) for width in dims.values()]
        records = [Record(str(start + number), "") for number in range(count)]
        store.upsert(records, np.concatenate(blocks, axis=1))
    return store


def _searching(store: FlatStore, dims: Mapping[View, int]) -> Callable[[int], Any]:
    def search(number: int) -> Any:
        rng = np.random.default_rng(number)
        blocks = {view: unit(rng.standard_normal((1, width), dtype=np.float32))[0] for view, width in dims.items()}
        return store.search(Query(blocks, dict.fromkeys(blocks, 1.0)).vector, _TOP)

    return search


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
