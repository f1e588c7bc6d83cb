"""The cost study as tables."""

from __future__ import annotations

from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Table
from moee.evaluate.studies.cost import BASE, BATCH, MILLION, Costs
from moee.types import ModelInfo

_MIB = 2**20


def exhibit(costs: Costs, info: ModelInfo, name: str = "cost") -> Exhibit:
    """Return the tables of a finished study.

    Args:
        costs: What was measured.
        info: The model.
        name: Name of the files.
    """
    return Exhibit(
        name,
        f"Cost in production: {info.name}",
        (_encoding(costs), _index(costs), _statistics(costs)),
        (
            f"In turn, in one run, on {info.device} in {info.dtype}: {costs.rounds} rounds of one text. A ratio is the "
            "median over rounds of an entry's time over that of HS in the same round. Read ratios: milliseconds are "
            "this machine's at that moment.",
            "Routers run in every pass, whatever is read from them; so RW costs the reading, its statistics and its "
            "dimensions.",
            "MiniLM's shape is an encoder as large as all-MiniLM-L6-v2 with random weights: its time, not its quality.",
            f"Search is exact (the flat store), over random unit vectors, for the ten nearest; {MILLION:,} vectors by "
            f"calculation: ten times the time of {max(costs.search, default=0):,}.",
        ),
        settings={"batch": BATCH, "rounds": costs.rounds},
    )


def _encoding(costs: Costs) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            entry,
            1000 * costs.single[entry].seconds,
            costs.single[entry].ratio,
            BATCH / costs.batch[entry].seconds,
            costs.batch[entry].ratio,
            1000 * costs.batch[entry].seconds / BATCH,
        )
        for entry in costs.single
    ]
    columns = ("entry", "one text, ms", "ratio", f"texts/s, batch of {BATCH}", "ratio of batch", "1,000 texts, s")
    return Table("encoding", "Encoding", columns, tuple(rows))


def _index(costs: Costs) -> Table:
    sizes = sorted(costs.search)
    rows: list[tuple[Cell, ...]] = []
    for entry, dims in costs.dims.items():
        dim = sum(dims.values())
        times: list[Cell] = []
        for size in sizes:
            times += [1000 * costs.search[size][entry].seconds, costs.search[size][entry].ratio]
        largest = costs.search[sizes[-1]][entry].seconds * MILLION / sizes[-1] if sizes else None
        million = None if largest is None else 1000 * largest
        rows.append((entry, float(dim), float(4 * dim), float(dim), 4 * dim * MILLION / _MIB / 1024, *times, million))
    searched = [f"{size:,}, {what}" for size in sizes for what in ("ms", "ratio")]
    columns = (
        "entry",
        "dimensions",
        "bytes",
        "bytes in int8",
        "GiB of 1,000,000",
        *searched,
        "1,000,000 calculated, ms",
    )
    return Table("index", f"A vector in an index, and one search; ratios to {BASE}", columns, tuple(rows))


def _statistics(costs: Costs) -> Table:
    rows = tuple((view, size / _MIB) for view, size in costs.statistics.items())
    return Table("statistics", "Memory of each view's frozen statistics", ("view", "MiB"), rows)
