"""Every task under every setting: the loop behind `moee eval`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np

from moee.errors import InputError, MoEEError, OutputError
from moee.evaluate.bootstrap import Interval, paired_difference, paired_mean_difference
from moee.evaluate.controls import Control, Verdict, claims, control_settings, has_controls, oracle_alpha, verdict
from moee.evaluate.study import Study
from moee.evaluate.tasks import TASK_TYPES, RetrievalData, Task, TaskData, TaskScore, tfidf_score
from moee.evaluate.vectors import OWN, CalibrationTexts, Setting
from moee.method.config import EmbedderConfig
from moee.method.fusion import uses_alpha
from moee.progress import progress_bar
from moee.types import AlphaRule, Fusion, Scoring, View

logger = logging.getLogger("moee")

FLOOR = "tf-idf"
"""Label of the floor's rows."""
BASELINES: Mapping[str, str] = MappingProxyType({"tfidf": FLOOR, "bm25": "bm25"})
"""Rows without a model that stand in every table, and their labels; BM25 has scores in retrieval alone."""


@dataclass(frozen=True, slots=True)
class Result:
    """One task under one setting.

    Attributes:
        task: Row of the task.
        label: Name of the setting, or of a floor.
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
    """What the controls say of one task type, or of all tasks, under one choice of calibration texts.

    Attributes:
        scope: The task type, or `all tasks`.
        statistics: The calibration texts.
        vector: The vector with RW, see `Setting.vector`.
        verdict: Whether RW adds to it.
    """

    scope: str
    statistics: str
    vector: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class OverWords:
    """A setting minus the floor that knows words alone: BM25 in retrieval where it was asked for, else TF-IDF.

    Attributes:
        scope: A task, a task type, or `all tasks`.
        label: The setting.
        floor: The floor's label; both with a comma where tasks of the scope have different ones.
        interval: The difference; over several tasks that of their means.
    """

    scope: str
    label: str
    floor: str
    interval: Interval


@dataclass(slots=True)
class Evaluation:
    """What a run has found so far.

    Attributes:
        results: Results by task in the order of the tables, the floor first.
        skipped: Tasks without data, and tasks that failed.
        verdicts: What RW adds, by calibration texts; empty without `controls`.
        gains: With several fusions: each task's vector of HS and RW minus `hs` under the same statistics, with its
            interval, by task and label.
        over_words: Every result minus the floor, by task, by type and over all.
    """

    results: list[Result] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    verdicts: list[TypeVerdict] = field(default_factory=list)
    gains: dict[tuple[str, str], Interval] = field(default_factory=dict)
    over_words: list[OverWords] = field(default_factory=list)

    def by_label(self, *, roles: Sequence[str] | None = None) -> dict[str, dict[str, Result]]:
        """Return the results as setting -> task -> result, floors first, in order of first appearance."""
        table: dict[str, dict[str, Result]] = {}
        for result in sorted(self.results, key=lambda result: result.role != "floor"):
            if roles is None or result.role in roles:
                table.setdefault(result.label, {})[result.task.name] = result
        return table


def expand_settings(  # noqa: PLR0913 - each is a choice of its own that a caller names
    *,
    recipes: Iterable[str] = ("default",),
    own: EmbedderConfig | None = None,
    fusions: Iterable[Fusion] = (),
    weights: Iterable[Mapping[View, float]] = (),
    alphas: Iterable[float | AlphaRule | None] = (None,),
    calibration_texts: Iterable[CalibrationTexts] = ("builtin",),
    prompts: Iterable[str | None] = (None,),
    scoring: Scoring | None = None,
) -> list[Setting]:
    """Return one setting for each combination that differs: alpha matters to `sum` alone, statistics not to `paper`.

    Args:
        recipes: Names of recipes, and `own` for the configuration `own`.
        own: An embedder's own configuration.
        fusions: Fusions, in the recipe's own weights where one has named weights.
        weights: Named weights, each a setting beside the fusions. Without either, what the recipe says.
        alphas: Weights of RW in the sum; None is the recipe's.
        calibration_texts: Whose statistics.
        prompts: Names or templates; None is the recipe's.
        scoring: See `Setting`.

    Raises:
        InputError: If a value is unknown.
    """
    vectors: list[dict[str, Any]] = [
        {"fusion": fusion, "alpha": alpha}
        for fusion in fusions
        for alpha in (alphas if uses_alpha(fusion) else (None,))
    ]
    vectors += [{"weights": each} for each in weights]
    shared = {"own": own, "scoring": scoring}
    found: dict[str, Setting] = {}
    for recipe, prompt, texts, vector in product(recipes, prompts, calibration_texts, vectors or [{"alpha": None}]):
        if recipe == OWN:
            origin: dict[str, Any] = shared
        else:
            origin = {**shared, "own": None, "recipe": recipe}
        setting = Setting(**origin, prompt=prompt, calibration_texts=texts, **vector)
        found.setdefault(setting.label(), setting)
    return list(found.values())


def evaluate(
    study: Study,
    tasks: Sequence[Task],
    settings: Sequence[Setting],
    *,
    controls: bool = False,
    baselines: Sequence[str] = ("tfidf",),
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
        baselines: Keys of `BASELINES`: what stands beside the settings without a model.
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
            found = _score_task(study, task, settings, controls=controls)
            evaluation.results += [*_floors(study, task, baselines), *found]
        except OutputError:
            raise
        except MoEEError as error:
            evaluation.skipped.append(Skipped(task, str(error), failed=True))
            continue
        if on_task is not None:
            on_task(evaluation)
    evaluation.gains = _gains(evaluation)
    evaluation.over_words = _over_words(evaluation)
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
    results = []
    with progress_bar(f"Scoring {task.name}", len(planned), enabled=study.show_progress) as advance:
        for setting, role, meaning in planned:
            alpha = study.alpha(data, setting) if uses_alpha(setting.fusion or "") else None
            found = study.score(task.name, setting)
            results.append(Result(task, setting.label(), setting, alpha, found, role, meaning))
            advance(1)
    if controls:
        results += [_oracle(study, task, base) for base in _bases(settings)]
    return results


def _floors(study: Study, task: Task, names: Sequence[str]) -> list[Result]:
    """Return the results without a model; TF-IDF has none where texts are single words that share no stem."""
    found = []
    for name in BASELINES:
        compute = {"tfidf": tfidf_score, "bm25": _bm25}[name]
        if name not in names or (name == "bm25" and task.task_type != RetrievalData.task_type):
            continue
        label = BASELINES[name]
        try:
            found.append(Result(task, label, None, None, study.baseline(task.name, compute, label), "floor"))
        except InputError as error:
            logger.warning("%s has no TF-IDF floor: %s", task.name, error)
    return found


def _bm25(data: TaskData) -> TaskScore:
    return data.further_floors()["bm25"]


def _bases(settings: Sequence[Setting]) -> list[Setting]:
    """The settings whose controls are scored: those with named weights and, in place of all others, one sum.

    Views without frozen statistics have no controls: there, standardising alone explains most differences.
    """
    found: dict[str, Setting] = {}
    for setting in settings:
        if has_controls(setting):
            base = setting if setting.weights is not None else replace(setting, fusion="sum", alpha=None)
            found.setdefault(base.label(), base)
    return list(found.values())


def _controls(study: Study, settings: Sequence[Setting]) -> list[Control]:
    return [control for base in _bases(settings) for control in control_settings(base, study.embedder.info)]


def _oracle(study: Study, task: Task, base: Setting) -> Result:
    best = oracle_alpha(study, task.name, base)
    meaning = "oracle: the best weight of RW of a grid, chosen WITH the labels of these very rows; a bound, no result"
    return Result(task, f"{base.label()} ORACLE", base, best.alpha, best.score, "oracle", meaning)


def _gains(evaluation: Evaluation) -> dict[tuple[str, str], Interval]:
    """Return, for each task and each result of HS and RW, its difference to `hs` with the same statistics."""
    gains: dict[tuple[str, str], Interval] = {}
    for result in evaluation.results:
        if result.role != "result" or result.setting is None or not _is_of_both(result.setting):
            continue
        partner = _partner(evaluation, result, result.setting)
        if partner is not None:
            gains[result.task.name, result.label] = paired_difference(result.score, partner.score, resamples=1000)
    return gains


def _is_of_both(setting: Setting) -> bool:
    if setting.weights is None:
        return setting.fusion == "sum"
    return {view for view, weight in setting.weights.items() if weight} == {"hs", "rw"}


def _partner(evaluation: Evaluation, result: Result, setting: Setting) -> Result | None:
    wanted = (setting.recipe, setting.prompt, setting.statistics, setting.scoring)
    for other in evaluation.results:
        it = other.setting
        if other.task != result.task or other.role != "result" or it is None or not _is_hidden_alone(it):
            continue
        if (it.recipe, it.prompt, it.statistics, it.scoring) == wanted:
            return other
    return None


def _is_hidden_alone(setting: Setting) -> bool:
    if setting.weights is None:
        return setting.fusion == "hs"
    return {view for view, weight in setting.weights.items() if weight} == {"hs"}


def _over_words(evaluation: Evaluation) -> list[OverWords]:
    """Return each result minus the floor of its task, over every scope."""
    table = evaluation.by_label(roles=["floor", "result"])
    floors = {name: result for label in BASELINES.values() for name, result in table.get(label, {}).items()}
    found = []
    for label, results in table.items():
        if label in BASELINES.values():
            continue
        paired = {name: result for name, result in results.items() if name in floors}
        scopes = [(name, [name]) for name in paired]
        for scope, members in _scopes([result.task for result in paired.values() if result.task.in_means]):
            scopes.append((scope, [task.name for task in members]))
        for scope, names in scopes:
            sides = ([side[name].score for name in names] for side in (paired, floors))
            used = ", ".join(dict.fromkeys(floors[name].label for name in names))
            found.append(OverWords(scope, label, used, paired_mean_difference(*sides, resamples=1000)))
    return found


def _scopes(tasks: Sequence[Task]) -> list[tuple[str, list[Task]]]:
    """Return all tasks, and those of each type; scopes without one are left out."""
    scopes: list[tuple[str, list[Task]]] = [("all tasks", list(tasks))]
    scopes += [(kind, [task for task in tasks if task.task_type == kind]) for kind in TASK_TYPES]
    return [(scope, members) for scope, members in scopes if members]


def _verdicts(evaluation: Evaluation) -> list[TypeVerdict]:
    """Return what the controls say, over all tasks and for each type, for each choice of calibration texts."""
    table = {(result.task.name, result.label): result.score for result in evaluation.results if result.role != "oracle"}
    done = list(dict.fromkeys(result.task for result in evaluation.results))
    bases = _bases([result.setting for result in evaluation.results if result.setting and result.role == "result"])
    found = []
    for claim in (each for base in bases for each in claims(base)):
        labels = [each.label() for each in (claim.without, claim.vector, claim.random)]
        complete = [task for task in done if task.in_means and all((task.name, label) in table for label in labels)]
        beside = "calibrated HS" if _is_hidden_alone(claim.without) else claim.without.vector
        for scope, members in _scopes(complete):
            sides = [[table[task.name, label] for task in members] for label in labels]
            judged = verdict(*sides, beside=beside, resamples=1000)
            found.append(TypeVerdict(scope, claim.vector.statistics, claim.vector.vector, judged))
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
