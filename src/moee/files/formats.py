"""The formats of texts, each as a generator of rows, good and bad."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from moee.errors import InputError, MissingExtraError, TextTypeError
from moee.files.json import parse_json
from moee.files.lines import LONGEST_LINE, Line, check_first_bytes
from moee.files.rows import Bad, Columns, Place, Row

Rows = Iterator[Row | Bad]

_LIKELY_DELIMITERS = {";": "';'", "\t": "tab", "|": "'|'", ",": "','", ":": "':'"}


def plain_rows(lines: Iterable[Line], label: str, columns: Columns) -> Rows:
    """Yield a row for each line.

    Raises:
        InputError: If there should be more columns than the text.
    """
    check_header([columns.text], columns, label)
    for line in lines:
        place = Place(label, line.number)
        yield _bad_line(place, line) or Row(place, {columns.text: line.text.rstrip("\r\n")})


def jsonl_rows(lines: Iterable[Line], label: str, columns: Columns) -> Rows:
    """Yield a row for each object or string."""
    for line in lines:
        if not line.text.strip():
            continue  # JSON Lines readers agree that a blank line is no record
        place = Place(label, line.number)
        yield _bad_line(place, line) or _jsonl_row(line.text, place, columns)


def _jsonl_row(text: str, place: Place, columns: Columns) -> Row | Bad:
    required = Columns(columns.text, columns.id)
    try:
        record = parse_json(text, place.title, allow_nan=True)  # a field that nobody reads may be NaN
        if not isinstance(record, dict):
            record = {columns.text: record}
        if not record.keys() >= set(required.all):
            check_header(record, required, place.title)
    except InputError as error:
        return Bad(place, error)
    return Row(place, {name: record[name] for name in columns.all if name in record})


def csv_header(lines: Iterable[Line], label: str, delimiter: str) -> list[str]:
    """Return the header of a CSV file; empty if the file is.

    Raises:
        InputError: If the first row is not CSV.
    """
    return _Table(lines, label, delimiter).header()


def csv_rows(lines: Iterable[Line], label: str, columns: Columns, delimiter: str) -> Rows:
    """Yield a row for each row behind the header; lines without anything are none.

    Raises:
        InputError: If the header lacks a column or has it twice, or a quote is never closed.
    """
    table = _Table(lines, label, delimiter)
    header = table.header()
    if header:
        check_header(header, columns, label, hint=_other_delimiter(table.first, delimiter, columns.text))
    places = {name: header.index(name) for name in columns.all if name in header}
    for place, cells in table.rows():
        if isinstance(cells, Bad):
            yield cells
        elif len(cells) == len(header):
            yield Row(place, {name: cells[number] for name, number in places.items()})
        else:
            yield Bad(place, _wrong_width(place, len(cells), len(header), delimiter))


def _wrong_width(place: Place, found: int, expected: int, delimiter: str) -> InputError:
    shown = _LIKELY_DELIMITERS.get(delimiter, repr(delimiter))
    return InputError(
        f"{place.title} has {found} cell{'s' if found > 1 else ''}, and the header has {expected}. "
        f"Put cells that hold the delimiter ({shown}) between quotes, and give every row all cells."
    )


class _Table:
    """Rows of cells, each with the line on which it begins.

    The csv module counts a line only when it was read without an error, and knows where a row ends but not where it
    begins; so lines are counted as they are handed to it.
    """

    def __init__(self, lines: Iterable[Line], label: str, delimiter: str) -> None:
        self.first = ""
        self._label = label
        self._delimiter = delimiter
        self._taken = 0
        self._broken: Line | None = None
        self._at_end = False
        self._reader = csv.reader(self._counted(lines), strict=True, delimiter=delimiter)

    def header(self) -> list[str]:
        """Return the first row that holds anything."""
        for _, cells in self.rows():
            if isinstance(cells, Bad):
                hint = _other_delimiter(self.first, self._delimiter, "")
                raise InputError(f"{cells.error} {hint}".rstrip())
            return cells
        return []

    def rows(self) -> Iterator[tuple[Place, list[str] | Bad]]:
        """Yield every row that holds anything."""
        while True:
            place = Place(self._label, self._taken + 1)
            self._broken = None
            limit = csv.field_size_limit(LONGEST_LINE)
            try:
                cells: list[str] | Bad = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                cells = Bad(place, self._not_csv(place, error))
            finally:
                csv.field_size_limit(limit)
            if self._broken is not None:
                at = Place(self._label, self._broken.number)
                cells = Bad(at, InputError(f"{at.title} {self._broken.fault}."))
            if cells:
                yield place, cells

    def _counted(self, lines: Iterable[Line]) -> Iterator[str]:
        for line in lines:
            self._taken = line.number
            self.first = self.first or line.text.strip("\r\n")
            if line.fault is not None:
                self._broken = line
            yield line.text
        self._at_end = True

    def _not_csv(self, place: Place, error: csv.Error) -> InputError:
        until = "" if self._taken == place.line else f" (its row goes on to line {self._taken})"
        if self._at_end:
            raise InputError(
                f"{place.title} begins a row whose last quote is never closed: it goes on to the end of the file, line "
                f"{self._taken}. Close the quote, or write a quote inside of quotes twice."
            ) from error
        what = str(error)
        if "expected after" in what:
            what = "text follows the quote that ends a cell"
        return InputError(
            f"{place.title} is not CSV{until}: {what}. Put cells that hold quotes, delimiters or line ends between "
            "quotes, and write a quote inside of them twice."
        )


def _other_delimiter(line: str, delimiter: str, column: str) -> str:
    """Return advice on the delimiter that a header was likely written with; empty if it seems right."""
    for each, shown in _LIKELY_DELIMITERS.items():
        cells = [cell.strip().strip('"') for cell in line.split(each)]
        if each != delimiter and len(cells) > 1 and (column in cells or delimiter not in line):
            return f"The header looks separated by {shown}: try --delimiter {shown}."
    return ""


def parquet_names(path: Path) -> list[str]:
    """Return the names of a Parquet file's columns.

    Raises:
        InputError: If it is not Parquet.
        MissingExtraError: If pyarrow is not installed.
    """
    return list(_parquet(path, lambda parquet: parquet.read_schema(path)).names)


def parquet_rows(path: Path, columns: Columns) -> Rows:
    """Yield the rows of a Parquet file.

    Raises:
        InputError: If it is not Parquet, or lacks a column or has it twice.
        TextTypeError: If the column of the texts holds something else.
        MissingExtraError: If pyarrow is not installed.
    """
    schema = _parquet(path, lambda parquet: parquet.read_schema(path))
    check_header(schema.names, columns, str(path))
    _check_parquet_text(schema, columns.text, path)
    table = _parquet(path, lambda parquet: parquet.ParquetFile(path).read(columns=columns.all))
    values = [_parquet_values(table.column(name)) for name in columns.all]
    for number, row in enumerate(zip(*values, strict=True), start=1):
        yield Row(Place(str(path), number, "row"), dict(zip(columns.all, row, strict=True)))


def _parquet(path: Path, read: Callable[[Any], Any]) -> Any:
    """Return what pyarrow reads; untyped upstream."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "reading Parquet files", "parquet") from error
    try:
        return read(parquet)
    except pa.ArrowException as error:
        with path.open("rb") as stream:
            check_first_bytes(stream.read(4096).removeprefix(b"PAR1"), str(path), "utf-8-sig")
        raise InputError(f"{str(path)!r} is not a Parquet file that can be read: {error}.") from error


