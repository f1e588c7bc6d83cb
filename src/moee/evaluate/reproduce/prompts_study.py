"""Figures 4 and 5: what changes from prompt to prompt."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Picture, Table
from moee.evaluate.reproduce.paper_scores import METHOD_NAMES, paper
from moee.evaluate.reproduce.pictures import draw_boxes, draw_heat_map
from moee.evaluate.reproduce.right_pairs import STS_TASKS, pair_similarities
from moee.evaluate.reproduce.run import Run, limited, original_setting
from moee.evaluate.reproduce.score_tables import ORIGINAL
from moee.evaluate.reproduce.subsets import spread_pairs
from moee.evaluate.tasks import Numbers, STSData
from moee.method.moments import spearman
from moee.method.prompts import PAPER_PROMPTS
from moee.types import Fusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NINE_PROMPTS = PAPER_PROMPTS[:9]
DEFAULT_LIMIT = 200
"""Pairs used of each task: nine prompts are nine passes of the model."""
_TASKS_OF_BOXES = STS_TASKS[:5]


def _pairs(run: Run, task: str) -> STSData:
    data = run.study.task(task)
    assert isinstance(data, STSData)
    return spread_pairs(data, limited(run.options, DEFAULT_LIMIT))


def figure4(run: Run) -> Exhibit:
    """Make figure 4: how alike the similarities of HS and RW are under nine prompts."""
    task = run.chosen(STS_TASKS, what="figure4")[0]
    data = _pairs(run, task)
    methods: tuple[Fusion, ...] = ("hs", "rw")
    columns = [(METHOD_NAMES[method], prompt) for method in methods for prompt in NINE_PROMPTS]
    lists = [
        pair_similarities(run, data, original_setting(method, prompt)) for method in methods for prompt in NINE_PROMPTS
    ]
    matrix = _matrix(lists)
    labels = [f"{view} {prompt.replace('_', ' ')}" for view, prompt in columns]
    rows: list[tuple[Cell, ...]] = [(label, *map(float, line)) for label, line in zip(labels, matrix, strict=True)]
    title = f"Spearman of the similarities of {len(data.left)} pairs of {task}"

    def draw(figure: Figure) -> None:
        draw_heat_map(figure, labels, matrix, "Spearman correlation")

    return Exhibit(
        "figure4",
        "Figure 4: agreement between prompts",
        (_block_means(matrix), Table("matrix", title, ("similarities by", *labels), tuple(rows))),
        (
            f"{task}, {len(data.left)} pairs at equal distances in its file. "
            f"Computed {ORIGINAL}: HS raw, RW standardised.",
            "Means leave out the diagonal. Agreement between prompts is not quality: a vector that ignores the text "
            "would agree with itself under every prompt.",
        ),
        (Picture("figure4", title, (10, 8.6), draw),),
        {"task": task, "pairs": len(data.left), "prompts": list(NINE_PROMPTS)},
    )


def _matrix(lists: list[Numbers]) -> npt.NDArray[np.float64]:
    matrix = np.eye(len(lists))
    for i, j in combinations(range(len(lists)), 2):
        matrix[i, j] = matrix[j, i] = spearman(lists[i], lists[j])
    return matrix


def _block_means(matrix: npt.NDArray[np.float64]) -> Table:
    half = len(matrix) // 2
    off = ~np.eye(half, dtype=bool)
    published = paper()["prompt_agreement"]
    means = {
        "HS with HS": (matrix[:half, :half][off], published["hs_hs"]),
        "RW with RW": (matrix[half:, half:][off], published["rw_rw"]),
        "HS with RW": (matrix[:half, half:].ravel(), published["hs_rw"]),
    }
    rows = tuple((name, float(values.mean()), float(theirs)) for name, (values, theirs) in means.items())
    return Table("figure4", "Mean Spearman between prompts", ("similarities of", "here", "paper"), rows)


def figure5(run: Run) -> Exhibit:
    """Make figure 5: the spread of scores over nine prompts."""
    methods: tuple[Fusion, ...] = ("hs", "rw", "sum")
    scores: dict[str, dict[str, list[float]]] = {METHOD_NAMES[method]: {} for method in methods}
    pairs: dict[str, int] = {}
    for task in run.chosen(_TASKS_OF_BOXES, what="figure5"):
        data = _pairs(run, task)
        pairs[task] = len(data.left)
        for method in methods:
            scores[METHOD_NAMES[method]][task] = [
                100 * spearman(pair_similarities(run, data, original_setting(method, prompt)), data.scores)
                for prompt in NINE_PROMPTS
            ]
    tasks = list(pairs)
    counts = ", ".join(f"{task} {count}" for task, count in pairs.items())

    def draw(figure: Figure) -> None:
        series = {method: [values[task] for task in tasks] for method, values in scores.items()}
        draw_boxes(figure, tasks, series, "Spearman × 100 (one point a prompt)")

    return Exhibit(
        "figure5",
        "Figure 5: scores over nine prompts",
        (_spread(scores, tasks), _every_prompt(scores, tasks)),
        (
            f"Pairs of each task, at equal distances in its file: {counts}. Computed {ORIGINAL}.",
            "Boxes span the middle half of the prompts, the line is the median.",
        ),
        (Picture("figure5", "Scores over nine prompts", (max(6.0, 2.2 * len(tasks)), 5), draw),),
        {"pairs": pairs, "prompts": list(NINE_PROMPTS)},
    )


def _spread(scores: Mapping[str, Mapping[str, list[float]]], tasks: list[str]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (task, method, fmean(values[task]), float(np.std(values[task], ddof=1)), min(values[task]), max(values[task]))
        for task in tasks
        for method, values in scores.items()
    ]
    columns = ("task", "method", "mean", "standard deviation", "lowest", "highest")
    return Table("figure5", "Spearman × 100 over nine prompts", columns, tuple(rows))


def _every_prompt(scores: Mapping[str, Mapping[str, list[float]]], tasks: list[str]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (task, prompt, *(values[task][place] for values in scores.values()))
        for task in tasks
        for place, prompt in enumerate(NINE_PROMPTS)
    )
    return Table("prompts", "Spearman × 100 by prompt", ("task", "prompt", *scores), rows)
