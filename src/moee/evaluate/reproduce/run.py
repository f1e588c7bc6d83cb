"""One run over one model and one data folder: scores that several targets share are computed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from moee.errors import InputError
from moee.evaluate.reproduce.averaged_ids import score_averaged_ids
from moee.evaluate.reproduce.exhibit import Options
from moee.evaluate.reproduce.paper_scores import paper_tasks, reference_models
from moee.evaluate.study import SEED, Study
from moee.evaluate.tasks import TASKS, TaskScore, floors, task_row
from moee.evaluate.vectors import Setting
from moee.types import Fusion

logger = logging.getLogger("moee")


class NoDataError(InputError):
    """A target has no evaluation set to be made from."""


@dataclass(frozen=True, slots=True)
class TypeTasks:
    """The tasks of one type that a run deals with.

    Attributes:
        task_type: Type of the tasks.
        run: Tasks of the paper that are in the data folder.
        absent: Tasks of the paper that are not.
        stand_ins: Tasks in the data folder that the paper does not have.
    """

    task_type: str
    run: tuple[str, ...]
    absent: tuple[str, ...]
    stand_ins: tuple[str, ...]

    def notes(self) -> list[str]:
        """Return what a reader of the table must know."""
        notes = []
        if self.absent:
            notes.append(f"{self.task_type}, not run, no data: {', '.join(self.absent)}.")
        if self.stand_ins:
            notes.append(
                f"{self.task_type}, run but not in the paper, and in no mean beside the paper's: "
                f"{', '.join(self.stand_ins)}."
            )
        return notes


class Run:
    """A study, what the user chose, and the scores found so far.

    Args:
        study: Model, data and cache.
        options: What the user chose.

    Raises:
        UnknownNameError: If `options.tasks` names no known task.
        InputError: If `options.tasks` names a task without data.
    """

    def __init__(self, study: Study, options: Options) -> None:
        self.study = study
        self.options = options
        self._scores: dict[tuple[str, str], TaskScore] = {}
        self._floors: dict[str, TaskScore | None] = {}
        for name in options.tasks:
            task_row(name)
            if not study.has(name):
                raise InputError(
                    f"--tasks names {name!r}, but the data folder holds no such set. Leave it out, or add it."
                )

    @property
    def models(self) -> tuple[str, ...]:
        """The paper's models to show beside this one."""
        return reference_models(self.study.embedder.info)

    def tasks(self, task_type: str) -> TypeTasks:
        """Return the tasks of a type."""
        published = paper_tasks(task_type)
        others = [row.name for row in TASKS if row.task_type == task_type and row.name not in published]
        return TypeTasks(
            task_type,
            run=tuple(name for name in published if self._is_chosen(name) and self.study.has(name)),
            absent=tuple(name for name in published if not self.study.has(name)),
            stand_ins=tuple(name for name in others if self._is_chosen(name) and self.study.has(name)),
        )

    def check_any(self, types: Iterable[TypeTasks], *, what: str) -> None:
        """Check that there is something to score.

        Raises:
            NoDataError: If no task of these types was chosen and has data.
        """
        listed = tuple(types)
        if not any(each.run or each.stand_ins for each in listed):
            kinds = ", ".join(each.task_type for each in listed)
            raise NoDataError(
                f"{what} needs a set of type {kinds}, and there is none "
                f"{'among --tasks' if self.options.tasks else 'in the data folder'}. Add one, or choose another target."
            )

    def chosen(self, names: Iterable[str], *, what: str) -> tuple[str, ...]:
        """Return those of some tasks that were chosen and have data.

        Args:
            names: Names of tasks.
            what: Name of the target, for the error.

        Raises:
            NoDataError: If none is left.
        """
        wanted = tuple(names)
        found = tuple(name for name in wanted if self._is_chosen(name) and self.study.has(name))
        if not found:
            raise NoDataError(
                f"{what} needs one of the sets {', '.join(wanted)}, and none of them is in the data folder"
                f"{' or among --tasks' if self.options.tasks else ''}. Add one, or choose another target."
            )
        return found

    def score(self, task: str, setting: Setting) -> TaskScore:
        """Return a score, computed once."""
        return self._remembered(task, setting.label(), lambda: self.study.score(task, setting))

    def original(self, task: str, fusion: Fusion, prompt: str) -> TaskScore:
        """Return a score as the original code computes it: batch statistics, and its "sum" of labels or class ids.

        Args:
            task: Name of the task.
            fusion: The method.
            prompt: Prompt in the paper's words: its `none` puts the text in double quotes.
        """
        setting = original_setting(fusion, prompt)
        if fusion == "sum" and task_row(task).task_type in ("Classification", "Clustering"):
            return self._remembered(task, f"averaged ids {prompt}", lambda: self._averaged_ids(task, setting))
        return self.score(task, setting)

    def floor(self, task: str) -> TaskScore | None:
        """Return the score of TF-IDF, or None where it has none: single words share no words."""
        if task not in self._floors:
            self._floors[task] = floors(self.study.task(task)).get("tfidf")
        return self._floors[task]

    def _is_chosen(self, task: str) -> bool:
        return not self.options.tasks or task in self.options.tasks

    def _averaged_ids(self, task: str, setting: Setting) -> TaskScore:
        data = self.study.task(task)
        hidden, routing = (self.study.embed(data, replace(setting, fusion=view)) for view in ("hs", "rw"))
        return score_averaged_ids(data, hidden, routing, seed=SEED)

    def _remembered(self, task: str, label: str, compute: Callable[[], TaskScore]) -> TaskScore:
        key = (task, label)
        if key not in self._scores:
            self._scores[key] = compute()
            logger.info("%s, %s: %.2f", task, label, 100 * self._scores[key].main)
        return self._scores[key]


def original_setting(fusion: Fusion, prompt: str) -> Setting:
    """Return the setting of the original code for a method and a prompt in the paper's words, or any of ours."""
    return Setting(recipe="paper", fusion=fusion, alpha=1.0, prompt="quoted" if prompt == "none" else prompt)


def right_setting(fusion: Fusion, prompt: str) -> Setting:
    """Return the package's own setting: frozen statistics, one vector."""
    return Setting(fusion=fusion, prompt=prompt)


def limited(options: Options, default: int) -> int | None:
    """Return how many rows of a set a target uses; None for whole sets, which `limit` 0 asks for."""
    return (options.limit or None) if options.limit is not None else default
