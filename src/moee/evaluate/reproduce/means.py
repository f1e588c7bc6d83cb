"""Tables 3 and 4 and figure 1: the mean of each task type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Picture, Table
from moee.evaluate.reproduce.paper_scores import (
    METHOD_NAMES,
    METHODS,
    match_model,
    paper,
    paper_mean,
    paper_models,
    paper_types,
)
from moee.evaluate.reproduce.pictures import Bars, draw_bars
from moee.evaluate.reproduce.run import Run, TypeTasks, right_setting
from moee.evaluate.reproduce.score_tables import FLOOR, ORIGINAL, RIGHT, notes, points, settings
from moee.evaluate.tasks import TaskScore
from moee.types import Fusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AVERAGE_NOTE = (
    "Average: over the types that have tasks of the paper here. The paper's rows are given twice: as published, over "
    "all its tasks, and over the same tasks as this run, from its tables 8 to 12."
)
_STAND_INS = ", sets not in the paper"


@dataclass(frozen=True, slots=True)
class _Means:
    """The types of a run and how to take a mean over them."""

    types: tuple[TypeTasks, ...]

    @classmethod
    def of(cls, run: Run, what: str) -> _Means:
        types = tuple(run.tasks(task_type) for task_type in paper_types())
        run.check_any(types, what=what)
        return cls(types)

    @property
    def columns(self) -> tuple[str, ...]:
        stand_ins = (f"{each.task_type}{_STAND_INS}" for each in self.types if each.stand_ins)
        return (*(each.task_type for each in self.types), "Average", *stand_ins)

    def cells(self, value: Callable[[str], TaskScore | None]) -> list[Cell]:
        """Return the means of our own scores, in points of 100, for `columns`."""
        means = [_mean([points(value(task)) for task in each.run]) for each in self.types]
        stand_ins = [_mean([points(value(task)) for task in each.stand_ins]) for each in self.types if each.stand_ins]
        return [*means, _mean(means), *stand_ins]

    def published(self, row: dict[str, float]) -> list[Cell]:
        """Return a row of the paper as it stands there."""
        return [row[each.task_type] for each in self.types] + [row["Average"]] + self._empty()

    def same_tasks(self, model: str, prompt: str, method: str) -> list[Cell]:
        """Return the paper's means over the tasks of this run."""
        means = [paper_mean(each.run, model, prompt, method) if each.run else None for each in self.types]
        return [*means, _mean(means), *self._empty()]

    def _empty(self) -> list[Cell]:
        return [None] * sum(1 for each in self.types if each.stand_ins)


def table3(run: Run) -> Exhibit:
    """Make table 3: means of the task types, with and without a prompt."""
    means = _Means.of(run, "table3")
    rows = [row for prompt in run.options.prompts for row in _prompt_rows(run, means, prompt)]
    return _exhibit(run, means, "table3", "Table 3: means by task type", rows)


def table4(run: Run) -> Exhibit:
    """Make table 4: means of the task types with PromptEOL, beside trained models."""
    means = _Means.of(run, "table4")
    rows = _prompt_rows(run, means, "prompteol")
    rows += [
        ("", name, "paper, trained, as published", *means.published(row))
        for name, row in paper()["trained_baselines"].items()
    ]
    return _exhibit(run, means, "table4", "Table 4: means by task type, beside trained models", rows)


def figure1(run: Run) -> Exhibit:
    """Make figure 1: hidden states against MoEE (sum), by task type."""
    means = _Means.of(run, "figure1")
    methods: tuple[Fusion, ...] = ("hs", "sum")
    rows: list[tuple[Cell, ...]] = []
    for method in methods:
        rows += _ours(run, means, "prompteol", method)
        rows += _papers(run, means, "prompteol", method)
    rows.append(("", "", FLOOR, *means.cells(run.floor)))
    exhibit = _exhibit(run, means, "figure1", "Figure 1: HS and MoEE by task type", rows)
    picture = Picture("figure1", "HS and MoEE (sum), PromptEOL", (11, 5), _bars(run, exhibit.tables[0]))
    return Exhibit(exhibit.name, exhibit.title, exhibit.tables, exhibit.notes, (picture,), exhibit.settings)


def _exhibit(run: Run, means: _Means, name: str, title: str, rows: list[tuple[Cell, ...]]) -> Exhibit:
    columns = ("prompt", "method", "computed", *means.columns)
    table = Table(name, "Mean of the main scores, points of 100", columns, tuple(rows))
    return Exhibit(name, title, (table,), (*notes(run, means.types), _AVERAGE_NOTE), settings=settings(run))


def _prompt_rows(run: Run, means: _Means, prompt: str) -> list[tuple[Cell, ...]]:
    rows = [
        row for method in METHODS for row in (*_ours(run, means, prompt, method), *_papers(run, means, prompt, method))
    ]
    return [*rows, ("", "", FLOOR, *means.cells(run.floor))]


def _ours(run: Run, means: _Means, prompt: str, method: Fusion) -> list[tuple[Cell, ...]]:
    name = METHOD_NAMES[method]
    original = means.cells(lambda task: run.original(task, method, prompt))
    right = means.cells(lambda task: run.score(task, right_setting(method, prompt)))
    return [(prompt, name, ORIGINAL, *original), (prompt, name, RIGHT, *right)]


def _papers(run: Run, means: _Means, prompt: str, method: Fusion) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for model in run.models:
        published = means.published(paper()["type_means"][model][prompt][method])
        name = METHOD_NAMES[method]
        rows.append((prompt, name, f"paper, {model}, same tasks", *means.same_tasks(model, prompt, method)))
        rows.append((prompt, name, f"paper, {model}, as published", *published))
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of those that are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _bars(run: Run, table: Table) -> Callable[[Figure], None]:
    """Return a function that draws the types that have values, stand-ins where the paper's tasks are absent."""
    model = match_model(run.study.embedder.info) or paper_models()[-1]
    wanted = [(ORIGINAL, "original code"), (RIGHT, "done right"), (f"paper, {model}, as published", f"paper, {model}")]
    records = table.records()
    ours = [row for row in records if row["computed"] == RIGHT]
    known = [name for name in table.columns[3:] if name != "Average" and ours[0][name] is not None]
    columns = [name for name in known if name.removesuffix(_STAND_INS) not in known or _STAND_INS not in name]
    series = [
        Bars(f"{method}, {shown}", [_number(row[name]) for name in columns], method, place)
        for method in (METHOD_NAMES["hs"], METHOD_NAMES["sum"])
        for place, (computed, shown) in enumerate(wanted)
        for row in records
        if row["method"] == method and row["computed"] == computed
    ]
    floor = next(row for row in records if row["computed"] == FLOOR)
    labels = [name.replace(_STAND_INS, "\n(sets not in\nthe paper)") for name in columns]
    line = [_number(floor[name]) for name in columns]

    def draw(figure: Figure) -> None:
        draw_bars(figure, labels, series, "mean score (points of 100)", floor=line)

    return draw


def _number(cell: Cell) -> float | None:
    return cell if isinstance(cell, float) else None
