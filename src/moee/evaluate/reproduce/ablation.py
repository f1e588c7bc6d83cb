"""Table 5: which tokens and which layers."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from types import MappingProxyType

import numpy as np

from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Table
from moee.evaluate.reproduce.original import paired_similarity, summed_similarity
from moee.evaluate.reproduce.paper_scores import paper
from moee.evaluate.reproduce.right_pairs import STS_TASKS
from moee.evaluate.reproduce.run import Run, limited
from moee.evaluate.reproduce.subsets import spread_pairs
from moee.evaluate.tasks import Numbers, STSData
from moee.method.calibration import batch_standardise
from moee.method.config import recipe_config
from moee.method.moments import spearman
from moee.types import LayerChoice, Pooling, Views

DEFAULT_LIMIT = 200
"""Pairs used of each task: four ways of pooling are four passes of the model."""
_TASKS = STS_TASKS[:5]
_BEST = "moee best"

_HIDDEN: Mapping[str, tuple[Pooling, LayerChoice]] = MappingProxyType(
    {
        "hs last token, last layer": ("last_token", "last"),
        "hs last token, all layers": ("last_token", "all"),
        "hs all tokens, last layer": ("mean", "last"),
        "hs all tokens, all layers": ("mean", "all"),
    }
)
_ROUTING: Mapping[str, Pooling] = MappingProxyType({"rw last token": "last_token", "rw all tokens": "mean"})


def table5(run: Run) -> Exhibit:
    """Make table 5: HS and RW of the last token or all tokens, of the last layer or all layers."""
    tasks = run.chosen(_TASKS, what="table5")
    scores: dict[str, dict[str, float]] = {}
    pairs: dict[str, int] = {}
    for task in tasks:
        data = run.study.task(task)
        assert isinstance(data, STSData)
        data = spread_pairs(data, limited(run.options, DEFAULT_LIMIT))
        pairs[task] = len(data.left)
        for variant, score in _variants(run, data).items():
            scores.setdefault(variant, {})[task] = score
    published = paper()["ablation"]
    rows: list[tuple[Cell, ...]] = []
    for variant, values in scores.items():
        theirs = published["variants"][variant]
        rows.append((variant, "this run", *(values[task] for task in tasks), fmean(values.values())))
        rows.append((variant, f"paper, {published['model']}", *(theirs[task] for task in tasks), _mean(theirs, tasks)))
    columns = ("variant", "computed", *tasks, "Mean of these tasks")
    counts = ", ".join(f"{task} {count}" for task, count in pairs.items())
    return Exhibit(
        "table5",
        "Table 5: tokens and layers",
        (Table("table5", "STS: Spearman of cosine similarity and score, points of 100", columns, tuple(rows)),),
        (
            f"Pairs of each task, at equal distances in its file: {counts}. PromptEOL. The paper's rows are of "
            f"{published['model']}, on whole sets.",
            "HS is raw and RW standardised over batches, as in the original code. Several layers are averaged, and so "
            "are tokens. RW of all tokens is the mean of softmax weights, for an average of logits means little; RW of "
            "the last token is what the original code reads.",
            f'"{_BEST}": MoEE (sum), alpha 1, of the last token, HS of the last layer. The paper\'s row is its MoEE '
            "(sum) of table 8.",
        ),
        settings={"pairs": pairs, "prompt": "prompteol"},
    )


def _mean(row: Mapping[str, float], tasks: tuple[str, ...]) -> float:
    return fmean(row[task] for task in tasks)


def _variants(run: Run, data: STSData) -> dict[str, float]:
    """Return the Spearman of every variant on one task, in points of 100."""
    views = {key: _views(run, data, *key) for key in dict.fromkeys(_HIDDEN.values())}
    similarities: dict[str, Numbers] = {}
    for variant, key in _HIDDEN.items():
        hidden = views[key].hidden_states
        similarities[variant] = np.asarray(paired_similarity(hidden[data.left], hidden[data.right]), dtype=np.float64)
    batch = recipe_config("paper").batch_size
    for variant, pooling in _ROUTING.items():
        routing = views[pooling, "last"].routing_weights
        sides = (batch_standardise(routing[rows], batch) for rows in (data.left, data.right))
        similarities[variant] = np.asarray(paired_similarity(*sides), dtype=np.float64)
    last = views["last_token", "last"]
    summed = summed_similarity(last.take(data.left), last.take(data.right), batch_size=batch)
    similarities[_BEST] = np.asarray(summed, dtype=np.float64)
    return {variant: 100 * spearman(values, data.scores) for variant, values in similarities.items()}


def _views(run: Run, data: STSData, pooling: Pooling, layers: LayerChoice) -> Views:
    config = recipe_config("paper", model_type=run.study.embedder.info.model_type)
    scoring = config.scoring if pooling == "last_token" else "softmax"
    return run.study.views(
        data.texts,
        config.replace(
            hidden_pooling=pooling,
            hidden_layers=layers,
            routing_pooling=pooling,
            scoring=scoring,
            max_length=run.study.max_length,
        ),
    )
