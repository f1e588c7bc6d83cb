"""The search over weights, layers of RW and statistics: arrays in, a choice with its evidence out. Runs no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType

import numpy as np

from moee.errors import InputError
from moee.evaluate.bootstrap import Interval
from moee.evaluate.controls import NEGLIGIBLE, points
from moee.evaluate.tune.criterion import Cosines, Criterion, Weights
from moee.method.fusion import VIEWS
from moee.method.space import VectorSpace
from moee.types import View, Views

GRIDS: Mapping[View, tuple[float, ...]] = MappingProxyType(
    {
        "rw": (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0),
        "tokens": (0.0, 0.1, 0.3, 0.5, 1.0, 2.0, 4.0),
        "lexical": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0),
    }
)
"""Weights that are tried beside a weight of 1 for HS."""

LAYERS: Mapping[str, int] = MappingProxyType({"all": 1, "last_half": 2, "last_third": 3, "last_sixth": 6})
"""Layers of RW that are tried: the last of the MoE layers, one part in so many, rounded up."""

_CEILING = 0.98  # of the best view alone: hardly a pair is left that weights could help


@dataclass(frozen=True, slots=True)
class Candidate:
    """Layers and statistics, with the cosines that they give.

    Attributes:
        layers: A key of `LAYERS`, or `present`.
        statistics: Whose statistics: `builtin`, `own` (of the texts at hand), or `present`.
        cosines: By view.
    """

    layers: str
    statistics: str
    cosines: Cosines


@dataclass(frozen=True, slots=True)
class Trial:
    """Weights under a candidate's layers and statistics, and their score.

    Attributes:
        layers: The candidate's.
        statistics: The candidate's.
        weights: What each view counts.
        score: The criterion's value.
    """

    layers: str
    statistics: str
    weights: Weights
    score: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search found.

    Attributes:
        present: What there was before.
        best: The best of all trials.
        gain: The best minus the present choice, with its 95 % interval.
        chosen: The best if its whole interval lies above zero, else the present choice.
        alone: The score of each view alone, under the chosen layers and statistics.
        by_candidate: The best trial of each candidate.
        curve: Trials around the chosen one: the weight of one view changed at a time.
        notes: What a reader must know before the choice is believed.
    """

    present: Trial
    best: Trial
    gain: Interval
    chosen: Trial
    alone: Mapping[View, float]
    by_candidate: tuple[Trial, ...]
    curve: tuple[tuple[View, Trial], ...]
    notes: tuple[str, ...]


def cosines_of(criterion: Criterion, space: VectorSpace, left: Views, right: Views) -> dict[View, np.ndarray]:
    """Return the cosines of paired texts that a criterion needs, for every view that the space's weights name."""
    blocks = [
        {view: block for view, block in space.units(side).items() if view in space.config.views}
        for side in (left, right)
    ]
    return criterion.cosines(blocks[0], blocks[1])


def last_layers(layer_ids: Sequence[int], name: str) -> tuple[int, ...]:
    """Return the MoE layers that a key of `LAYERS` names, ascending.

    Raises:
        InputError: If there are none.
    """
    if not layer_ids:
        raise InputError("The model has no MoE layers to choose from.")
    return tuple(sorted(layer_ids)[-math.ceil(len(layer_ids) / LAYERS[name]) :])


def with_layers(views: Views, layer_ids: Sequence[int]) -> Views:
    """Return the views with the routing weights of some of their layers."""
    kept = [layer for layer in views.layer_ids if layer in layer_ids]
    widths = dict(zip(views.layer_ids, views.num_experts, strict=True))
    routing = [views.routing_layer(layer) for layer in kept]
    return replace(
        views,
        routing_weights=np.concatenate(routing, axis=1) if routing else views.routing_weights[:, :0],
        layer_ids=tuple(kept),
        num_experts=tuple(widths[layer] for layer in kept),
        projections=None,
    )


def choose(criterion: Criterion, candidates: Sequence[Candidate], present: Weights, free: Sequence[View]) -> Choice:
    """Try weights under every candidate and choose.

    Args:
        criterion: What is maximised.
        candidates: The first is the present choice.
        present: The weights that there are now.
        free: Views whose weights are chosen, beside a weight of 1 for HS; the others keep theirs.
    """
    now = _scaled(present)
    start = _trial(criterion, candidates[0], now)
    by_candidate = [_best(criterion, each, now, free) for each in candidates]
    best = max(by_candidate, key=lambda trial: trial.score)  # the first of several
    cosines = {(each.layers, each.statistics): each.cosines for each in candidates}
    used = cosines[best.layers, best.statistics]
    gain = criterion.difference((used, candidates[0].cosines), (best.weights, start.weights))
    chosen = best if gain.low > NEGLIGIBLE else start
    around = next(each for each in candidates if (each.layers, each.statistics) == (chosen.layers, chosen.statistics))
    alone: dict[View, float] = {view: criterion.value(around.cosines, {view: 1.0}) for view in around.cosines}
    curve = tuple(
        (view, _trial(criterion, around, {**chosen.weights, view: weight}))
        for view in VIEWS
        if view in around.cosines and view in GRIDS
        for weight in sorted({*GRIDS[view], chosen.weights.get(view, 0.0)})
    )
    notes = _notes(alone, chosen is start, gain)
    return Choice(start, best, gain, chosen, MappingProxyType(alone), tuple(by_candidate), curve, notes)


def _scaled(weights: Weights) -> dict[View, float]:
    """Return the weights with 1 for HS, where it has one."""
    unit = weights.get("hs", 0.0) or 1.0
    return {view: weights[view] / unit for view in VIEWS if weights.get(view)}


def _trial(criterion: Criterion, candidate: Candidate, weights: Weights) -> Trial:
    return Trial(candidate.layers, candidate.statistics, weights, criterion.value(candidate.cosines, weights))


def _best(criterion: Criterion, candidate: Candidate, now: Weights, free: Sequence[View]) -> Trial:
    chosen = [view for view in free if view in candidate.cosines and view in GRIDS]
    fixed = {**now, "hs": 1.0}
    grids = [sorted({*GRIDS[view], now.get(view, 0.0)}) for view in chosen]
    tried = [_trial(criterion, candidate, now)]
    for point in product(*grids):
        weights = {**fixed, **dict(zip(chosen, point, strict=True))}
        tried.append(_trial(criterion, candidate, {view: weights[view] for view in VIEWS if weights.get(view)}))
    # the present weights first, then small ones: nothing is added that does not show
    return max(tried, key=lambda trial: trial.score)


def _notes(alone: Mapping[View, float], is_kept: bool, gain: Interval) -> tuple[str, ...]:
    notes = []
    if is_kept:
        notes.append(
            f"The present choice is kept: nothing else is better by a whole 95 % interval ({points(gain)} for the "
            "best). More pairs could tell more."
        )
    if max(alone.values()) >= _CEILING:
        best = max(alone, key=lambda view: alone[view])
        notes.append(
            f"The criterion is blind here: {best} alone scores {100 * alone[best]:.1f}, so hardly a pair is left to "
            "tell choices apart. Give more texts, texts that are more alike, or labelled pairs."
        )
    return tuple(notes)
