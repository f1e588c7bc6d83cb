"""Tables 8 to 12: every task of a type, as the original computed it, done right, and as published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Table
from moee.evaluate.reproduce.paper_scores import METHOD_NAMES, METHODS, match_model, paper_mean, paper_score
from moee.evaluate.reproduce.run import Run, TypeTasks, original_setting, right_setting
from moee.evaluate.tasks import TaskScore
from moee.types import Fusion

ORIGINAL = "as the original code"
RIGHT = "done right"
ARTEFACT = f"{ORIGINAL}, an artefact"
FLOOR = "TF-IDF, no model"

DEFINITIONS = (
    f'"{ORIGINAL}": batches of 128 standardised by their own statistics for RW, concat and sum, raw hidden states for '
    'HS, router logits (softmax weights for DeepSeekMoE), and the text of prompt "none" in double quotes.',
    f'"{RIGHT}": statistics frozen from general sentences, one vector for every task, alpha in closed form, and for '
    'prompt "none" the text alone.',
    "The original code loads its models with 4-bit weights and this run does not, so small differences are expected.",
)
ARTEFACT_NOTE = (
    "MoEE (sum) as the original code: an artefact. It averages the integer cluster labels of two k-means runs, or the "
    "class numbers that two classifiers predict. Such a mean depends on how the classes happen to be numbered."
)
_TABLES = {
    "table8": ("STS", "Spearman of cosine similarity and score"),
    "table9": ("Classification", "accuracy"),
    "table10": ("PairClassification", "average precision of cosine similarity"),
    "table11": ("Clustering", "V-measure"),
    "table12": ("Reranking", "mean average precision"),
}


def score_table(run: Run, name: str) -> Exhibit:
    """Make one of the tables 8 to 12.

    Args:
        run: The study.
        name: `"table8"` to `"table12"`.
    """
    task_type, metric = _TABLES[name]
    tasks = run.tasks(task_type)
    run.check_any([tasks], what=name)
    items: dict[str, Any] = {}
    rows = [
        row
        for prompt in run.options.prompts
        for method in METHODS
        for row in _method_rows(run, tasks, prompt, method, items)
    ]
    rows.append(_row("", "", FLOOR, tasks, lambda task: points(run.floor(task))))
    columns = ("prompt", "method", "computed", *_columns(tasks), "Mean of the paper's tasks that were run")
    main = Table(name, f"{task_type}: {metric}, points of 100", columns, tuple(rows))
    return Exhibit(
        name,
        f"Table {name.removeprefix('table')}: {task_type}",
        (main, *_comparison(run, tasks)),
        (*notes(run, [tasks]), *_item_notes(items)),
        settings=settings(run),
        items=items,
    )


def notes(run: Run, types: Sequence[TypeTasks]) -> list[str]:
    """Return what a reader of a table of scores must know."""
    lines = list(DEFINITIONS)
    if {each.task_type for each in types} & {"Classification", "Clustering"}:
        lines.append(ARTEFACT_NOTE)
    if run.study.limit is not None:
        lines.append(
            f"At most {run.study.limit} rows of each task were used, at equal distances; full sets score differently."
        )
    if match_model(run.study.embedder.info) is None:
        lines.append("This model is none of the paper's: its three models are shown for reference only.")
    return lines + [line for each in types for line in each.notes()]


def settings(run: Run) -> dict[str, Any]:
    """Return the choices behind a table of scores, JSON-ready."""
    return {
        "limit": run.study.limit,
        "prompts": list(run.options.prompts),
        "seed": run.options.seed,
        "paper_models": list(run.models),
    }


def points(score: TaskScore | None) -> float | None:
    """Return a main score in points of 100, or None."""
    return None if score is None else 100.0 * score.main


def _columns(tasks: TypeTasks) -> list[str]:
    return [*tasks.run, *tasks.absent, *(f"{name} (not in the paper)" for name in tasks.stand_ins)]


def _row(
    prompt: str, method: str, computed: str, tasks: TypeTasks, value: Callable[[str], float | None]
) -> tuple[Cell, ...]:
    """Return one row of our own scores."""
    known = {task: value(task) for task in (*tasks.run, *tasks.stand_ins)}
    of_the_paper = [each for task in tasks.run if (each := known[task]) is not None]
    cells = [known.get(task) for task in (*tasks.run, *tasks.absent, *tasks.stand_ins)]
    return (prompt, method, computed, *cells, fmean(of_the_paper) if of_the_paper else None)


def _method_rows(
    run: Run, tasks: TypeTasks, prompt: str, method: Fusion, items: dict[str, Any]
) -> list[tuple[Cell, ...]]:
    def original(task: str) -> float | None:
        score = run.original(task, method, prompt)
        _keep(run, items, task, original_setting(method, prompt).label(), ORIGINAL, score)
        return points(score)

    def right(task: str) -> float | None:
        score = run.score(task, right_setting(method, prompt))
        _keep(run, items, task, right_setting(method, prompt).label(), RIGHT, score)
        return points(score)

    name = METHOD_NAMES[method]
    is_artefact = method == "sum" and tasks.task_type in ("Classification", "Clustering")
    rows = [
        _row(prompt, name, ARTEFACT if is_artefact else ORIGINAL, tasks, original),
        _row(prompt, name, RIGHT, tasks, right),
    ]
    for model in run.models:
        published = [paper_score(task, model, prompt, method) for task in (*tasks.run, *tasks.absent)]
        empty: list[Cell] = [None] * len(tasks.stand_ins)
        mean = paper_mean(tasks.run, model, prompt, method)
        rows.append((prompt, name, f"paper, {model}", *published, *empty, mean))
    return rows


def _comparison(run: Run, tasks: TypeTasks) -> tuple[Table, ...]:
    """Return our values beside the paper's, one row each, if the model is one of the paper's."""
    model = match_model(run.study.embedder.info)
    if model is None or not tasks.run:
        return ()
    rows: list[tuple[Cell, ...]] = []
    for prompt in run.options.prompts:
        for method in METHODS:
            for task in tasks.run:
                ours = points(run.original(task, method, prompt))
                right = points(run.score(task, right_setting(method, prompt)))
                published = paper_score(task, model, prompt, method)
                gap = None if ours is None or published is None else ours - published
                rows.append((prompt, METHOD_NAMES[method], task, ours, published, gap, right))
    columns = ("prompt", "method", "task", ORIGINAL, f"paper, {model}", "difference", RIGHT)
    return (Table("against-paper", "Beside the paper, points of 100", columns, tuple(rows)),)


def _keep(run: Run, items: dict[str, Any], task: str, label: str, computed: str, score: TaskScore) -> None:
    if not run.options.keep_items:
        return
    items.setdefault(task, {})[label] = {
        "computed": computed,
        "metric": score.metric,
        "statistic": score.statistic,
        "main": score.main,
        "items": [float(value) for value in score.items],
        "targets": None if score.targets is None else [float(value) for value in score.targets],
    }


def _item_notes(items: dict[str, Any]) -> list[str]:
    if not items:
        return []
    return [
        "items: for pairs the cosine of the two vectors. In MoEE (sum) it is (cos_HS + alpha cos_RW) / (1 + alpha), "
        "where the original code gives cos_HS + alpha cos_RW: the same order, another scale."
    ]
