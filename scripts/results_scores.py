"""Result files of `moee eval`, looked up by what was measured, and compared task by task. For results_page.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from moee.evaluate.controls import NEGLIGIBLE
from moee.evaluate.tasks import TASK_TYPES, Task, task_row

FUSIONS = ("hs", "rw", "concat", "sum")
RECIPES = ("default", "paper")
STATISTICS = ("none", "builtin", "corpus", "batch")
"""In the order of every table."""

Row = dict[str, Any]
"""One record of `moee.evaluate.result_files.record`."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a column of scores is of.

    Attributes:
        recipe: `default` or `paper`; empty for the floor.
        statistics: Where the calibration statistics come from; empty for the floor.
        vector: A fusion, named weights such as `hs=1,rw=0.2`, or the name of a control.
    """

    recipe: str
    statistics: str
    vector: str

    def cells(self) -> tuple[str, str, str]:
        """Return the first cells of a row of a table."""
        return self.recipe, self.statistics, _FLOOR_NAMES.get(self.vector, self.vector)


FLOOR = Key("", "", "tf-idf")
_FLOOR_NAMES = {"tf-idf": "TF-IDF", "bm25": "BM25"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One column of scores beside another, over the tasks that both have and that count in means.

    Attributes:
        differences: First minus second in points, by task.
    """

    differences: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean over the tasks, with equal weights."""
        return fmean(self.differences.values())

    @property
    def higher(self) -> int:
        """Tasks on which the first is higher by more than rounding."""
        return sum(each > 100 * NEGLIGIBLE for each in self.differences.values())

    @property
    def lower(self) -> int:
        """Tasks on which the first is lower by more than rounding."""
        return sum(each < -100 * NEGLIGIBLE for each in self.differences.values())

    @property
    def largest(self) -> float:
        """The largest difference, whatever its sign."""
        return max(abs(each) for each in self.differences.values())

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self.differences)


class Scores:
    """A result file.

    Args:
        document: `results.json` of `moee eval`.

    Raises:
        ValueError: If two results of a task have the same key, as with several prompts or alphas in one run.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.tasks: list[Task] = [task_row(task["name"]) for task in document["tasks"]]
        self.vectors: dict[str, None] = {}
        self._rows: dict[Key, dict[str, Row]] = {}
        self._controls: dict[str, tuple[str, str]] = {}
        for row in document["results"]:
            key = self._key(row)
            if row["task"] in self._rows.setdefault(key, {}):
                raise ValueError(f"{row['task']} has two results under {key}: make the file with one prompt and alpha.")
            self._rows[key][row["task"]] = row

    def _key(self, row: Row) -> Key:
        if row["role"] == "floor":
            return Key("", "", row["setting"])
        named = row.get("weights")
        name = ",".join(f"{view}={weight:g}" for view, weight in named.items() if weight) if named else row["fusion"]
        if row["role"] == "result":
            self.vectors.setdefault(name)
        if row["role"] != "result":
            name, _, meaning = row["meaning"].partition(": ")
            self._controls[name] = (row["role"], meaning)
        return Key(row["recipe"], row["calibration_texts"], name)

    @property
    def samples(self) -> str:
        """What is added to a title if only some rows of each task were used."""
        return "" if self.document["options"]["limit"] is None else ", samples"

    @property
    def counted(self) -> list[Task]:
        """Tasks that count in means."""
        return [task for task in self.tasks if task.in_means]

    def rows(self, key: Key) -> dict[str, Row]:
        """Return the records of a column, by task; empty if it was not measured."""
        return self._rows.get(key, {})

    def controls(self) -> dict[str, tuple[str, str]]:
        """Return role and meaning of every control, by name."""
        return self._controls

    def controlled(self) -> list[str]:
        """Return the choices of statistics that the controls were scored under, in the default recipe."""
        found = {key.statistics for key in self._rows if key.vector in self._controls}
        return [each for each in STATISTICS if each in found]

    def statistics(self, recipe: str) -> list[str]:
        """Return the choices of statistics that a recipe was measured with."""
        found = {key.statistics for key in self._rows if key.recipe == recipe}
        return [each for each in STATISTICS if each in found]

    def type_means(self, key: Key) -> dict[str, float]:
        """Return the mean score of each task type, in points; a type that lacks one of its tasks has none."""
        means: dict[str, float] = {}
        for kind in TASK_TYPES:
            rows = [self.rows(key).get(task.name) for task in self.counted if task.task_type == kind]
            values = [row["score"] for row in rows if row is not None]
            if values and len(values) == len(rows):
                means[kind] = fmean(values)
        return means

    def mean_of_types(self, key: Key) -> float | None:
        """Return the mean of the types, or None if one is missing: means over other tasks do not compare."""
        means = self.type_means(key)
        return fmean(means.values()) if set(means) == {task.task_type for task in self.counted} else None

    def compare(self, first: Key, second: Key) -> Comparison | None:
        """Return the differences of two columns, or None if they share no task."""
        a, b = self.rows(first), self.rows(second)
        shared = [task.name for task in self.counted if task.name in a and task.name in b]
        return Comparison({name: a[name]["score"] - b[name]["score"] for name in shared}) if shared else None

    def verdicts(self) -> list[dict[str, Any]]:
        """Return what the controls say, in the form of today; `Any`: records of the report."""
        names = {"sum_minus_hs": "with_minus_without", "sum_minus_random_sum": "with_minus_random"}  # of format 1
        return [
            {"vector": "sum"} | {names.get(name, name): value for name, value in each.items()}
            for each in self.document["verdicts"]
        ]

    def verdict(self, statistics: str, scope: str = "all tasks", vector: str = "sum") -> dict[str, Any]:
        """Return what the controls say of a scope and a vector under a choice of statistics.

        Raises:
            ValueError: If the file says nothing of it.
        """
        for each in self.verdicts():
            found = (each["scope"], each["calibration_texts"], each["vector"].replace(" ", ","))
            if found == (scope, statistics, vector):
                return each
        raise ValueError(f"there is no verdict of {scope} and {vector} under {statistics}")

    def why_not(self, task: str) -> str:
        """Return why a task has no score, or an empty string if it has one."""
        if any(each.name == task for each in self.tasks):
            return ""
        for each in self.document["not_run"]:
            if each["task"] == task:
                return str(each["reason"])
        return "not asked for"
