"""Whether a command means the index that is there: what was settled when it was begun, and what is asked for now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from moee.embedder import MoEE
from moee.errors import InputError
from moee.files.lines import STDIN
from moee.index.fit import BuildOptions
from moee.index.manifest import Manifest, Source
from moee.index.records_from_file import Corpus
from moee.method.config import EmbedderConfig
from moee.method.fusion import check_weighted

_NO_VECTOR_DEPENDS_ON = ("recipe", "batch_size", "format_version")

Difference = tuple[str, object, object]
"""Name of a setting, its value in the index, and the value that is asked for."""


def check_embedder(config: EmbedderConfig) -> None:
    """Refuse configurations whose vectors cannot be kept in an index.

    Raises:
        InputError: With what to choose instead.
    """
    config.check_alone("kept in an index")
    check_weighted(config.fusion, "indexed")


def source_of(corpus: Corpus, *, is_complete: bool = False) -> Source:
    """Return the manifest's entry for a file."""
    path = corpus.label if corpus.label == STDIN else str(Path(corpus.label).expanduser().resolve())
    columns = corpus.columns
    reading = corpus.reading
    read = corpus.documents or corpus
    return Source(
        path,
        read.digest(),
        len(read.records),
        columns.text,
        columns.id,
        is_complete,
        reading.on_bad_row,
        len(reading.rejects),
    )


def check_same(
    folder: Path, manifest: Manifest, saved: EmbedderConfig, *, embedder: MoEE, corpus: Corpus, options: BuildOptions
) -> None:
    """Refuse to go on with a build if anything that decides its vectors or records is another than before.

    Raises:
        InputError: With every value as it was and as it is asked for.
    """
    manifest.check_model(embedder.info)
    differences = [*_settings(manifest, saved, embedder, options), *_columns(manifest, corpus)]
    if differences:
        shown = "; ".join(f"{name} was {was!r} and is {now!r} now" for name, was, now in differences)
        raise InputError(
            f"The index {str(folder)!r} was begun in another way: {shown}. "
            "Give the former values to go on with it, or build another with --out."
        )
    _check_source(folder, manifest.sources[0], source_of(corpus))


def _settings(manifest: Manifest, saved: EmbedderConfig, embedder: MoEE, options: BuildOptions) -> Iterator[Difference]:
    config = embedder.config
    if options.calibrate == "none":
        config = config.replace(calibration="none")
    was, now = saved.to_dict(), config.to_dict()
    for name, value in was.items():
        if name not in _NO_VECTOR_DEPENDS_ON and value != now[name]:
            yield name, value, now[name]
    pairs = (
        ("dtype", manifest.dtype, embedder.info.dtype),
        ("precision", manifest.precision, embedder.info.precision),
        ("store", manifest.store, options.store),
        ("dims", manifest.dims, options.dims),
        ("reduction", manifest.reduction, None if options.dims is None else options.reduction),
        ("quantize", manifest.quantize, options.quantize),
        ("chunk", manifest.chunk, options.chunk),
        ("chunks", manifest.chunks, options.chunks),
        ("hybrid", manifest.layout.hybrid, options.hybrid),
        ("calibrate", manifest.calibrate, options.calibrate or manifest.calibrate),
    )
    yield from (each for each in pairs if each[1] != each[2])


def _columns(manifest: Manifest, corpus: Corpus) -> Iterator[Difference]:
    source = manifest.sources[0]
    if source.text_column != corpus.columns.text:
        yield "the text column", source.text_column, corpus.columns.text
    if source.id_column != corpus.columns.id:
        yield "the id column", source.id_column, corpus.columns.id
    if source.on_bad_row != corpus.reading.on_bad_row:
        yield "on_bad_row", source.on_bad_row, corpus.reading.on_bad_row
    if set(manifest.layout.fields) != set(corpus.fields):
        yield "fields", sorted(manifest.layout.fields), sorted(corpus.fields)


def _check_source(folder: Path, was: Source, now: Source) -> None:
    hint = (
        f"`moee index add {folder} {now.path}` takes over what is new or changed in it; or build another index with "
        "--out."
    )
    if was.path != now.path:
        raise InputError(f"The index {str(folder)!r} was begun from {was.path!r}, not from {now.path!r}. {hint}")
    if was.sha256 != now.sha256:
        raise InputError(
            f"{now.path!r} changed since the index {str(folder)!r} was begun from it: {was.rows} records then "
            f"(sha256 {was.sha256[:12]}), {now.rows} now (sha256 {now.sha256[:12]}). {hint}"
        )
