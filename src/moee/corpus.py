"""Texts from files: one reader for each format, and errors that name the line.

Reading is strict. A line that cannot be decoded, a row without the column, or a value that is not a string stops the
read before any model is loaded; nothing is skipped or repaired. Writing is in `moee.export`.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from moee.errors import InputError, MissingExtraError, TextTypeError

STDIN = "-"
INPUT_SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
"""Readable formats. The first three may also end in `.gz`."""

# The csv module refuses fields over 128 KiB unless told otherwise; a text may be longer.
_CSV_FIELD_BYTES = 1 << 30


def read_texts(source: str, *, column: str = "text", stdin: BinaryIO | None = None) -> list[str]:
    """Read every text of a file, or of standard input, in order.

    Args:
        source: `-` for standard input (one text a line), or a path whose suffix names the format: `.txt` (one text a
            line), `.jsonl` (one object or one string a line), `.csv` (with a header), `.parquet`; the first three
            also with `.gz` behind. All text is UTF-8, with or without a byte order mark.
        column: The field of a JSONL object, CSV row or Parquet row that holds the text. Not used for lines of text.
        stdin: Where `-` reads from; the process's standard input if None.

    Returns:
        At least one text. A blank line is an empty text: what becomes of it is the embedder's business.

    Raises:
        InputError: If the file is missing, empty, of an unknown suffix, not UTF-8, not valid, or without the column.
        TextTypeError: If a value of the column is not a string.
        MissingExtraError: If a Parquet file is given and pyarrow is not installed.
    """
    if source == STDIN:
        stream = stdin if stdin is not None else sys.stdin.buffer
        texts = list(_plain_lines(_decoded_lines(stream, "standard input")))
        label = "Standard input"
    else:
        texts = _read_file(Path(source), column)
        label = repr(source)
    if not texts:
        raise InputError(f"{label} holds no texts. Give at least one, for example one text a line.")
    return texts


def input_format(path: Path) -> str:
    """Return the suffix that names the format of `path`, without `.gz`.

    Raises:
        InputError: If it is not one of `INPUT_SUFFIXES`.
    """
    name = path.name.lower()
    inner = name.removesuffix(".gz")
    suffix = Path(inner).suffix
    if suffix not in INPUT_SUFFIXES or (suffix == ".parquet" and name != inner):
        raise InputError(
            f"Cannot tell the format of {str(path)!r} from its suffix. Readable are {', '.join(INPUT_SUFFIXES)} "
            "(all but .parquet also with .gz behind), and - for standard input, one text a line."
        )
    return suffix


def _read_file(path: Path, column: str) -> list[str]:
    suffix = input_format(path)
    with _readable(path):
        if suffix == ".parquet":
            return _parquet_texts(path, column)
        opened: IO[bytes] = gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[assignment]  # noqa: SIM115
        with opened as stream:
            lines = _decoded_lines(stream, str(path))
            if suffix == ".txt":
                return list(_plain_lines(lines))
            if suffix == ".csv":
                return list(_csv_texts(lines, str(path), column))
            return list(_jsonl_texts(lines, str(path), column))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the system says about an unreadable file into an `InputError` that names it."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            f"No such file: {str(path)!r}. Give the path of a file of texts, or - to read them."
        ) from error
    except IsADirectoryError as error:
        raise InputError(f"{str(path)!r} is a folder. Give one file of texts.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{str(path)!r} is not a whole gzip file: {error}. Compress it again or drop .gz.") from error
    except OSError as error:
        raise InputError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error


def _decoded_lines(stream: Iterable[bytes], label: str) -> Iterator[str]:
    """Decode line by line, so that a broken byte is reported with its line; line ends are kept."""
    for number, raw in enumerate(stream, start=1):
        line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"Line {number} of {label} is not UTF-8: byte {raw[error.start]:#04x} at position {error.start}. "
                "Convert the file, for example with: iconv -f LATIN1 -t UTF-8"
            ) from error


def _plain_lines(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line.removesuffix("\n").removesuffix("\r")


def _jsonl_texts(lines: Iterable[str], label: str, column: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue  # JSON Lines readers agree that a blank line is no record
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"Line {number} of {label} is not JSON: {error.msg} at column {error.colno}. "
                "Every line must be one object or one string."
            ) from error
        if isinstance(record, dict):
            if column not in record:
                raise _missing_column(f"Line {number} of {label}", column, record)
            record = record[column]
        yield check_text(record, f"{column!r} on line {number} of {label}")


def _csv_texts(lines: Iterable[str], label: str, column: str) -> Iterator[str]:
    limit = csv.field_size_limit(_CSV_FIELD_BYTES)
    reader = csv.DictReader(lines, strict=True)
    try:
        header = reader.fieldnames or ()
        if header and column not in header:
            raise _missing_column(label, column, header)
        for row in reader:
            yield check_text(row[column], f"{column!r} on line {reader.line_num} of {label}")
    except csv.Error as error:
        raise InputError(
            f"Line {reader.line_num} of {label} is not CSV: {error}. Quote fields that hold quotes or line ends."
        ) from error
    finally:
        csv.field_size_limit(limit)


def _parquet_texts(path: Path, column: str) -> list[str]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "reading Parquet files", "parquet") from error
    try:
        names = parquet.read_schema(path).names
        if column not in names:
            raise _missing_column(str(path), column, names)
        values = parquet.read_table(path, columns=[column]).column(column).to_pylist()
    except pa.ArrowInvalid as error:
        raise InputError(f"{str(path)!r} is not a Parquet file: {error}.") from error
    return [check_text(value, f"{column!r} in row {row} of {path}") for row, value in enumerate(values)]


def check_text(text: object, place: str) -> str:
    """Return `text` if it is a string that UTF-8 can hold.

    Args:
        text: A value from a file or the command line.
        place: Where it came from, for the message.

    Raises:
        TextTypeError: If it is not a string.
        InputError: If it holds half a surrogate pair, as broken JSON escapes and undecodable arguments do.
    """
    if not isinstance(text, str):
        kind = "missing" if text is None else f"of type {type(text).__name__}: {repr(text)[:60]}"
        raise TextTypeError(f"The value of {place} is {kind}. Every text must be a string.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"The value of {place} has half a surrogate pair at character {error.start}, which no encoding can hold. "
            "Write the character itself, or both halves."
        ) from error
    return text


def _missing_column(place: str, column: str, columns: Iterable[str]) -> InputError:
    names = ", ".join(repr(name) for name in cast("Iterable[object]", columns)) or "none"
    return InputError(f"{place} has no column {column!r}. Columns there: {names}. Name one with --text-column.")
