"""What a target returns: tables, pictures and notes, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | float | None
"""A cell of a table; whole numbers are floats too, and None is "no value"."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns.

    Attributes:
        name: Short, for file names.
        title: One line, with the unit of the numbers.
        columns: Headings.
        rows: One cell for each column.
        decimals: Digits after the point in Markdown; JSON and CSV keep the full number.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    decimals: int = 2

    def __post_init__(self) -> None:
        """Check that every row fits the columns."""
        for row in self.rows:
            assert len(row) == len(self.columns), (self.name, self.columns, row)

    def records(self) -> list[dict[str, Cell]]:
        """Return each row as a mapping from column to cell."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that has not been drawn yet.

    Attributes:
        name: Short name, for file names.
        title: Heading of the picture.
        size: Width and height in inches.
        draw: Draws on an empty figure.
    """

    name: str
    title: str
    size: tuple[float, float]
    draw: Callable[[Figure], None]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One table or figure of the paper, made again.

    Attributes:
        name: Name of the target, for example `"table8"`.
        title: One line.
        tables: Tables, at least one; the first is the main one.
        notes: Definitions and limits, one sentence or two each.
        pictures: Pictures that belong to it.
        settings: The choices behind the numbers.
        items: Values behind single numbers, where they were asked for: JSON-ready.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    items: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user may choose about a run.

    Attributes:
        limit: Rows used of each task; None is all of them, or a target's own small default where it needs more passes
            of the model.
        tasks: Names of the tasks to use; empty is every task of the target that is in the data folder.
        prompts: Prompts of the tables of scores, in the paper's words: `"none"` and `"prompteol"`.
        keep_items: Also keep every pair's similarity or every query's score in the JSON file.
        seed: Seed of the analyses: k-means, permutations, word clouds. Scores use the seed of mteb.
    """

    limit: int | None = None
    tasks: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ("none", "prompteol")
    keep_items: bool = False
    seed: int = 42
