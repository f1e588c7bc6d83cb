"""Rows of a file, how it is read, and what becomes of a row that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from moee.errors import InputError, TextTypeError, check_choice
from moee.files.atomic import atomic_file
from moee.files.lines import STDIN
from moee.files.text import find_fault
from moee.types import EmptyText

OnBadRow = Literal["error", "skip"]
DELIMITERS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
"""Delimiters that are easier named than typed in a shell."""


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
class Place:
    """Where a row is; written `on line 3 of reviews.csv`.

    Attributes:
        file: Name of the file in messages.
        line: Line on which it begins, counted from 1; in a Parquet file the row, also from 1.
        unit: `"line"`, or `"row"` in a Parquet file.
    """

    file: str
    line: int
    unit: Literal["line", "row"] = "line"

    def __str__(self) -> str:
        return f"{'on' if self.unit == 'line' else 'in'} {self.unit} {self.line} of {self.file}"

    @property
    def title(self) -> str:
        """The beginning of a sentence: `Line 3 of reviews.csv`."""
        return f"{self.unit.capitalize()} {self.line} of {self.file}"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file.

    Attributes:
        place: Where it is.
        values: Cells by column, as the format gives them: strings from CSV, what JSON and Parquet have from the others.
    """

    place: Place
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be used.

    Attributes:
        place: Where it is.
        error: Why, with the place.
    """

    place: Place
    error: InputError | TextTypeError


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read.

    Attributes:
        delimiter: Sign between the cells of a `.csv` or `.tsv` file: one character, or a name of `DELIMITERS`. None is
            a comma, in `.tsv` a tab.
        encoding: Encoding of text, a name that Python knows; None is UTF-8, with or without a byte order mark.
        on_bad_row: `"error"` stops at the first row that cannot be used; `"skip"` leaves such rows out.
        rejects: The rows that were left out. Filled while reading.
    """

    delimiter: str | None = None
    encoding: str | None = None
    on_bad_row: OnBadRow = "error"
    rejects: list[Bad] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If the delimiter is no single character, or `on_bad_row` is unknown.
        """
        check_choice("value of --on-bad-row", self.on_bad_row, get_args(OnBadRow))
        character = self.separator(".csv")
        if len(character) != 1 or character in '"\r\n\0':
            raise InputError(
                f"--delimiter is {self.delimiter!r}; it must be one character, no quote and no line end, or one of "
                f"{', '.join(DELIMITERS)}."
            )

    def separator(self, suffix: str) -> str:
        """Return the character between cells in a file of a format."""
        if self.delimiter is None:
            return "\t" if suffix == ".tsv" else ","
        return DELIMITERS.get(self.delimiter, self.delimiter)

    def leave_out(self, place: Place, error: InputError | TextTypeError) -> None:
        """Keep a row that cannot be used among the rejects, or raise its error.

        Raises:
            InputError: With the place and the reason, unless bad rows are skipped.
            TextTypeError: In the same case, if the row's text is no string.
        """
        if self.on_bad_row == "error":
            raise type(error)(f"{error} --on-bad-row skip leaves such rows out.") from error
        self.rejects.append(Bad(place, error))

    def with_text(self, rows: Sequence[Row], column: str, on_empty: EmptyText, *, if_empty: str = "") -> list[Row]:
        """Return the rows whose text can be used.

        Args:
            rows: Some or all of a file.
            column: Holds the text.
            on_empty: `"error"` also refuses texts without a visible character.
            if_empty: What else can be done about such a text, as a sentence.

        Raises:
            InputError, TextTypeError: As `leave_out`, or if no row is left.
        """
        kept = []
        for row in rows:
            fault = find_fault(row.values[column], on_empty=on_empty)
            if fault is None:
                kept.append(row)
            else:
                advice = f"Drop the row. {if_empty}".strip()
                self.leave_out(row.place, fault.error(f"The value of {column!r} {row.place}", if_empty=advice))
        self.check_left(kept)
        return kept

    def check_left(self, kept: Sequence[object]) -> None:
        """Refuse to go on if every row was left out.

        Raises:
            InputError: With the first reason.
        """
        if self.rejects and not kept:
            raise InputError(
                f"No row can be used; {len(self.rejects)} were left out. The first: {self.rejects[0].error}"
            )

    def write_rejects(self, path: Path) -> None:
        """Write the rejects, one JSON object a line with `file`, `line` and `reason`; without any, remove the file.

        Raises:
            OutputError: If it cannot be written.
        """
        if not self.rejects:
            path.unlink(missing_ok=True)  # of an earlier run, when the input was another
            return
        with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            for bad in sorted(self.rejects, key=lambda each: each.place.line):
                record = {"file": bad.place.file, "line": bad.place.line, "reason": str(bad.error)}
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def rejects_file(source: str, beside: Path | None) -> Path:
    """Return where the rejects of a file go: beside what is written, else into the current folder.

    Args:
        source: The file, or `-`.
        beside: The output, a file or folder that may not exist yet; None if it goes to standard output.
    """
    name = "stdin" if source == STDIN else Path(source).name
    return (Path() if beside is None else beside.parent) / f"{name}.rejects.jsonl"
