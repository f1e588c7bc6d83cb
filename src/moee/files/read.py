"""Texts from files, alone or with other columns: one reader for each format, and errors that name the line.

Reading is strict. A line that cannot be decoded, a row without the column, or a value that is not a string stops the
read before any model is loaded; nothing is skipped or repaired. Writing is in `moee.files.write`.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from moee.errors import InputError, MissingExtraError, TextTypeError

STDIN = "-"
INPUT_SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
"""Readable formats. The first three may also end in `.gz`."""

# The csv module refuses fields over 128 KiB unless told otherwise; a text may be longer.
_CSV_FIELD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a file are read.

    Attributes:
        text: Holds the text; every row must have it.
        id: Holds an id, and every row must have it; None for none.
        fields: Further ones. The header of a CSV or Parquet file must name them; a JSONL object may lack them.
    """

    text: str = "text"
    id: str | None = None
    fields: Sequence[str] = ()

    @property
    def all(self) -> list[str]:
        """Every column, each once."""
        return list(dict.fromkeys([self.text, *([] if self.id is None else [self.id]), *self.fields]))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file.

    Attributes:
        place: Where it is, for messages: `"on line 3 of reviews.csv"`.
        values: By column, as the format gives them: strings from CSV, what JSON and Parquet have from the others.
    """

    place: str
    values: Mapping[str, Any]


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
    rows = _rows(source, Columns(column), stdin)
    return [check_text(row.values[column], f"{column!r} {row.place}") for row in rows]


def read_rows(source: str, columns: Columns, *, stdin: BinaryIO | None = None) -> list[Row]:
    """Read rows with several columns, in order.

    Args:
        source: As `read_texts`. Lines of text, and strings in a JSONL file, have the text column alone.
        columns: What is read; texts are checked, other values are given as they are.
        stdin: As `read_texts`.

    Returns:
        At least one row. A field that a JSONL object lacks is missing in its row.

    Raises:
        InputError, TextTypeError, MissingExtraError: As `read_texts`.
    """
    rows = list(_rows(source, columns, stdin))
    for row in rows:
        check_text(row.values[columns.text], f"{columns.text!r} {row.place}")
    return rows


def has_column(source: str, column: str) -> bool:
    """Return whether the first row of a file has a column; standard input and lines of text have none but the text.

    Raises:
        InputError, MissingExtraError: As `read_texts`, as far as the beginning of the file shows it.
    """
    if source == STDIN or input_format(Path(source)) == ".txt":
        return False
    path = Path(source)
    with _readable(path):
        if input_format(path) == ".parquet":
            return column in _parquet_names(path)
        with _opened(path) as stream:
            lines = _decoded_lines(stream, source)
            if input_format(path) == ".csv":
                return column in (csv.DictReader(lines).fieldnames or ())
            first = next((line for line in lines if line.strip()), "")
            try:
                record = json.loads(first)
            except json.JSONDecodeError:
                return False  # reading the file says what is wrong with it
            return isinstance(record, dict) and column in record


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


def _rows(source: str, columns: Columns, stdin: BinaryIO | None) -> Iterator[Row]:
    """Yield at least one row."""
    if source == STDIN:
        stream = stdin if stdin is not None else sys.stdin.buffer
        rows = _plain_rows(_decoded_lines(stream, "standard input"), "standard input", columns)
    else:
        rows = _file_rows(Path(source), columns)
    first = next(rows, None)
    if first is None:
        label = "Standard input" if source == STDIN else repr(source)
        raise InputError(f"{label} holds no texts. Give at least one, for example one text a line.")
    yield first
    yield from rows


def _file_rows(path: Path, columns: Columns) -> Iterator[Row]:
    suffix = input_format(path)
    with _readable(path):
        if suffix == ".parquet":
            yield from _parquet_rows(path, columns)
            return
        readers = {".txt": _plain_rows, ".csv": _csv_rows, ".jsonl": _jsonl_rows}
        with _opened(path) as stream:
            yield from readers[suffix](_decoded_lines(stream, str(path)), str(path), columns)


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


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


def _plain_rows(lines: Iterable[str], label: str, columns: Columns) -> Iterator[Row]:
    _check_header([columns.text], columns, label)
    for number, line in enumerate(lines, start=1):
        yield Row(f"on line {number} of {label}", {columns.text: line.removesuffix("\n").removesuffix("\r")})


def _jsonl_rows(lines: Iterable[str], label: str, columns: Columns) -> Iterator[Row]:
    required = Columns(columns.text, columns.id)
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
        if not isinstance(record, dict):
            record = {columns.text: record}
        if not record.keys() >= set(required.all):
            _check_header(record, required, f"Line {number} of {label}")
        values = {name: record[name] for name in columns.all if name in record}
        yield Row(f"on line {number} of {label}", values)


def _csv_rows(lines: Iterable[str], label: str, columns: Columns) -> Iterator[Row]:
    limit = csv.field_size_limit(_CSV_FIELD_BYTES)
    reader = csv.DictReader(lines, strict=True)
    try:
        header = reader.fieldnames or ()
        if header:
            _check_header(header, columns, label)
        for row in reader:
            yield Row(f"on line {reader.line_num} of {label}", {name: row[name] for name in columns.all})
    except csv.Error as error:
        raise InputError(
            f"Line {reader.line_num} of {label} is not CSV: {error}. Quote fields that hold quotes or line ends."
        ) from error
    finally:
        csv.field_size_limit(limit)


def _parquet_names(path: Path) -> list[str]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "reading Parquet files", "parquet") from error
    try:
        return list(parquet.read_schema(path).names)
    except pa.ArrowInvalid as error:
        raise InputError(f"{str(path)!r} is not a Parquet file: {error}.") from error


def _parquet_rows(path: Path, columns: Columns) -> Iterator[Row]:
    _check_header(_parquet_names(path), columns, str(path))
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, columns=columns.all)
    except pa.ArrowInvalid as error:
        raise InputError(f"{str(path)!r} is not a Parquet file: {error}.") from error
    values = [table.column(name).to_pylist() for name in columns.all]
    for number, row in enumerate(zip(*values, strict=True)):
        yield Row(f"in row {number} of {path}", dict(zip(columns.all, row, strict=True)))


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


def _check_header(found: Iterable[str], columns: Columns, place: str) -> None:
    names = list(found)
    options = dict.fromkeys(columns.fields, "--fields")
    options |= {} if columns.id is None else {columns.id: "--id-column"}
    options[columns.text] = "--text-column"
    for name in columns.all:
        if name not in names:
            shown = ", ".join(repr(each) for each in cast("list[object]", names)) or "none"
            raise InputError(f"{place} has no column {name!r}. Columns there: {shown}. Name one with {options[name]}.")
