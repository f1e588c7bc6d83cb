"""A process that writes to a store without end, in steps that anybody can retrace; tests kill it.

`python -m tests.stores.steady_writer SPEC FOLDER START STOP` with the spec as JSON. It prints a line when the store is
open and one after each step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from moee.stores.base import Store
from moee.stores.registry import StoreSpec, open_store
from moee.stores.store import Record
from moee.types import Array
from tests.stores.records import LAYOUT, unit_blocks

BATCH_SIZE = 150
NUM_BATCHES = 12


def batch(number: int, edition: int) -> tuple[list[Record], Array]:
    """The records of a batch as a step writes them."""
    fields = {"year": number, "lang": str(edition)}
    records = [Record(f"{number}-{row}", f"edition {edition}", fields) for row in range(BATCH_SIZE)]
    return records, unit_blocks(BATCH_SIZE, seed=1000 * edition + number)


def state_after(num_steps: int) -> dict[int, int]:
    """The edition of every batch that is there after so many steps."""
    editions: dict[int, int] = {}
    for step in range(num_steps):
        kind, number = plan(step)
        if kind == "upsert":
            editions[number] = step
        elif kind == "delete":
            editions.pop(number, None)
    return editions


def plan(step: int) -> tuple[str, int]:
    """What a step does, and to which batch."""
    if step % 13 == 12:
        return "compact", 0
    return ("delete" if step % 5 == 4 else "upsert"), step * 7 % NUM_BATCHES


def take(store: Store, step: int) -> None:
    """Take one step, which is one call of the store."""
    kind, number = plan(step)
    if kind == "compact":
        store.compact()
    elif kind == "delete":
        store.delete([record.id for record in batch(number, 0)[0]])
    else:
        store.upsert(*batch(number, step))


def main() -> None:
    """Take steps from START to STOP."""
    spec, folder, start, stop = sys.argv[1:]
    store = open_store(StoreSpec(**json.loads(spec)), Path(folder), LAYOUT)
    sys.stdout.write("open\n")
    sys.stdout.flush()
    for step in range(int(start), int(stop)):
        take(store, step)
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()
    store.close()


if __name__ == "__main__":
    main()
