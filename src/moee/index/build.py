"""Building an index, going on after a stop, and adding to it.

Everything that decides vectors is settled and written first, in one rename; then texts follow in transactions. A build
that is killed at any moment so leaves nothing, or an index that can be searched and that the same command completes:
texts that are there are not embedded again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from moee.embedder import MoEE
from moee.errors import InputError, OutputError
from moee.files.atomic import atomic_folder, check_writable
from moee.index.fit import BuildOptions, Prepared, Sample, prepare
from moee.index.folder import CODEC, EMBEDDER, REDUCER, REPORT, IndexFolder, open_index
from moee.index.manifest import MANIFEST, Chunks, Manifest, read_manifest, write_manifest
from moee.index.passages import first_passages, in_passages, left_over
from moee.index.records_from_file import Corpus
from moee.index.resume_check import check_embedder, check_same, source_of
from moee.index.searcher import Searcher, documents_of, open_embedder
from moee.index.writer import Writer
from moee.method.saved import read_embedder
from moee.stores.base import Store
from moee.stores.loss_report import LossReport
from moee.stores.registry import create_store
from moee.stores.store import Layout, Record

_CHUNK = 4096
"""Records that a store is asked about at once."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build or an addition did.

    Attributes:
        manifest: Manifest of the index.
        num_records: Records in the index.
        num_embedded: Texts that went through the model.
        num_updated: Records whose fields changed and whose text did not.
        num_kept: Records that were there as they are.
        seconds: Duration of the work.
        report: What reduction and quantisation lose; None if it was not asked for.
    """

    manifest: Manifest
    num_records: int
    num_embedded: int
    num_updated: int
    num_kept: int
    seconds: float
    report: LossReport | None = None


def build_index(
    folder: str | Path,
    corpus: Corpus,
    embedder: MoEE,
    options: BuildOptions | None = None,
    *,
    show_progress: bool = False,
) -> Built:
    """Build an index, or go on with one that the same call began.

    Args:
        folder: New or empty, or of that index.
        corpus: The texts.
        embedder: Embedder with the model and configuration of the index; its statistics are not changed.
        options: How the index is built; None for the defaults.
        show_progress: Bars on stderr.

    Raises:
        InputError: If the folder holds something else, the index was begun in another way or from a file that changed
            since, a text is empty, or the corpus is too small for what is asked.
        OutputError: If it cannot be written; what was written before stays.
        StoreError: If a database cannot be reached, or another process is writing.
        MissingExtraError: If the store's package is not installed.
        TruncationError, NonFiniteActivationsError: As `MoEE.encode`.
    """
    started = time.monotonic()
    folder, options = Path(folder).expanduser(), options or BuildOptions()
    check_embedder(embedder.config)
    corpus = corpus.with_texts(embedder.config.on_empty)
    sampled = corpus
    if options.chunk is not None and options.chunks == "keep":
        sampled = corpus = in_passages(corpus, documents_of(embedder), options.chunk)
    elif options.chunk is not None:
        sampled = first_passages(corpus, documents_of(embedder), options.chunk)
    parts = parts_of(folder)
    sample = Sample(sampled, embedder, parts, held_out=options.report, show_progress=show_progress)
    report = None
    if (folder / MANIFEST).is_file():
        _check_begun(folder, corpus, embedder, options)
    else:
        report = _begin(folder, corpus, embedder, options, sample)
    with open_index(folder, store=options.store) as index:
        embedded = 0
        if not index.manifest.sources[0].is_complete:
            embedded = _complete(index, open_embedder(index, embedder, {}), corpus, sample, show_progress=show_progress)
        shutil.rmtree(parts, ignore_errors=True)
        kept = len(corpus.records) - embedded
        return Built(index.manifest, len(index.store), embedded, 0, kept, time.monotonic() - started, report)


def parts_of(folder: Path) -> Path:
    """Return the folder in which the model's views of the sample are kept until the index is complete."""
    return folder.with_name(f"{folder.name}.parts")


def _check_begun(folder: Path, corpus: Corpus, embedder: MoEE, options: BuildOptions) -> None:
    manifest = read_manifest(folder)
    saved = read_embedder(folder / EMBEDDER).config
    check_same(folder, manifest, saved, embedder=embedder, corpus=corpus, options=options)
    if options.report and not (folder / REPORT).is_file():
        raise InputError(
            f"Losses are measured when an index is begun, and {str(folder)!r} was begun without a report. "
            "Leave --report out, or build another index with it."
        )


