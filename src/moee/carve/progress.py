"""Progress bars on stderr, or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Progress:
    """Shows how far a piece of work is.

    Attributes:
        bars: Where it is shown; None shows nothing.
    """

    bars: RichProgress | None = None

    def track(self, description: str, items: Sequence[Item]) -> Iterator[Item]:
        """Yield the items and move a bar along."""
        if self.bars is None:
            yield from items
        else:
            yield from self.bars.track(items, total=len(items), description=description)

    @contextmanager
    def step(self, description: str) -> Iterator[None]:
        """Show that work without countable parts goes on."""
        task = None if self.bars is None else self.bars.add_task(description, total=None)
        yield
        if self.bars is not None and task is not None:
            self.bars.update(task, total=1, completed=1)


@contextmanager
def open_progress(*, enabled: bool) -> Iterator[Progress]:
    """Open bars on stderr if `enabled`; close them whatever happens."""
    if not enabled:
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        yield Progress(bars)
