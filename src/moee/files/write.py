"""Vectors into files. A file appears whole or not at all, and whether it can be written is known before the work."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.errors import InputError, MissingExtraError, OutputError
from moee.files.atomic import atomic_file, check_writable

if TYPE_CHECKING:
    import numpy.typing as npt

    from moee.types import Array, Views

OUTPUT_SUFFIXES = (".npy", ".npz", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class Passage:
    """Where a passage stands.

    Attributes:
        index: Place of its text in the input.
        chunk: Its number in the text, from 0.
        start: Place of its first character in the text.
        end: Place behind its last character.
    """

    index: int
    chunk: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts with their vectors, ready to be written.

    Attributes:
        texts: Texts in input order, or passages of them.
        vectors: `(num_texts, dim)` float32.
        views: The views of the same texts, if they were asked for.
        passages: Where each stands, if they are passages.
    """

    texts: Sequence[str]
    vectors: Array
    views: Views | None = None
    passages: Sequence[Passage] | None = None

    def places(self) -> Iterator[dict[str, int]]:
        """Yield what a record says of its place: `index`, and of a passage `chunk`, `start` and `end`."""
        for row in range(len(self.texts)):
            yield {"index": row} if self.passages is None else asdict(self.passages[row])


def check_output(path: Path, *, with_views: bool = False) -> None:
    """Find out whether `path` can be written, before any work is done for it.

    Args:
        path: `.npy` (vectors only), `.npz` (arrays by name), `.jsonl` or `.parquet`.
        with_views: Whether the views are to be written as well.

    Raises:
        InputError: If the suffix is unknown, or has no room for views.
        OutputError: If the folder is missing or not writable, or `path` is a folder.
        MissingExtraError: If Parquet is asked for and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_SUFFIXES:
        raise InputError(
            f"Cannot write {str(path)!r}: the suffix names the format and must be one of {', '.join(OUTPUT_SUFFIXES)}. "
            "Leave the output out to get JSON Lines on standard output."
        )
    if suffix == ".npy" and with_views:
        raise InputError(
            f"{str(path)!r} holds one array and cannot take the views as well. "
            f"Use {path.with_suffix('.npz').name}, .jsonl or .parquet with --views."
        )
    if suffix == ".parquet":
        _pyarrow()
    if path.is_dir():
        raise OutputError(f"Cannot write {str(path)!r}: it is a folder. Give a file name inside it.")
    if not path.parent.is_dir():
        raise OutputError(f"Cannot write {str(path)!r}: there is no folder {str(path.parent)!r}. Create it first.")
    check_writable(path)


def write(path: Path, embedded: Embedded) -> None:
    """Write to `path` in the format that its suffix names.

    Raises:
        OutputError: If it cannot be written; an older file of that name is left as it was.
    """
    writers = {".npy": _write_npy, ".npz": _write_npz, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    with atomic_file(path) as temporary:
        writers[path.suffix.lower()](temporary, embedded)


def jsonl_records(embedded: Embedded) -> Iterator[dict[str, Any]]:
    """Yield one record a text: `index`, `text`, `embedding`, and with views `hidden_states` and `routing_weights`.

    A passage also has `chunk`, `start` and `end`, and the `index` of its text.
    """
    for row, (text, place) in enumerate(zip(embedded.texts, embedded.places(), strict=True)):
        record: dict[str, Any] = {**place, "text": text, "embedding": _floats(embedded.vectors[row])}
        if embedded.views is not None:
            record["hidden_states"] = _floats(embedded.views.hidden_states[row])
            record["routing_weights"] = _floats(embedded.views.routing_weights[row])
        yield record


def _floats(row: Array) -> list[float]:
    """Return the shortest decimals that give back the same float32; the float64 of a float32 has twice the digits."""
    return [float(str(value)) for value in row]


def _write_npy(path: Path, embedded: Embedded) -> None:
    with path.open("wb") as stream:  # an open file, because numpy adds its own suffix to names
        np.save(stream, embedded.vectors)


def _write_npz(path: Path, embedded: Embedded) -> None:
    arrays: dict[str, Any] = {"embeddings": embedded.vectors}
    if embedded.passages is not None:
        arrays.update(_columns(embedded))
    if embedded.views is not None:
        arrays["hidden_states"] = embedded.views.hidden_states
        arrays["routing_weights"] = embedded.views.routing_weights
        arrays["layer_ids"] = np.asarray(embedded.views.layer_ids, dtype=np.int64)
        arrays["num_experts"] = np.asarray(embedded.views.num_experts, dtype=np.int64)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def _columns(embedded: Embedded) -> dict[str, npt.NDArray[np.int64]]:
    rows = list(embedded.places())
    return {name: np.array([row[name] for row in rows], dtype=np.int64) for name in rows[0]}


def _write_jsonl(path: Path, embedded: Embedded) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for record in jsonl_records(embedded):
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, embedded: Embedded) -> None:
    pa, parquet = _pyarrow()

    def vectors(matrix: Array) -> Any:
        flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])

    columns = {
        **{name: pa.array(values, type=pa.int64()) for name, values in _columns(embedded).items()},
        "text": pa.array(embedded.texts, type=pa.string()),
        "embedding": vectors(embedded.vectors),
    }
    if embedded.views is not None:
        columns["hidden_states"] = vectors(embedded.views.hidden_states)
        columns["routing_weights"] = vectors(embedded.views.routing_weights)
    parquet.write_table(pa.table(columns), path)


def _pyarrow() -> tuple[Any, Any]:
    """Return `pyarrow` and `pyarrow.parquet`; untyped upstream."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "writing Parquet files", "parquet") from error
    return pa, parquet
