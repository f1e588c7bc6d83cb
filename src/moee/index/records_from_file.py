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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from moee.errors import InputError, TextTypeError, UnknownNameError
from moee.files.read import Columns, Row, check_text, has_column, read_rows
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
_BOOLEANS = {"true": True, "false": False}

Values = list[tuple[str, object]]
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
    """

    label: str
    columns: Columns
    records: Sequence[Record]
    places: Sequence[str]
    fields: Mapping[str, FieldType]

    def digest(self) -> str:
        """Return a SHA-256 of the records: of what was read, not of how the file is compressed or quoted."""
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(json.dumps([record.id, record.text, record.fields], sort_keys=True).encode())
        return digest.hexdigest()

    def check_texts(self, on_empty: EmptyText) -> None:
        """Refuse empty texts, unless they are to be embedded.

        Raises:
            InputError: If a text has no visible character; names the place.
        """
        for record, place in zip(self.records, self.places, strict=True):
            if on_empty == "error" and not record.text.strip():
                raise InputError(
                    f"The text {place} is empty. Drop it, or embed the bare prompt in its place with --on-empty encode."
                )


def read_corpus(
    source: str,
    columns: Columns | None = None,
    *,
    stdin: BinaryIO | None = None,
) -> Corpus:
    """Read the records of a file.

    The type of a field is the first that fits all of its values: integer, number, boolean or string.

    Args:
        source: As `moee.files.read.read_texts`.
        columns: Which are read; without an id column, `id` is taken if the file has it.
        stdin: As `moee.files.read.read_texts`.

    Raises:
        InputError: If the file cannot be read, an id is missing or comes twice, or a field mixes types; names the line.
        TextTypeError: If a text is not a string.
        MissingExtraError: If a Parquet file is given and pyarrow is not installed.
    """
    columns = columns or Columns()
    if columns.id is None and columns.text != DEFAULT_ID and has_column(source, DEFAULT_ID):
        columns = replace(columns, id=DEFAULT_ID)
    return _corpus(source, columns, None, stdin)


def _corpus(source: str, columns: Columns, types: Mapping[str, FieldType] | None, stdin: BinaryIO | None) -> Corpus:
    """Read records, their fields of the given types or of those that are found."""
    rows = read_rows(source, columns, stdin=stdin)
    ids = _digests(rows, columns.text) if columns.id is None else list(_ids(rows, columns.id))
    from_csv = source.lower().removesuffix(".gz").endswith(".csv")
    typed = {
        name: _typed(name, _values(rows, name), None if types is None else types[name], from_csv=from_csv)
        for name in columns.fields
    }
    fields = {name: kind for name, (kind, _) in typed.items()}
    records = [
        Record(key, row.values[columns.text], {name: values[place] for name, (_, values) in typed.items()})
        for place, (key, row) in enumerate(zip(ids, rows, strict=True))
    ]
    return Corpus(source, columns, records, [row.place for row in rows], fields)


def read_addition(
    manifest: Manifest,
    source: str,
    *,
    text_column: str | None = None,
    id_column: str | None = None,
    stdin: BinaryIO | None = None,
) -> Corpus:
    """Read the records of a file that is to be added to an index.

    Args:
        manifest: Manifest of the index; gives the columns where none are named, and the fields with their types.
        source: As `read_corpus`.
        text_column: Holds the texts; None is that of the build.
        id_column: Holds the ids; None is that of the build.
        stdin: As `read_corpus`.

    Raises:
        InputError: If ids of a column were asked for and those of the index are digests; as `read_corpus`.
        TextTypeError, MissingExtraError: As `read_corpus`.
    """
    built, types = manifest.sources[0], manifest.layout.fields
    if id_column is not None and built.id_column is None:
        raise InputError(
            f"The ids of the index are digests of its texts, and ids from the column {id_column!r} were asked for: a "
            "text would not replace the one it stands for. Leave --id-column out, or build another index with it."
        )
    columns = Columns(text_column or built.text_column, id_column or built.id_column, tuple(types))
    return _corpus(source, columns, types, stdin)


def _digests(rows: Sequence[Row], column: str) -> list[str]:
    seen: dict[str, int] = {}
    ids = []
    for row in rows:
        digest = hashlib.blake2b(row.values[column].encode(), digest_size=_DIGEST_BYTES).hexdigest()
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids


def _ids(rows: Sequence[Row], column: str) -> Iterator[str]:
    seen: dict[str, str] = {}
    for row in rows:
        value = row.values[column]
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
            shown = "empty" if value in (None, "") else f"{repr(value)[:60]}, a {type(value).__name__}"
            raise InputError(f"The id {column!r} {row.place} is {shown}. Every id must be a string or a whole number.")
        key = check_text(str(value), f"{column!r} {row.place}")
        if key in seen:
            raise InputError(
                f"The id {key!r} {row.place} is also that {seen[key]}. Every text needs its own; "
                "name another column with --id-column."
            )
        seen[key] = row.place
        yield key


def _values(rows: Sequence[Row], name: str) -> Values:
    values = [(row.place, row.values.get(name)) for row in rows]
    if not any(name in row.values for row in rows):
        found = sorted({column for row in rows for column in row.values})
        raise UnknownNameError("field", name, found, hint="No row of the file has it. Name fields with --fields.")
    return values


def _typed(name: str, values: Values, kind: FieldType | None, *, from_csv: bool) -> tuple[FieldType, list[Value]]:
    """Return the type of a field and its values in that type."""
    if from_csv:
        kind = kind or _csv_type(values)
        return kind, [_checked(name, place, _from_csv(value, kind), kind) for place, value in values]
    plain = [(place, _plain(name, place, value)) for place, value in values]
    kind = kind or _type_of(name, plain)
    return kind, [_checked(name, place, value, kind) for place, value in plain]


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
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "number" and _NUMBER.fullmatch(text):
        return float(text)
    if kind == "boolean":
        return _BOOLEANS.get(text.lower(), text)
    return text


def _plain(name: str, place: str, value: object) -> Value:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()  # Parquet has types for them; as text they sort as they should
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TextTypeError(
        f"The field {name!r} {place} is of type {type(value).__name__}: {repr(value)[:60]}. "
        "A field holds a string, a number, or true or false."
    )


def _type_of(name: str, values: Sequence[tuple[str, Value]]) -> FieldType:
    """Return the type that all values have; whole numbers among others are numbers."""
    first: dict[FieldType, str] = {}
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


def _checked(name: str, place: str, value: Value, kind: FieldType) -> Value:
    if value is None:
        return None
    if not is_of_type(value, kind):
        shown = repr(value)[:60]
        raise InputError(f"The field {name!r} {place} is {shown}; it must be {describe_type(kind)}, or missing.")
    if isinstance(value, str):
        return check_text(value, f"the field {name!r} {place}")
    return float(value) if kind == "number" and not math.isnan(value) else value
