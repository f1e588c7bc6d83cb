"""Files of evaluation sets: `dataset.json` and gzipped JSON lines, each field checked where it is read."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moee.errors import InputError, shown
from moee.files.json import parse_json
from moee.method.moments import spread

DOCUMENTS_PER_QUERY = 10
"""Documents kept for each query of a limited search: few enough to be quick, and enough to get lost among."""

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
Row = dict[str, Any]
"""One JSON object of a file; its fields are checked where they are read."""


class DataError(InputError):
    """An evaluation set is missing, or a file or field of it cannot be used."""


class Texts:
    """Collects texts and gives each different one a place."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def add(self, texts: Sequence[str]) -> Indices:
        """Return the place of each text."""
        return np.array([self._places.setdefault(text, len(self._places)) for text in texts], dtype=np.int64)

    def all(self) -> tuple[str, ...]:
        """Return every different text by its place."""
        return tuple(self._places)


@dataclass(frozen=True, slots=True)
class RowFile:
    """The rows of one file, or some of them, and how to read a field of all of them.

    Attributes:
        path: The file.
        rows: The rows that were kept.
        lines: Line number of each row in the file, from 1.
        places: Place of each row among the file's rows, from 0; blank lines are no rows.
        num_rows: How many rows the file holds.
    """

    path: Path
    rows: list[Row]
    lines: list[int]
    places: list[int]
    num_rows: int

    def only(self, places: Indices) -> RowFile:
        """Return some of the kept rows, by their place among them."""
        chosen = places.tolist()
        return replace(
            self,
            rows=[self.rows[place] for place in chosen],
            lines=[self.lines[place] for place in chosen],
            places=[self.places[place] for place in chosen],
        )

    def column(self, field: str, kind: type | tuple[type, ...]) -> list[Any]:
        """Return a field of every row; `Any`, because `kind` says at run time what it holds.

        Raises:
            DataError: If a row lacks it or it is of another type; names file, line and field.
        """
        values = []
        for number, row in zip(self.lines, self.rows, strict=True):
            if field not in row:
                raise DataError(
                    f"{self.path}, line {number}: no field {field!r}; there are {sorted(row)}. "
                    "The file may belong to another task type, or be an older copy."
                )
            value = row[field]
            if not isinstance(value, kind) or isinstance(value, bool):
                wanted = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
                raise DataError(
                    f"{self.path}, line {number}: field {field!r} is {shown(value)}, of type "
                    f"{type(value).__name__}; it must be of type {wanted}."
                )
            values.append(value)
        return values

    def strings(self, field: str) -> list[str]:
        """Return a field that holds text."""
        return self.column(field, str)

    def lists(self, field: str, kind: type | tuple[type, ...]) -> list[list[Any]]:
        """Return a field that holds a list, every entry of type `kind`; numbers are finite."""
        values: list[list[Any]] = self.column(field, list)
        for number, value in zip(self.lines, values, strict=True):
            if bad := [entry for entry in value if not _is_entry(entry, kind)]:
                wanted = "a string" if kind is str else "a whole number" if kind is int else "a finite number"
                raise DataError(
                    f"{self.path}, line {number}: field {field!r} holds {shown(bad[0])}; every entry must be {wanted}."
                )
        return values

    def numbers(self, field: str) -> Numbers:
        """Return a field that holds finite numbers."""
        values = np.array(self.column(field, (int, float)), dtype=np.float64)
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            raise DataError(
                f"{self.path}, line {self.lines[bad[0]]}: field {field!r} is {values[bad[0]]}; it must be finite."
            )
        return values

    def labels(self) -> Indices:
        """Return the field `label`, whole numbers from 0."""
        values = np.array(self.column("label", int), dtype=np.int64)
        if len(bad := np.flatnonzero(values < 0)):
            raise DataError(
                f"{self.path}, line {self.lines[bad[0]]}: field 'label' is {values[bad[0]]}; it must be 0 or larger."
            )
        return values


def _is_entry(value: object, kind: type | tuple[type, ...]) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return not isinstance(value, float) or math.isfinite(value)


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """A task's folder, and how much of it is read.

    Attributes:
        path: The folder.
        name: Name of the task.
        limit: At most so many items of a task, and at most so many texts in each of its further parts, so that a quick
            look is quick: pairs; test texts, and as many training texts; texts of all clustering sets together; queries
            with so many candidates each; articles with so many summaries each; queries with ten times as many
            documents. Rows are taken at equal distances, because many sets are sorted.
        corpus_limit: Retrieval: so many documents at most.
        split: Name of the file that holds the scored rows.
    """

    path: Path
    name: str
    limit: int | None = None
    corpus_limit: int | None = None
    split: str = "test"

    @property
    def documents(self) -> int | None:
        """How many documents of a search are kept; None for all."""
        limits = (self.corpus_limit, None if self.limit is None else DOCUMENTS_PER_QUERY * self.limit)
        return min((each for each in limits if each is not None), default=None)

    def scored(self, name: str | None = None) -> RowFile:
        """Read the rows that are scored, `limit` of them; those of another file than the split's if it is named."""
        return self.read(name or self.split, self.limit)

    def read(self, name: str, limit: int | None = None) -> RowFile:
        """Read `name`.jsonl.gz or `name`.jsonl, or `limit` of its rows at equal distances."""
        paths = (self.path / f"{name}{end}" for end in (".jsonl.gz", ".jsonl"))
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            there = sorted(entry.name for entry in self.path.iterdir())
            raise DataError(f"{self.path} has no file {name}.jsonl.gz; it holds {there}. Copy the whole folder again.")
        rows = _rows(path)
        lines, places = list(rows), spread(len(rows), limit).tolist()
        kept = [lines[place] for place in places]
        return RowFile(path, [rows[number] for number in kept], kept, places, len(rows))


def _rows(path: Path) -> dict[int, Row]:
    """Return the objects of a file of JSON lines, by line from 1; blank lines are no rows."""
    rows: dict[int, Row] = {}
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                if line.strip():
                    rows[number] = parse_json(line, f"{path}, line {number}", allow_nan=True)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read after line {number} ({error}). Copy the file again.") from error
    except InputError as error:
        raise DataError(str(error)) from error
    if not rows:
        raise DataError(f"{path} holds no rows.")
    if bad := [number for number, row in rows.items() if not isinstance(row, dict)]:
        raise DataError(f"{path}, line {bad[0]}: not a JSON object.")
    return rows


def label_names(*files: RowFile) -> tuple[str, ...]:
    """Return the readable name of every label from 0, from the field `label_text` where rows have it."""
    names: dict[int, str] = {}
    for file in files:
        for row, label in zip(file.rows, file.labels().tolist(), strict=True):
            names.setdefault(label, str(row.get("label_text", label)))
    return tuple(names.get(label, str(label)) for label in range(max(names) + 1))