def _begin(folder: Path, corpus: Corpus, embedder: MoEE, options: BuildOptions, sample: Sample) -> LossReport | None:
    """Settle what decides vectors, and make the folder with an empty store."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"Cannot make the folder {str(folder)!r}: there is a file of that name. Choose another.")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{str(folder)!r} is not empty and holds no index. Choose a new or an empty folder.")
    check_writable(folder)
    prepared = prepare(embedder, corpus, options, sample)
    manifest = _manifest(prepared, corpus, options)
    with atomic_folder(folder) as temporary:
        prepared.embedder.save(temporary / EMBEDDER)
        if prepared.reducer is not None:
            prepared.reducer.save(temporary / REDUCER)
        if prepared.codec is not None:
            prepared.codec.save(temporary / CODEC)
        if prepared.report is not None:
            document = json.dumps(asdict(prepared.report), indent=2)
            (temporary / REPORT).write_text(document + "\n", encoding="utf-8")
        write_manifest(temporary, manifest)
        create_store(manifest.store, temporary, manifest.layout, prepared.codec).close()
    return prepared.report


def _manifest(prepared: Prepared, corpus: Corpus, options: BuildOptions) -> Manifest:
    info = prepared.embedder.info
    return Manifest(
        store=options.store,
        layout=Layout(prepared.dims, corpus.fields, prepared.hybrid),
        model=info.name,
        fingerprint=info.fingerprint,
        dtype=info.dtype,
        precision=info.precision,
        calibrate=prepared.calibrate,
        alpha=prepared.alpha,
        dims=options.dims,
        reduction=None if options.dims is None else options.reduction,
        quantize=options.quantize,
        sources=(source_of(corpus),),
        chunk=options.chunk,
        chunks=cast("Chunks", options.chunks),  # checked by the options
    )


def _complete(index: IndexFolder, embedder: MoEE, corpus: Corpus, sample: Sample, *, show_progress: bool) -> int:
    """Write what is missing, and say in the manifest that all is there; return how many texts were missing."""
    records = corpus.records
    pending = _missing(index.store, records)
    writer = _writer(index, documents_of(embedder), show_progress=show_progress)
    # of a text that is pooled, the sample has one passage
    is_kept = index.manifest.pooled_chunk is None and sample.is_kept()
    sampled = sorted(set(sample.all_rows.tolist()).intersection(pending)) if is_kept else []
    for start in range(0, len(sampled), _CHUNK):
        rows = sampled[start : start + _CHUNK]
        writer.write_views([records[row] for row in rows], sample.views(rows))
    writer.write(records, sorted(set(pending).difference(sampled)))
    _finish(index, corpus)
    return len(pending)


def _writer(index: IndexFolder, documents: MoEE, *, show_progress: bool) -> Writer:
    chunk = index.manifest.pooled_chunk
    return Writer(documents, index.store, index.reducer, chunk, show_progress=show_progress)


def _finish(index: IndexFolder, corpus: Corpus) -> None:
    index.store.compact()
    index.manifest = index.manifest.with_source(source_of(corpus, is_complete=True))
    write_manifest(index.folder, index.manifest)


def _missing(store: Store, records: Sequence[Record]) -> list[int]:
    """Return the places of records that are not stored with the same text."""
    places: list[int] = []
    for start in range(0, len(records), _CHUNK):
        chunk = records[start : start + _CHUNK]
        stored = store.texts_of([record.id for record in chunk])
        places += [start + place for place, record in enumerate(chunk) if stored.get(record.id) != record.text]
    return places


def add_texts(searcher: Searcher, corpus: Corpus, *, show_progress: bool = False) -> Built:
    """Add the records of a file to an index; a known id replaces what it named.

    Only new and changed texts are embedded. A stopped addition is completed by the same call.

    Args:
        searcher: The open index with its model.
        corpus: Records from `records_from_file.read_addition`.
        show_progress: A bar on stderr.

    Raises:
        InputError: If a text is empty, or a field is not of the index.
        OutputError, StoreError, TruncationError, NonFiniteActivationsError: As `build_index`.
    """
    started = time.monotonic()
    corpus = corpus.with_texts(searcher.embedder.config.on_empty)
    index, chunk = searcher.index, searcher.manifest.chunk
    if chunk is not None and searcher.manifest.holds_passages:
        corpus = in_passages(corpus, searcher.documents, chunk)
    records = corpus.records
    # named before anything is written, so that a stopped addition is known to be one
    index.manifest = index.manifest.with_source(source_of(corpus))
    write_manifest(index.folder, index.manifest)
    missing = _missing(index.store, records)
    same = sorted(set(range(len(records))).difference(missing))
    updated, embedded = _update_fields(index, records, same)
    writer = _writer(index, searcher.documents, show_progress=show_progress)
    writer.write(records, sorted([*missing, *embedded]))
    if searcher.manifest.holds_passages:
        index.store.delete(left_over(index.store, corpus))
    _finish(index, corpus)
    num_embedded = len(missing) + len(embedded)
    kept = len(records) - num_embedded - updated
    return Built(index.manifest, len(index.store), num_embedded, updated, kept, time.monotonic() - started)


def _update_fields(index: IndexFolder, records: Sequence[Record], places: Sequence[int]) -> tuple[int, list[int]]:
    """Write changed fields of records whose text is the same, with the vectors they have.

    Returns:
        How many were written, and the places of those that must be embedded for it: a binary code cannot be read and
        written again without a further loss.
    """
    updated, again = 0, list[int]()
    if not index.manifest.layout.fields:
        return updated, again
    for start in range(0, len(places), _CHUNK):
        chunk = {records[place].id: place for place in places[start : start + _CHUNK]}
        stored = index.store.fetch(list(chunk))
        rows = [
            row for row, found in enumerate(stored.records) if found.fields != dict(records[chunk[found.id]].fields)
        ]
        changed = [chunk[stored.records[row].id] for row in rows]
        if index.manifest.quantize == "binary":
            again += changed
        elif rows:
            index.store.upsert([records[place] for place in changed], stored.vectors[rows])
            updated += len(rows)
    return updated, again
