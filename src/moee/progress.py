"""Progress bars on stderr, so that stdout stays data."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    description: str, total: int, *, enabled: bool = True, unit: str = ""
) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the context is open.

    Args:
        description: What is being done, for example `"Embedding"`.
        total: Number of steps, at least 1.
        enabled: False shows nothing.
        unit: What a step is, for example `"texts"`; with one, the bar also shows how many are done a second.

    Yields:
        A function to call with the number of steps just finished.
    """
    if not enabled:
        yield lambda _steps: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *([TextColumn("{task.fields[rate]}")] if unit else []),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(file=sys.stderr), transient=False) as progress:
        task = progress.add_task(description, total=total, rate="")

        def advance(steps: int) -> None:
            progress.advance(task, steps)
            done = progress.tasks[0].completed
            progress.update(task, rate=f"{done / max(time.monotonic() - started, 1e-3):.0f} {unit}/s")

        yield advance