def _check_parquet_text(schema: Any, column: str, path: Path) -> None:
    """Refuse a column of texts whose type is another, once for all of its rows; untyped upstream."""
    import pyarrow as pa

    def is_text(kind: Any) -> bool:
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or str(inner) == "string_view")

    kind = schema.field(column).type
    if not is_text(kind) and not pa.types.is_null(kind):
        texts = ", ".join(repr(each.name) for each in schema if is_text(each.type)) or "none"
        raise TextTypeError(
            f"The column {column!r} of {path} holds {kind}, not text. Columns of text there: {texts}. "
            "Name one with --text-column."
        )


def _parquet_values(column: Any) -> list[Any]:
    """Return the values of a column; bytes for strings that are not UTF-8, which pyarrow stores unchecked."""
    try:
        return cast("list[Any]", column.to_pylist())
    except UnicodeDecodeError:
        return [_decoded(value) for value in column.cast("binary").to_pylist()]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _bad_line(place: Place, line: Line) -> Bad | None:
    return None if line.fault is None else Bad(place, InputError(f"{place.title} {line.fault}."))


def check_header(found: Iterable[str] | Mapping[str, object], columns: Columns, place: str, *, hint: str = "") -> None:
    """Refuse a file or row that lacks a column, or has it twice.

    Args:
        found: Names of the columns there.
        columns: Columns that are read.
        place: Where they are, as the beginning of a sentence.
        hint: A further sentence, for a column that is not there.

    Raises:
        InputError: With the column, those that are there, and the option that names it.
    """
    names: Sequence[str] = list(found)
    options = dict.fromkeys(columns.fields, "--fields")
    options |= {} if columns.id is None else {columns.id: "--id-column"}
    options[columns.text] = "--text-column"
    for name in columns.all:
        shown = ", ".join(repr(each) for each in names) or "none"
        if name not in names:
            message = f"{place} has no column {name!r}. Columns there: {shown}. Name one with {options[name]}."
            raise InputError(f"{message} {hint}".rstrip())
        if names.count(name) > 1:
            raise InputError(
                f"{place} has {names.count(name)} columns called {name!r}, and it cannot be told which is meant. "
                f"Rename one, or name another with {options[name]}. Columns there: {shown}."
            )
