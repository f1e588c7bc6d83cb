"""The files of texts that commands read, and the rejects files of rows that they leave out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from moee.cli.console import note

if TYPE_CHECKING:
    from moee.cli.groups import Reads
    from moee.files.rows import Reading, Row
    from moee.types import EmptyText

ON_EMPTY = "--on-empty encode embeds the bare prompt in its place."
"""What else can be done about an empty text, where a command has the option."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file of texts that was read.

    Attributes:
        source: The file, as it was named.
        column: Holds the texts.
        reading: How it was read.
        rows: Those whose text is one; it may be empty.
    """

    source: str
    column: str
    reading: Reading
    rows: list[Row]

    @classmethod
    def read(cls, source: str, column: str, reads: Reads) -> Self:
        """Read a file.

        Raises:
            InputError, TextTypeError, MissingExtraError: As `moee.files.read.read_rows`.
        """
        from moee.files.read import read_rows
        from moee.files.rows import Columns

        reading = reading_of(reads)
        return cls(source, column, reading, read_rows(source, Columns(column), reading=reading))

    def texts(self, on_empty: EmptyText, *, if_empty: str = "") -> list[str]:
        """Return the texts.

        Args:
            on_empty: `"error"` refuses or leaves out those without a visible character.
            if_empty: What else can be done about one.

        Raises:
            InputError: If a text is empty and bad rows are not skipped; names the file and line.
        """
        rows = self.reading.with_text(self.rows, self.column, on_empty, if_empty=if_empty)
        return [row.values[self.column] for row in rows]


def reading_of(reads: Reads) -> Reading:
    """Return how a file is to be read.

    Raises:
        InputError: If an option has no such value.
    """
    from moee.files.rows import Reading

    return Reading(**cast("dict[str, Any]", reads))


def write_rejects(source: str, reading: Reading, *, beside: Path | None) -> dict[str, Any]:
    """Write the rows of a file that were left out, if such rows are skipped, and say how many they are.

    Args:
        source: The file, as it was named.
        reading: How it was read.
        beside: The output of the command; None for standard output.

    Returns:
        What the JSON of a command tells about it: `num_skipped` and `rejects`, the file or null. Nothing if bad rows
        are errors.

    Raises:
        OutputError: If the file cannot be written.
    """
    from moee.files.lines import label_of
    from moee.files.rows import rejects_file

    if reading.on_bad_row != "skip":
        return {}
    path, count = rejects_file(source, beside), len(reading.rejects)
    reading.write_rejects(path)
    listed = f"; they are listed in {path}" if count else ""
    note(f"Rows of {label_of(source)} that were left out: {count}{listed}.")
    return {"num_skipped": count, "rejects": str(path) if count else None}
