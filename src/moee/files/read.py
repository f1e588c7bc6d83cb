"""Texts from files, alone or with other columns.

Reading is strict. A line that cannot be decoded, a row that has other cells than the header, or a value that is no
string stops the read before any model is loaded, or is left out and reported under `on_bad_row="skip"`; nothing is
repaired. The formats are in `moee.files.formats`, bytes and encodings in `moee.files.lines`, and writing is in
`moee.files.write`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from moee.errors import InputError
from moee.files.formats import Rows, csv_header, csv_rows, jsonl_rows, parquet_names, parquet_rows, plain_rows
from moee.files.json import parse_json
from moee.files.lines import STDIN, Line, label_of, open_lines, readable
from moee.files.rows import Bad, Columns, Reading, Row

INPUT_SUFFIXES = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
"""Readable formats. All but the last may also end in `.gz`."""
TABLES = (".csv", ".tsv")
"""Formats whose cells are strings with a delimiter between them."""


def read_texts(
    source: str, *, column: str = "text", reading: Reading | None = None, stdin: BinaryIO | None = None
) -> list[str]:
    """Read every text of a file, or of standard input, in order.

    Args:
        source: `-` for standard input (one text a line), or a path whose suffix names the format: `.txt` (one text a
            line), `.jsonl` (one object or one string a line), `.csv` and `.tsv` (with a header), `.parquet`; all but
            the last also with `.gz` behind.
        column: The field of a JSONL object, or the column of a table, that holds the text. Not used for lines of text.
        reading: Delimiter, encoding, and what becomes of bad rows; None for the defaults.
        stdin: Where `-` reads from; the process's standard input if None.

    Returns:
        At least one text. A blank line of a `.txt` file is an empty text: what becomes of it is the embedder's
        business.

    Raises:
        InputError: If the file is missing, empty, of an unknown suffix, of another encoding, not valid, or without the
            column or with two of it; names the file and the line.
        TextTypeError: If a value of the column is no string; names the file and the line.
        MissingExtraError: If a Parquet file is given and pyarrow is not installed.
    """
    return [row.values[column] for row in read_rows(source, Columns(column), reading=reading, stdin=stdin)]


def read_rows(
    source: str, columns: Columns, *, reading: Reading | None = None, stdin: BinaryIO | None = None
) -> list[Row]:
    """Read rows with several columns, in order.

    Args:
        source: A file as in `read_texts`. Lines of text, and strings in a JSONL file, have the text column alone.
        columns: What is read; texts are checked, other values are given as they are.
        reading: As `read_texts`.
        stdin: As `read_texts`.

    Returns:
        At least one row. A field that a JSONL object lacks is missing in its row.

    Raises:
        InputError, TextTypeError, MissingExtraError: As `read_texts`.
    """
    reading = reading or Reading()
    rows = []
    for row in _rows(source, columns, reading, stdin):
        if isinstance(row, Bad):
            reading.leave_out(row.place, row.error)
        else:
            rows.append(row)
    if not rows and not reading.rejects:
        label = "Standard input" if source == STDIN else repr(source)
        raise InputError(f"{label} holds no texts. Give at least one, for example one text a line.")
    return reading.with_text(rows, columns.text, "encode")


def has_column(source: str, column: str, *, reading: Reading | None = None) -> bool:
    """Return whether the first row of a file has a column; standard input and lines of text have none but the text.

    Raises:
        InputError, MissingExtraError: As `read_texts`, as far as the beginning of the file shows it.
    """
    reading = reading or Reading()
    suffix = _suffix(source)
    if suffix == ".txt":
        return False
    if suffix == ".parquet":
        with readable(source):
            return column in parquet_names(Path(source))
    with open_lines(source, encoding=reading.encoding) as lines:
        if suffix in TABLES:
            return column in csv_header(lines, source, reading.separator(suffix))
        return any(column in keys for keys in _first_keys(lines))


def _first_keys(lines: Iterator[Line]) -> Iterator[list[str]]:
    """Yield the keys of the first value that can be read; reading the file says what is wrong with the others."""
    for line in lines:
        try:
            record = parse_json(line.text, "It", allow_nan=True)
        except InputError:
            continue
        yield list(record) if isinstance(record, dict) else []
        return


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


def _suffix(source: str) -> str:
    return ".txt" if source == STDIN else input_format(Path(source))


def _rows(source: str, columns: Columns, reading: Reading, stdin: BinaryIO | None) -> Rows:
    suffix, label = _suffix(source), label_of(source)
    if reading.delimiter is not None and suffix not in TABLES:
        raise InputError(f"--delimiter is for {' and '.join(TABLES)} files; {label} has no cells to separate.")
    if suffix == ".parquet":
        if reading.encoding is not None:
            raise InputError(f"--encoding is for files of text; {label} says itself how its texts are encoded.")
        with readable(source):
            yield from parquet_rows(Path(source), columns)
        return
    with open_lines(source, encoding=reading.encoding, stdin=stdin) as lines:
        if suffix in TABLES:
            yield from csv_rows(lines, label, columns, reading.separator(suffix))
        else:
            yield from (plain_rows if suffix == ".txt" else jsonl_rows)(lines, label, columns)
