"""Every task under every setting: the loop behind `moee eval`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from moee.errors import InputError, MoEEError, OutputError
from moee.evaluate.bootstrap import Interval, paired_difference
from moee.evaluate.controls import Control, Verdict, control_settings, oracle_alpha, verdict
from moee.evaluate.study import Study
from moee.evaluate.tasks import TASK_TYPES, Task, TaskScore, tfidf_score
from moee.evaluate.vectors import CalibrationTexts, Setting
from moee.method.fusion import uses_alpha
from moee.progress import progress_bar
from moee.types import Fusion, Scoring

logger = logging.getLogger("moee")

FLOOR = "tf-idf"
"""Label of the floor's rows."""


@dataclass(frozen=True, slots=True)
class Result:
    """One task under one setting.

    Attributes:
        task: Row of the task.
        label: Name of the setting, or `tf-idf`.
        setting: None for the floor.
        alpha: The weight of RW that was used; None where the fusion has none.
        score: Score with its items.
        role: `result`, or what kind of control it is; `oracle` rows used the labels and are no results.
        meaning: What a control takes away, in one line.
    """

    task: Task
    label: str
    setting: Setting | None
    alpha: float | None
    score: TaskScore
    role: str = "result"
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A task without a score, and why."""

    task: Task
    reason: str
    failed: bool


@dataclass(frozen=True, slots=True)
class TypeVerdict:
    """What the controls say of one task type, or of all tasks, under one choice of calibration texts."""

    scope: str
    statistics: str
    verdict: Verdict


@dataclass(slots=True)
class Evaluation:
    """What a run has found so far.

    Attributes:
        results: Results by task in the order of the tables, the floor first.
        skipped: Tasks without data, and tasks that failed.
        verdicts: What RW adds, by calibration texts; empty without `controls`.
        gains: With several fusions: each task's `sum` minus `hs` under the same statistics, with its interval.
    """

    results: list[Result] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    verdicts: list[TypeVerdict] = field(default_factory=list)
    gains: dict[tuple[str, str], Interval] = field(default_factory=dict)

    def by_label(self, *, roles: Sequence[str] | None = None) -> dict[str, dict[str, Result]]:
        """Return the results as setting -> task -> result, in order of first appearance."""
        table: dict[str, dict[str, Result]] = {}
        for result in self.results:
            if roles is None or result.role in roles:
                table.setdefault(result.label, {})[result.task.name] = result
        return table


def expand_settings(
    *,
    recipes: Iterable[str] = ("default",),
    fusions: Iterable[Fusion] = ("hs", "rw", "concat", "sum"),
    alphas: Iterable[float | Literal["auto"]] = ("auto",),
    calibration_texts: Iterable[CalibrationTexts] = ("builtin",),
    prompts: Iterable[str] = ("prompteol",),
    scoring: Scoring | None = None,
) -> list[Setting]:
    """Return one setting for each combination that differs: alpha matters to `sum` alone, statistics not to `paper`.

    Raises:
        InputError: If a value is unknown.
    """
    found: dict[str, Setting] = {}
    for recipe in recipes:
        for prompt in prompts:
            for texts in calibration_texts:
                for fusion in fusions:
                    for alpha in alphas if uses_alpha(fusion) else ("auto",):
                        setting = Setting(
                            recipe=recipe,
                            fusion=fusion,
                            alpha=alpha,
                            calibration_texts=texts,
                            prompt=prompt,
                            scoring=scoring,
                        )
                        found.setdefault(setting.label(), setting)
    return list(found.values())


def evaluate(
    study: Study,
    tasks: Sequence[Task],
    settings: Sequence[Setting],
    *,
    controls: bool = False,
    on_task: Callable[[Evaluation], None] | None = None,
) -> Evaluation:
    """Score every task under every setting.

    All data is read before the first text is embedded, so that a wrong file costs no time. A task that fails is noted
    and the others go on.

    Args:
        study: The model, the data and the cache.
        tasks: What to score; one without a folder is listed as not run.
        settings: What to score it with.
        controls: Also score the controls of `controls.control_settings`, for each choice of calibration texts.
        on_task: Called after every task with what has been found so far, for partial reports.

    Raises:
        DataError: If a file of a task that is there is missing or wrong.
    """
    evaluation = Evaluation()
    present = [task for task in tasks if study.has(task.name)]
    for task in tasks:
        if task not in present:
            evaluation.skipped.append(Skipped(task, f"no folder {task.name!r} in the data", failed=False))
    for task in present:
        study.task(task.name)
    for task in present:
        try:
            evaluation.results += _score_task(study, task, settings, controls=controls)
        except OutputError:
            raise
        except MoEEError as error:
            evaluation.skipped.append(Skipped(task, str(error), failed=True))
            continue
        if on_task is not None:
            on_task(evaluation)
    evaluation.gains = _gains(evaluation)
    if controls:
        evaluation.verdicts = _verdicts(evaluation)
    return evaluation


def _score_task(study: Study, task: Task, settings: Sequence[Setting], *, controls: bool) -> list[Result]:
    data = study.task(task.name)
    for setting in settings:  # the model first, so that what is slow has a bar of its own
        study.task_views(data, setting)
    planned: list[tuple[Setting, str, str]] = [(setting, "result", "") for setting in settings]
    labels = {setting.label() for setting in settings}
    for control in _controls(study, settings) if controls else ():
        if control.setting.label() not in labels:
            labels.add(control.setting.label())
            planned.append((control.setting, control.role, f"{control.name}: {control.meaning}"))
    results = _floor(study, task)
    with progress_bar(f"Scoring {task.name}", len(planned), enabled=study.show_progress) as advance:
        for setting, role, meaning in planned:
            alpha = study.alpha(data, setting) if uses_alpha(setting.fusion) else None
            found = study.score(task.name, setting)
            results.append(Result(task, setting.label(), setting, alpha, found, role, meaning))
            advance(1)
    if controls:
        results += [_oracle(study, task, base) for base in _bases(settings)]
    return results


def _floor(study: Study, task: Task) -> list[Result]:
    """Return the floor's result; none where TF-IDF has no score, as for single words that never share a word."""
    try:
        return [Result(task, FLOOR, None, None, study.baseline(task.name, tfidf_score, FLOOR), "floor")]
    except InputError as error:
        logger.warning("%s has no TF-IDF floor: %s", task.name, error)
        return []


