"""What every command prints with: data to standard output, everything else to standard error."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

PLAIN_WIDTH = 110
"""Columns of a table that goes to a file or a pipe."""


def print_json(value: Any) -> None:
    """Print one JSON document. `Any`: whatever `json` can write."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_json_lines(records: Iterable[dict[str, Any]]) -> None:
    """Print one JSON object a line."""
    for record in records:
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


def print_text(text: str = "") -> None:
    """Print a line of data."""
    sys.stdout.write(text + "\n")


def print_result(document: Any, text: str, *, as_json: bool) -> None:
    """Print what a command made: all of it as JSON, or what the next command in a pipe needs."""
    if as_json:
        print_json(document)
    else:
        print_text(text)


def print_records(records: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool) -> None:
    """Print records: all of them as JSON, or in a table the named values under their headings."""
    if as_json:
        print_json(records)
    else:
        print_table(list(columns), [[_cell(record[name]) for name in columns.values()] for record in records])


def _cell(value: Any) -> str:
    words = {None: "", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def note(text: str) -> None:
    """Print a line about the work, unless `--quiet`."""
    if shows_progress():
        complain(text)


def complain(text: str) -> None:
    """Print a warning or an error, always."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def shows_progress() -> bool:
    """Whether notes and progress bars are wanted: not under `--quiet`."""
    return logging.getLogger("moee").isEnabledFor(logging.INFO)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", wrap: bool = False) -> None:
    """Print a table: drawn and fitted to the window on a terminal; elsewhere aligned text, one line for each row.

    Args:
        columns: Headings. One that starts with `>` is for numbers and aligned right.
        rows: Cells as text, one for each column.
        title: Printed above.
        wrap: Break long cells to fit `PLAIN_WIDTH` also where the output is no terminal, for columns of prose.
    """
    cells = [list(row) for row in rows]
    if sys.stdout.isatty():
        _print_drawn(columns, cells, title, show_lines=wrap)
    else:
        print_text("\n".join(_wrapped(columns, cells, title) if wrap else _aligned(columns, cells, title)))


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Iterator[str]:
    """Yield lines without trailing blanks, so that `grep`, `cut` and `awk` find whole rows."""
    if title:
        yield title
    headed = [[name.removeprefix(">") for name in columns], *rows]
    widths = [max(len(row[place]) for row in headed) for place in range(len(columns))]
    for row in headed:
        padded = (
            cell.rjust(width) if name.startswith(">") else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()


def _wrapped(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Iterator[str]:
    from rich.console import Console

    console = Console(width=PLAIN_WIDTH, no_color=True, highlight=False, force_terminal=False)
    table = _table(columns, rows, box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    with console.capture() as capture:
        console.print(table)
    if title:
        yield title
    for line in capture.get().splitlines():
        yield line.rstrip()


def _print_drawn(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, *, show_lines: bool) -> None:
    from rich.console import Console

    style = {"title": title or None, "title_justify": "left", "show_lines": show_lines, "expand": show_lines}
    Console(highlight=False).print(_table(columns, rows, **style))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], **style: Any) -> Any:
    """Build rich's table. `Any`: rich's keyword arguments, and rich itself is imported only here."""
    from rich.table import Table
    from rich.text import Text

    table = Table(**style)
    for name in columns:
        if name.startswith(">"):
            table.add_column(name.removeprefix(">"), justify="right", no_wrap=True)
        else:
            table.add_column(name, ratio=1 if table.expand else None)  # prose shares what room there is
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # literal text: square brackets in data are no markup
    return table


def route_messages(*, quiet: bool) -> None:
    """Send the package's log and Python's warnings to standard error, one readable line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("moee")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print the message without the line of source it came from: the reader of a command does not know the source."""
    complain(
        f"Warning: {message}" if issubclass(category, UserWarning) else f"Warning ({category.__name__}): {message}"
    )
