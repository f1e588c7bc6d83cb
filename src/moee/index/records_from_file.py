"""The records of a file: texts with ids that stay, and fields of one type each.

A text without an id is known by a digest of itself, so that the same text is the same record wherever it stands in the
file, and a line put in at the top does not shift the ids of all others. A text that comes again gets a number behind.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from moee.errors import InputError, TextTypeError, UnknownNameError, shown
from moee.files.read import TABLES, has_column, read_rows
from moee.files.rows import Columns, Place, Reading, Row
from moee.files.text import check_text
from moee.index.manifest import Manifest
from moee.stores.filters import describe_type, is_of_type
from moee.stores.store import FieldType, Record, Value
from moee.types import EmptyText

DEFAULT_ID = "id"
"""Column of ids, if a file has it and no other was named."""

_DIGEST_BYTES = 8
# As people write them; `007` is a code and no number.
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?|[+-]?\.\d+([eE][+-]?\d+)?")
_LONGEST_NUMBER = 1000  # Python refuses to make an integer of more than 4,300 digits
_BOOLEANS = {"true": True, "false": False}

Values = list[tuple[Place, Value]]
"""The values of a field, each with its place."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a file holds.

    Attributes:
        label: The file, as it was named.
        columns: Columns that were read; `id` is None if ids are digests.
        records: Records in the file's order, with different ids.
        places: Place of each record, for messages.
        fields: The type of every field.
        reading: How the file was read, with the rows that were left out.
        documents: The texts of the file, if the records are passages of them; see `moee.index.passages`.
    """

    label: str
    columns: Columns
    records: Sequence[Record]
    places: Sequence[Place]
    fields: Mapping[str, FieldType]
    reading: Reading = field(default_factory=Reading)
    documents: Corpus | None = None

    def digest(self) -> str:
        """Return a SHA-256 of the records: of what was read, not of how the file is compressed or quoted."""
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(json.dumps([record.id, record.text, record.fields], sort_keys=True).encode())
        return digest.hexdigest()

    def with_texts(self, on_empty: EmptyText, *, if_empty: str = "") -> Corpus:
        """Return the corpus without the records whose text is empty, unless such texts are to be embedded.

        Args:
            on_empty: `"encode"` keeps them.
            if_empty: What else can be done about one, as a sentence.

        Raises:
            InputError: If a text has no visible character and bad rows are not skipped; names the place.
        """
        texts = [
            Row(place, {self.columns.text: record.text})
            for place, record in zip(self.places, self.records, strict=True)
        ]
        kept = {row.place for row in self.reading.with_text(texts, self.columns.text, on_empty, if_empty=if_empty)}
        if len(kept) == len(texts):
            return self
        records = [record for place, record in zip(self.places, self.records, strict=True) if place in kept]
        return replace(self, records=records, places=[place for place in self.places if place in kept])


def read_corpus(
    source: str,
    columns: Columns | None = None,
    *,
    reading: Reading | None = None,
    stdin: BinaryIO | None = None,
) -> Corpus:
    """Read the records of a file.

    The type of a field is the first that fits all of its values: integer, number, boolean or string.

    Args:
        source: As `moee.files.read.read_texts`.
        columns: Columns that are read; without an id column, `id` is taken if the file has it.
        reading: As `moee.files.read.read_texts`.
        stdin: As `moee.files.read.read_texts`.

    Raises:
        InputError: If the file cannot be read, an id is missing or comes twice, or a field mixes types; names the line.
        TextTypeError: If a text is not a string.
        MissingExtraError: If a Parquet file is given and pyarrow is not installed.
    """
    columns, reading = columns or Columns(), reading or Reading()
    if columns.id is None and columns.text != DEFAULT_ID and has_column(source, DEFAULT_ID, reading=reading):
        columns = replace(columns, id=DEFAULT_ID)
    return _corpus(source, columns, None, reading, stdin)


def _corpus(
    source: str,
    columns: Columns,
    types: Mapping[str, FieldType] | None,
    reading: Reading,
    stdin: BinaryIO | None,
) -> Corpus:
    """Read records, their fields of the given types or of those that are found."""
    rows = read_rows(source, columns, reading=reading, stdin=stdin)
    _check_fields(rows, columns.fields)
    from_csv = Path(source.lower().removesuffix(".gz")).suffix in TABLES
    if not from_csv:
        rows = _good(rows, lambda row: _plain_fields(row, columns.fields), reading)
    fields = types or {name: _type_of(name, _values(rows, name), from_csv=from_csv) for name in columns.fields}
    rows = _good(rows, lambda row: _typed_fields(row, fields, from_csv=from_csv), reading)
    if columns.id is None:
        ids = _digests(rows, columns.text)
    else:
        rows, ids = _with_ids(rows, columns.id, reading)
    reading.check_left(rows)
    records = [
        Record(key, row.values[columns.text], {name: row.values[name] for name in fields})
        for key, row in zip(ids, rows, strict=True)
    ]
    return Corpus(source, columns, records, [row.place for row in rows], fields, reading)


def _good(rows: Sequence[Row], convert: Callable[[Row], Row], reading: Reading) -> list[Row]:
    """Return the rows that can be converted, as they are then."""
    kept = []
    for row in rows:
        try:
            kept.append(convert(row))
        except (InputError, TextTypeError) as error:
            reading.leave_out(row.place, error)
    return kept


def read_addition(
    manifest: Manifest,
    source: str,
    *,
    text_column: str | None = None,
    id_column: str | None = None,
    reading: Reading | None = None,
    stdin: BinaryIO | None = None,
) -> Corpus:
    """Read the records of a file that is to be added to an index.

    Args:
        manifest: Manifest of the index; gives the columns where none are named, and the fields with their types.
        source: As `read_corpus`.
        text_column: Holds the texts; None is that of the build.
        id_column: Holds the ids; None is that of the build.
        reading: As `read_corpus`.
        stdin: As `read_corpus`.

    Raises:
        InputError: If ids of a column were asked for and those of the index are digests; as `read_corpus`.
        TextTypeError, MissingExtraError: As `read_corpus`.
    """
    built, types = manifest.sources[0], manifest.file_fields
    if id_column is not None and built.id_column is None:
        raise InputError(
            f"The ids of the index are digests of its texts, and ids from the column {id_column!r} were asked for: a "
            "text would not replace the one it stands for. Leave --id-column out, or build another index with it."
        )
    columns = Columns(text_column or built.text_column, id_column or built.id_column, tuple(types))
    return _corpus(source, columns, types, reading or Reading(), stdin)


def _digests(rows: Sequence[Row], column: str) -> list[str]:
    seen: dict[str, int] = {}
    ids = []
    for row in rows:
        digest = hashlib.blake2b(row.values[column].encode(), digest_size=_DIGEST_BYTES).hexdigest()
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids


def _with_ids(rows: Sequence[Row], column: str, reading: Reading) -> tuple[list[Row], list[str]]:
    """Return the rows whose id is one and is new, and the ids."""
    seen: dict[str, Place] = {}

    def check(row: Row) -> Row:
        key = _id(row, column)
        if key in seen:
            raise InputError(
                f"The id {key!r} {row.place} is also that {seen[key]}. Every text needs its own; "
                "name another column with --id-column."
            )
        seen[key] = row.place
        return row

    return _good(rows, check, reading), list(seen)


def _id(row: Row, column: str) -> str:
    value = row.values[column]
    is_empty = value is None or (isinstance(value, str) and not value.strip())
    if is_empty or isinstance(value, bool) or not isinstance(value, (str, int)):
        what = "empty" if is_empty else f"{shown(value)}, a {type(value).__name__}"
        raise InputError(f"The id {column!r} {row.place} is {what}. Every id must be a string or a whole number.")
    return check_text(str(value), f"{column!r} {row.place}")


def _check_fields(rows: Sequence[Row], names: Sequence[str]) -> None:
    for name in names:
        if not any(name in row.values for row in rows):
            found = sorted({column for row in rows for column in row.values})
            raise UnknownNameError("field", name, found, hint="No row of the file has it. Name fields with --fields.")


def _values(rows: Sequence[Row], name: str) -> Values:
    return [(row.place, row.values.get(name)) for row in rows]


def _plain_fields(row: Row, names: Sequence[str]) -> Row:
    return Row(row.place, {**row.values, **{name: _plain(name, row.place, row.values.get(name)) for name in names}})


def _typed_fields(row: Row, fields: Mapping[str, FieldType], *, from_csv: bool) -> Row:
    typed: dict[str, Value] = {}
    for name, kind in fields.items():
        value = row.values.get(name)
        typed[name] = _checked(name, row.place, _from_csv(value, kind) if from_csv else value, kind)
    return Row(row.place, {**row.values, **typed})


def _csv_type(values: Values) -> FieldType:
    written = [str(value) for _, value in values if value not in (None, "")]
    forms: tuple[tuple[FieldType, Callable[[str], object]], ...] = (
        ("integer", _INTEGER.fullmatch),
        ("number", _NUMBER.fullmatch),
        ("boolean", lambda text: text.lower() in _BOOLEANS),
    )
    if written:
        for kind, fits in forms:
            if all(fits(text) for text in written):
                return kind
    return "string"


def _from_csv(value: object, kind: FieldType) -> Value:
    """Return a field of a CSV row in its type; as it is if it has no such form, which the check then says."""
    if value in (None, ""):
        return None
    text = str(value)
    if kind == "integer" and _INTEGER.fullmatch(text) and len(text) <= _LONGEST_NUMBER:
        return int(text)
    if kind == "number" and _NUMBER.fullmatch(text):
        return float(text)
    if kind == "boolean":
        return _BOOLEANS.get(text.lower(), text)
    return text


def _plain(name: str, place: Place, value: object) -> Value:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()  # Parquet has types for them; as text they sort as they should
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TextTypeError(
        f"The field {name!r} {place} is of type {type(value).__name__}: {shown(value)}. "
        "A field holds a string, a number, or true or false."
    )


def _type_of(name: str, values: Values, *, from_csv: bool) -> FieldType:
    """Return the type that all values have; whole numbers among others are numbers."""
    if from_csv:
        return _csv_type(values)
    first: dict[FieldType, Place] = {}
    for place, value in values:
        if value is not None:
            first.setdefault(_type_of_value(value), place)
    if set(first) == {"integer", "number"}:
        return "number"
    if len(first) > 1:
        (kind, place), (other, elsewhere) = list(first.items())[:2]
        raise InputError(
            f"The field {name!r} is of type {kind} {place} and of type {other} {elsewhere}. "
            "A field has one type in all rows."
        )
    return next(iter(first), "string")


def _type_of_value(value: Value) -> FieldType:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"


def _checked(name: str, place: Place, value: Value, kind: FieldType) -> Value:
    if value is None:
        return None
    if not is_of_type(value, kind):
        raise InputError(f"The field {name!r} {place} is {shown(value)}; it must be {describe_type(kind)}, or missing.")
    if isinstance(value, str):
        return check_text(value, f"the field {name!r} {place}")
    return float(value) if kind == "number" and not math.isnan(value) else value
