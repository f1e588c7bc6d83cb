"""One writer for every target: JSON, CSV, Markdown, PNG and SVG."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from moee.errors import InputError
from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Picture, Table
from moee.files.atomic import atomic_file, check_writable

FORMAT_VERSION = 1
_DPI = 150


def prepare_folder(folder: Path) -> None:
    """Make the output folder, before any work is done for it.

    Raises:
        InputError: If there is a file of that name.
        OutputError: If it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out is {str(folder)!r}, which is a file. Name a folder; it is created if need be.")
    check_writable(folder / "exhibit")
    folder.mkdir(parents=True, exist_ok=True)


def write_exhibit(exhibit: Exhibit, folder: Path, *, run: dict[str, Any]) -> list[Path]:
    """Write everything of one target.

    Args:
        exhibit: What was computed.
        folder: Exists. Files of an earlier run of the same target are replaced one by one.
        run: JSON-ready facts about the run: model, data, options.

    Returns:
        The files written: `NAME.json`, `NAME.md`, one `.csv` for each table and one `.png` and `.svg` for each picture.
        The first of each kind is called `NAME`, the others `NAME.TABLE` or `NAME.PICTURE`.

    Raises:
        OutputError: If a file cannot be written.
    """
    written = [
        _write_csv(table, folder / f"{_stem(exhibit, place, table.name)}.csv")
        for place, table in enumerate(exhibit.tables)
    ]
    for place, picture in enumerate(exhibit.pictures):
        written += _write_picture(picture, folder / _stem(exhibit, place, picture.name))
    written.append(_write_text(folder / f"{exhibit.name}.md", markdown(exhibit, run)))
    written.append(_write_text(folder / f"{exhibit.name}.json", json.dumps(document(exhibit, run), indent=1) + "\n"))
    return written


def document(exhibit: Exhibit, run: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON form."""
    return {
        "format_version": FORMAT_VERSION,
        "target": exhibit.name,
        "title": exhibit.title,
        "paper": "arXiv 2410.10814",
        "moee_version": version("moee"),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run,
        "settings": dict(exhibit.settings),
        "notes": list(exhibit.notes),
        "tables": [
            {"name": table.name, "title": table.title, "columns": list(table.columns), "rows": table.records()}
            for table in exhibit.tables
        ],
        **({"items": dict(exhibit.items)} if exhibit.items else {}),
    }


def markdown(exhibit: Exhibit, run: dict[str, Any]) -> str:
    """Return the Markdown form: title, tables, pictures, notes."""
    lines = [f"# {exhibit.title}", "", f"Model: {run.get('model')}. Paper: arXiv 2410.10814.", ""]
    for table in exhibit.tables:
        lines += [f"## {table.title}", "", *_markdown_table(table), ""]
    for place, picture in enumerate(exhibit.pictures):
        lines += [f"![{picture.title}]({_stem(exhibit, place, picture.name)}.png)", ""]
    return "\n".join([*lines, *(f"- {note}" for note in exhibit.notes), ""])


def _stem(exhibit: Exhibit, place: int, name: str) -> str:
    return exhibit.name if place == 0 else f"{exhibit.name}.{name}"


def _markdown_table(table: Table) -> list[str]:
    numeric = [any(isinstance(row[place], float) for row in table.rows) for place in range(len(table.columns))]
    rule = ["---:" if is_number else "---" for is_number in numeric]
    body = [[_shown(cell, table.decimals) for cell in row] for row in table.rows]
    return [f"| {' | '.join(cells)} |" for cells in ([*map(_shown, table.columns)], rule, *body)]


def _shown(cell: Cell, decimals: int = 2) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell.replace("|", "\\|").replace("\n", " ")
    return str(int(cell)) if isinstance(cell, int) else f"{cell:.{decimals}f}"


def _write_text(path: Path, text: str) -> Path:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _write_csv(table: Table, path: Path) -> Path:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(table.columns)
        writer.writerows(table.rows)
    return path


def _write_picture(picture: Picture, stem: Path) -> list[Path]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    written = []
    # the salt and the missing date make the same numbers give the same SVG file
    with rc_context({"svg.hashsalt": "moee", "font.size": 9, "svg.fonttype": "none"}):
        figure = Figure(figsize=picture.size, layout="constrained")
        picture.draw(figure)
        figure.suptitle(picture.title, fontsize=11)
        for kind, metadata in (("png", None), ("svg", {"Date": None})):
            path = stem.with_name(f"{stem.name}.{kind}")
            with atomic_file(path) as temporary:
                figure.savefig(temporary, format=kind, dpi=_DPI, metadata=metadata)
            written.append(path)
    return written
