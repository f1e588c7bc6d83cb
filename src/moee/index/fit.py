"""What is fitted on a sample of the corpus before its first vector is written: statistics, reducer, codec, report.

The sample is 4,096 rows of the file at equal distances (all rows, if there are fewer), so that it is the same in every
run, and mixes what a sorted file keeps apart. No labels are used. A report measures losses on 4,096 further rows.

The model's views of these rows are kept beside the index until it is complete: a build that is stopped does not compute
them again, and the rows go into the index without a second pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np
import numpy.typing as npt

from moee.embedder import MoEE
from moee.errors import InputError, check_choice
from moee.index.manifest import Calibrate, Chunks
from moee.index.records_from_file import Corpus
from moee.index.searcher import blocks_of, documents_of
from moee.method.calibration import Calibration
from moee.method.fusion import join_blocks
from moee.method.lexical import DocumentFrequencies
from moee.method.moments import spread
from moee.method.texts import check_sample
from moee.stores.loss_report import LossReport, measure, num_rows, shorter_dims, take_rows
from moee.stores.quantize import CODECS, Codec, fit_codec
from moee.stores.reduce import METHODS, MIN_DIMS, Blocks, Reducer
from moee.stores.registry import StoreSpec
from moee.types import View, Views
from moee.view_store import ViewStore

SAMPLE_ROWS = 4096
"""Rows that statistics, reducers and codecs are fitted on."""
HELD_OUT_ROWS = 4096
"""Further rows that losses are measured on."""

_FOURTH = 4
_FLAT = StoreSpec("flat")

RowNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How an index is built.

    Attributes:
        store: Store of the vectors.
        calibrate: Texts whose statistics are used: `"builtin"` sentences, a sample of the `"corpus"`, or `"none"`. None
            takes those that were fitted for the embedder, else the built-in ones. The corpus' own help where texts are
            compared in pairs, and harm where they are to be told apart in classes.
        dims: Length of a reduced vector, both views together; None does not reduce.
        reduction: How vectors are reduced.
        quantize: `"int8"` or `"binary"`; None keeps float32.
        report: Measure what reduction and quantisation lose.
        chunk: Split texts over so many tokens, the prompt counted, into passages; None keeps texts whole.
        chunks: `"keep"` gives every passage a record, `"pool"` every text a vector made of its passages'.
        hybrid: Keep the words of the texts for full-text search, which then serves the view `lexical`, without a block.

    Raises:
        UnknownNameError: If a value is not one of a closed set.
        InputError: If `dims` is too small, passages are to be pooled and there are none, or the store keeps no codes.
    """

    store: StoreSpec = _FLAT
    calibrate: str | None = None
    dims: int | None = None
    reduction: str = "pca"
    quantize: str | None = None
    report: bool = False
    chunk: int | None = None
    chunks: str = "keep"
    hybrid: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked before a model is loaded."""
        if self.calibrate is not None:
            check_choice("calibrate", self.calibrate, ("corpus", "builtin", "none"))
        check_choice("value of chunks", self.chunks, get_args(Chunks))
        if self.chunks == "pool" and self.chunk is None:
            raise InputError("chunks says what becomes of passages, and there are none. Give chunk=256 (--chunk 256).")
        check_choice("reduction", self.reduction, METHODS)
        if self.dims is not None and self.dims < MIN_DIMS:
            raise InputError(f"dims is {self.dims}; it must be {MIN_DIMS} or larger: each view keeps at least one.")
        if self.quantize is not None:
            check_choice("quantisation", self.quantize, CODECS)
            self.store.check_codec(self.quantize)


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is settled before the first vector.

    Attributes:
        embedder: Embedder with the statistics of the index.
        calibrate: Texts that they were fitted on.
        alpha: Weight of the routing weights, if a query names none.
        dims: Length of every stored block, by the name of its view.
        hybrid: Whether the words of the texts are kept.
        reducer: None if vectors are not reduced.
        codec: None if vectors are float32.
        report: None if it was not asked for.
    """

    embedder: MoEE
    calibrate: Calibrate
    alpha: float
    dims: Mapping[View, int]
    hybrid: bool
    reducer: Reducer | None
    codec: Codec | None
    report: LossReport | None


class Sample:
    """The sampled rows of a corpus, and the model's views of them."""

    def __init__(
        self, corpus: Corpus, embedder: MoEE, folder: Path, *, held_out: bool, show_progress: bool = False
    ) -> None:
        self._texts = [record.text for record in corpus.records]
        self._config = documents_of(embedder).config
        self._store = ViewStore(embedder, folder, show_progress=show_progress, projections=False, strict=True)
        everything = np.arange(len(self._texts))
        self.rows = spread(len(everything), SAMPLE_ROWS)
        others = np.setdiff1d(everything, self.rows)
        self.held_out = others[spread(len(others), HELD_OUT_ROWS if held_out else 0)]

    @property
    def all_rows(self) -> RowNumbers:
        """Every row that is looked at, ascending."""
        return np.union1d(self.rows, self.held_out)

    @property
    def texts(self) -> list[str]:
        """The texts of the sample, without those held out."""
        return [self._texts[row] for row in self.rows]

    def views(self, rows: Sequence[int] | RowNumbers) -> Views:
        """Return the views of some rows, computed where missing."""
        return self._store.views([self._texts[row] for row in rows], self._config, description="Sampling")

    def views_under(self, texts: Sequence[str], prompt: str) -> Views:
        """Return the views of texts of the sample under a prompt."""
        config = self._config.replace(prompt=prompt)
        return self._store.views(texts, config, description="Sampling")

    def is_kept(self) -> bool:
        """Whether the views of all rows are known without the model."""
        return self._store.missing([self._texts[row] for row in self.all_rows], self._config) == 0