def _bases(settings: Sequence[Setting]) -> list[Setting]:
    """The settings whose controls are scored: one for each prompt and choice of calibration texts.

    Views without frozen statistics have no controls: there, standardising alone explains most differences.
    """
    found: dict[tuple[str, str, str], Setting] = {}
    for setting in settings:
        found.setdefault((setting.recipe, setting.prompt, setting.statistics), setting)
    return [
        Setting(
            recipe=each.recipe,
            prompt=each.prompt,
            calibration_texts=each.calibration_texts,
            scoring=each.scoring,
            fusion="sum",
        )
        for each in found.values()
        if each.statistics in ("builtin", "corpus")
    ]


def _controls(study: Study, settings: Sequence[Setting]) -> list[Control]:
    return [control for base in _bases(settings) for control in control_settings(base, study.embedder.info)]


def _oracle(study: Study, task: Task, base: Setting) -> Result:
    best = oracle_alpha(study, task.name, base)
    meaning = "oracle: the best alpha of a grid, chosen WITH the labels of these very rows; an upper bound, no result"
    return Result(task, f"{base.label()} ORACLE", base, best.alpha, best.score, "oracle", meaning)


def _gains(evaluation: Evaluation) -> dict[tuple[str, str], Interval]:
    """Return, for each task and each `sum` result, its difference to `hs` with the same statistics."""
    gains: dict[tuple[str, str], Interval] = {}
    for result in evaluation.results:
        if result.setting is None or result.setting.fusion != "sum" or result.role != "result":
            continue
        partner = _partner(evaluation, result, result.setting)
        if partner is not None:
            gains[result.task.name, result.label] = paired_difference(result.score, partner.score, resamples=1000)
    return gains


def _partner(evaluation: Evaluation, result: Result, setting: Setting) -> Result | None:
    wanted = (setting.recipe, setting.prompt, setting.statistics, setting.scoring)
    for other in evaluation.results:
        it = other.setting
        if other.task != result.task or other.role != "result" or it is None or it.fusion != "hs":
            continue
        if (it.recipe, it.prompt, it.statistics, it.scoring) == wanted:
            return other
    return None


def _verdicts(evaluation: Evaluation) -> list[TypeVerdict]:
    """Return what the controls say, over all tasks and for each type, for each choice of calibration texts."""
    table = {(result.task.name, result.label): result.score for result in evaluation.results if result.role != "oracle"}
    bases = _bases([result.setting for result in evaluation.results if result.setting is not None])
    found = []
    for base in bases:
        labels = [
            replace(base, fusion="hs").label(),
            base.label(),
            replace(base, routing="random-projections").label(),
        ]
        done = list(dict.fromkeys(result.task for result in evaluation.results))
        complete = [task for task in done if task.in_means and all((task.name, label) in table for label in labels)]
        scopes: list[tuple[str, list[Task]]] = [("all tasks", complete)]
        scopes += [(kind, [task for task in complete if task.task_type == kind]) for kind in TASK_TYPES]
        for scope, members in scopes:
            if members:
                sides = [[table[task.name, label] for task in members] for label in labels]
                found.append(TypeVerdict(scope, base.statistics, verdict(*sides, resamples=1000)))
    return found


def type_means(results: dict[str, Result]) -> dict[str, float]:
    """Return the mean main score of each task type, x 100, over the tasks of one setting."""
    means: dict[str, float] = {}
    for kind in TASK_TYPES:
        counted = [result for result in results.values() if result.task.task_type == kind and result.task.in_means]
        scores = [result.score.main for result in counted]
        if scores:
            means[kind] = 100.0 * float(np.mean(scores))
    return means
