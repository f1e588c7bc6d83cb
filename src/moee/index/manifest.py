"""`index.json`: what an index was made from and how, so that it is continued and searched so or not at all.

The folder of an index:

- `index.json`: this manifest, replaced as a whole.
- `embedder/`: the model's name, its configuration and its frozen statistics (`moee.method.saved`).
- `reducer.safetensors`, `codec.safetensors`, `report.json`: if there are any.
- `flat/` or `lancedb/`: the store, unless it is a database elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from moee.errors import InputError, StoreError
from moee.files.atomic import atomic_file
from moee.files.json import read_json
from moee.files.rows import OnBadRow
from moee.stores.registry import StoreSpec
from moee.stores.store import FieldType, Layout
from moee.types import ModelInfo, View

KIND = "moee-index"
FORMAT_VERSION = 2
"""It rises when a folder of this version could be misread by an older program."""

Calibrate = Literal["corpus", "builtin", "none", "kept"]
"""Texts whose statistics an index has: a sample of the corpus, built-in sentences, none, or the embedder's own."""

Chunks = Literal["keep", "pool"]
"""What becomes of the passages of a split text: a record each, or one vector."""

MANIFEST = "index.json"

DOCUMENT = "document"
PASSAGE_FIELDS: Mapping[str, FieldType] = MappingProxyType(
    {DOCUMENT: "string", "chunk": "integer", "start": "integer", "end": "integer"}
)
"""Fields that every passage has: the id of its document, its number, and its place in the document's text."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file whose texts an index holds.

    Attributes:
        path: Absolute path of the file; `-` for standard input.
        sha256: Digest of its records, see `records_from_file.Corpus.digest`.
        rows: Number of records.
        text_column: Column of the texts.
        id_column: Column of the ids; None for digests of the texts.
        is_complete: Whether all of them were written.
        on_bad_row: What became of rows that could not be used, see `moee.files.rows.Reading`.
        left_out: How many such rows there were.
    """

    path: str
    sha256: str
    rows: int
    text_column: str
    id_column: str | None
    is_complete: bool = False
    on_bad_row: OnBadRow = "error"
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index is.

    Attributes:
        store: Store of the vectors.
        layout: Shape of the vectors, and types of the fields.
        model: Name of the model.
        fingerprint: Fingerprint of the model's weights.
        dtype: Type of the model's computation.
        precision: `"exact"` or `"int8"`.
        calibrate: Texts whose statistics the embedder has.
        alpha: Weight of the routing weights in a sum that names none.
        dims: Length of a reduced vector; None if it is not reduced.
        reduction: `"pca"` or `"random"`; None if it is not reduced.
        quantize: `"int8"` or `"binary"`; None for float32.
        sources: Files, in the order they were added; the first is that of the build.
        moee_version: Version that made the index.
        chunk: The most tokens of a passage with its prompt; None if texts are not split.
        chunks: Whether a split text has a record for each passage, or one whose vector is made of theirs.
    """

    store: StoreSpec
    layout: Layout
    model: str
    fingerprint: str
    dtype: str
    precision: str
    calibrate: Calibrate
    alpha: float
    dims: int | None
    reduction: str | None
    quantize: str | None
    sources: tuple[Source, ...]
    moee_version: str = version("moee")
    chunk: int | None = None
    chunks: Chunks = "keep"

    @property
    def holds_passages(self) -> bool:
        """Whether its records are passages of texts."""
        return self.chunk is not None and self.chunks == "keep"

    @property
    def pooled_chunk(self) -> int | None:
        """The most tokens of a passage, if texts have one vector that is made of their passages'."""
        return self.chunk if self.chunks == "pool" else None

    @property
    def file_fields(self) -> dict[str, FieldType]:
        """Fields that come from files: all but those that say where a passage stands."""
        own = PASSAGE_FIELDS if self.holds_passages else ()
        return {name: kind for name, kind in self.layout.fields.items() if name not in own}

    @property
    def views(self) -> tuple[View, ...]:
        """The views that a search may weigh."""
        return self.layout.views

    @property
    def unfinished(self) -> list[Source]:
        """Files that were not written to their end."""
        return [source for source in self.sources if not source.is_complete]

    def with_source(self, source: Source) -> Manifest:
        """Return the manifest with a file added, or in place of the entry of the same path."""
        paths = [each.path for each in self.sources]
        if source.path not in paths:
            return replace(self, sources=(*self.sources, source))
        return replace(self, sources=tuple(source if each.path == source.path else each for each in self.sources))

    def check_model(self, info: ModelInfo) -> None:
        """Refuse a model with other weights."""
        if info.fingerprint != self.fingerprint:
            raise InputError(
                f"The index was built with the model {self.model!r} (weights {self.fingerprint}), and cannot be used "
                f"with {info.name!r} (weights {info.fingerprint}): vectors of two models do not compare. "
                "Use that model, or build another index."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        return {"kind": KIND, "format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Return what `to_dict` was called on."""
        known = {name: value for name, value in values.items() if name not in ("kind", "format_version")}
        known["store"] = StoreSpec(**values["store"])
        known["layout"] = _layout(values["layout"])
        known["sources"] = tuple(Source(**source) for source in values["sources"])
        return cls(**known)


def _layout(values: Mapping[str, Any]) -> Layout:
    # version 1 knew two blocks, and named the lengths of both
    if "dims" in values:
        return Layout(values["dims"], values["fields"], values.get("hybrid", False))
    return Layout({"hs": values["hidden_dim"], "rw": values["routing_dim"]}, values["fields"])


def _first_source(values: Mapping[str, Any]) -> str:
    """Return the file that an index of an unknown version was built from, if it can be made out."""
    try:
        return str(values["sources"][0]["path"])
    except (KeyError, IndexError, TypeError):
        return "FILE"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `index.json`, whole or not at all."""
    with atomic_file(folder / MANIFEST) as temporary:
        document = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False)
        temporary.write_text(document + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read `index.json`.

    Raises:
        InputError: If the folder is no index, or one of a newer version.
        StoreError: If the file is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "holds no index" if folder.is_dir() else "is no folder"
        raise InputError(
            f"{str(folder)!r} {what} ({MANIFEST} is missing). Build one with: moee index build FILE --out {folder}"
        )
    try:
        values = read_json(path)
    except (OSError, InputError) as error:
        raise StoreError(f"{str(path)!r} is damaged ({error}). Build the index again in another folder.") from error
    try:
        if values["kind"] != KIND:
            raise InputError(f"{str(path)!r} describes {values['kind']!r}, not an index of moee. Name another folder.")
        found = values["format_version"]
        if found not in range(1, FORMAT_VERSION + 1):
            raise InputError(
                f"The index {str(folder)!r} has format version {found!r}; this program reads versions 1 to "
                f"{FORMAT_VERSION}. Update moee, or build it again: moee index build {_first_source(values)} --out NEW"
            )
        return Manifest.from_dict(values)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{str(path)!r} is damaged ({type(error).__name__}: {error}). Build the index again in another folder."
        ) from error