def settle_calibration(embedder: MoEE, options: BuildOptions) -> Calibrate:
    """Return whose statistics an index gets.

    Raises:
        InputError: If statistics are asked for that the embedder's configuration does not use.
    """
    uses_none = embedder.config.calibration == "none"
    if options.calibrate is not None:
        if uses_none and options.calibrate != "none":
            raise InputError(
                f"The embedder has calibration='none', and statistics of {options.calibrate!r} were asked for. "
                "Load it with calibration='spectral', or ask for none."
            )
        return cast("Calibrate", options.calibrate)  # checked by the options
    if uses_none:
        return "none"
    if embedder.calibration is not None and embedder.calibration.texts != "builtin":
        return "kept"
    return "builtin"


def prepare(embedder: MoEE, corpus: Corpus, options: BuildOptions, sample: Sample) -> Prepared:
    """Fit everything that is frozen with an index.

    Raises:
        InputError: If the corpus is too small for what is asked, or `dims` is impossible.
        OutputError: If the views of the sample cannot be kept.
        TruncationError, NonFiniteActivationsError: As `MoEE.encode`.
    """
    calibrate = settle_calibration(embedder, options)
    sample.views(sample.all_rows)  # in one pass, for a model that is read from disk; what follows finds them kept
    embedder = _calibrated(embedder, calibrate, sample)
    documents, hybrid = documents_of(embedder), options.hybrid
    blocks = blocks_of(documents, sample.views(sample.rows), None, hybrid=hybrid)
    weights = {view: documents.space().weights().get(view, 0.0) for view in blocks}
    reducer = None
    if options.dims is not None:
        reducer = Reducer.fit(blocks, options.dims, weights=weights, method=options.reduction)
    report = _report(documents, sample, blocks, reducer, weights, options) if options.report else None
    if reducer is not None and options.quantize == "binary":
        reducer = reducer.turned()
    stored = blocks if reducer is None else reducer.reduce(blocks)
    dims = {view: block.shape[1] for view, block in stored.items()}
    codec = None
    if options.quantize is not None:
        codec = fit_codec(options.quantize, join_blocks(stored), dims.values())
    return Prepared(embedder, calibrate, documents.alpha, dims, hybrid, reducer, codec, report)


def _calibrated(embedder: MoEE, calibrate: Calibrate, sample: Sample) -> MoEE:
    """Return the embedder with the statistics of the index, and with none of them shared."""
    config = embedder.config
    if calibrate == "corpus":
        texts = check_sample(sample.texts, on_empty=config.on_empty)
        words = DocumentFrequencies.fit(texts)
        statistics = [
            Calibration.fit(
                sample.views_under(texts, prompt),
                info=embedder.info,
                config=config.replace(prompt=prompt),
                texts="corpus",
                frequencies=words,
            )
            for prompt in config.prompts()
        ]
        return embedder.with_statistics(config, statistics)
    if calibrate == "none":
        return embedder.with_statistics(config.replace(calibration="none"), ())
    if calibrate == "builtin":
        embedder = embedder.with_statistics(config, ())
    for prompt in config.prompts():
        embedder.space(prompt=prompt)  # fits what is not known, so that it is saved with the index
    return embedder


def _report(
    documents: MoEE,
    sample: Sample,
    blocks: Blocks,
    reducer: Reducer | None,
    weights: Mapping[View, float],
    options: BuildOptions,
) -> LossReport:
    """Measure losses on rows that nothing was fitted on."""
    rows = sample.held_out
    held_out = blocks_of(documents, sample.views(rows), None, hybrid=options.hybrid) if len(rows) else None
    if held_out is None or num_rows(held_out) < num_rows(blocks) // _FOURTH:
        # a small corpus is all sample: every fourth row is held out, and what is measured is fitted on the others
        is_out = np.arange(num_rows(blocks)) % _FOURTH == 0
        held_out, blocks = take_rows(blocks, is_out), take_rows(blocks, ~is_out)
        if reducer is not None:
            reducer = Reducer.fit(blocks, reducer.dim, weights=weights, method=options.reduction)
    shorter = _shorter(blocks, weights, options)
    if reducer is not None:
        shorter = [reducer, *(each for each in shorter if each.dim != reducer.dim)]
    shorter.sort(key=lambda each: -each.dim)
    return measure(blocks, held_out, weights=weights, reducers=shorter, chosen=(reducer, options.quantize))


def _shorter(blocks: Blocks, weights: Mapping[View, float], options: BuildOptions) -> list[Reducer]:
    """Return reducers to sizes that are worth a look."""
    width = sum(block.shape[1] for block in blocks.values())
    dims = shorter_dims(width, num_rows(blocks), least=max(MIN_DIMS, len(blocks)))
    for largest in dims:
        with suppress(InputError):  # the texts do not allow as many
            full = Reducer.fit(blocks, largest, weights=weights, method=options.reduction)
            return [full.truncate(each) for each in dims if each <= largest]
    return []
