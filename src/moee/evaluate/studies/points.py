"""The axes of the routing study, and their points: what is different about a model's routing, or about how it is read.

A point changes one thing and leaves the rest as the model and the default recipe have it. Points that change what the
model computes need a pass of their own; all others act on router logits that one pass gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from moee.backends.forward.changed_routing import RoutingChange
from moee.method.routing import SCORINGS, score_experts
from moee.types import Array, ModelInfo, Scoring, Views

AXES: Mapping[str, str] = MappingProxyType(
    {
        "active-experts": "experts that every token uses, from one to all: a pass of the model for each",
        "layers": "MoE layers that routing weights are read from: thirds, halves, each alone",
        "experts": "experts that routing weights are read from: those that vary most, and as many drawn by lot",
        "temperature": "what router logits are divided by before they become routing weights",
        "scoring": "how router logits become routing weights: softmax, native, logits, topk",
        "model-temperature": "the same division inside the model, so that hidden states follow: a pass for each",
    }
)
"""Name and meaning of each axis."""
TEMPERATURES = (1 / 64, 1 / 16, 1 / 4, 1.0, 4.0, 16.0)
MODEL_TEMPERATURES = (1 / 16, 1 / 4, 4.0)
_SHARES = (1 / 8, 1 / 4, 1 / 2)
_LOTS = 2
_MOST_SINGLE_LAYERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How routing weights are made of the router logits of all layers.

    Attributes:
        layers: Decoder layers that are read.
        scoring: As `EmbedderConfig.scoring`.
        temperature: What logits are divided by first.
        share: Part of each layer's experts that is kept; 1 keeps all.
        lot: None keeps those whose weights vary most over the calibration sentences; a number draws them by lot.
    """

    layers: tuple[int, ...]
    scoring: Scoring
    temperature: float = 1.0
    share: float = 1.0
    lot: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One setting of one axis.

    Attributes:
        axis: Key of `AXES`.
        label: What a reader is told.
        place: Number along the axis, for figures; None where the axis has no order.
        change: What is different in the model.
        reading: How its routers are read.
        is_own: Whether this is how the model and the recipe have it.
    """

    axis: str
    label: str
    place: float | None
    reading: Reading
    change: RoutingChange = RoutingChange()  # noqa: RUF009 - a frozen value
    is_own: bool = False


def points_of(axis: str, info: ModelInfo, own: Reading, most_experts: int) -> list[Point]:
    """Return the points of an axis for a model, its own setting among them.

    Args:
        axis: Key of `AXES`.
        info: The model.
        own: How the recipe reads it.
        most_experts: Experts that a token may use at most.
    """
    if axis == "active-experts":
        return _active_experts(info, own, most_experts)
    if axis == "layers":
        return _layers(info, own)
    if axis == "experts":
        return _experts(axis, own)
    if axis == "scoring":
        return [
            Point(axis=axis, label=name, place=None, reading=replace(own, scoring=name), is_own=name == own.scoring)
            for name in SCORINGS
        ]
    values = TEMPERATURES if axis == "temperature" else sorted({*MODEL_TEMPERATURES, 1.0})
    is_inside = axis == "model-temperature"
    return [
        Point(
            axis=axis,
            label=_fraction(value),
            place=value,
            reading=own if is_inside else replace(own, temperature=value),
            change=RoutingChange(temperature=value if is_inside else 1.0),
            is_own=value == 1,
        )
        for value in values
    ]


def _active_experts(info: ModelInfo, own: Reading, most: int) -> list[Point]:
    native = max(info.top_k)
    powers = [2**power for power in range(0, most.bit_length(), 2 if most > 16 else 1)]
    numbers = sorted({number for number in (*powers, most // 2, native, most) if 1 <= number <= most})
    return [
        Point(
            axis="active-experts",
            label=str(number),
            place=float(number),
            reading=own,
            change=RoutingChange(top_k=None if number == native else number),
            is_own=number == native,
        )
        for number in numbers
    ]


def _layers(info: ModelInfo, own: Reading) -> list[Point]:
    ids = sorted(set(info.layer_ids))
    third, half = math.ceil(len(ids) / 3), math.ceil(len(ids) / 2)
    groups = {
        "all": ids,
        "first third": ids[:third],
        "middle third": ids[third : len(ids) - third],
        "last half": ids[-half:],
        "last third": ids[-third:],
        "last sixth": ids[-math.ceil(len(ids) / 6) :],
    }
    points = [_of_layers(label, tuple(chosen), None, own) for label, chosen in groups.items() if chosen]
    step = max(1, math.ceil(len(ids) / _MOST_SINGLE_LAYERS))
    # from the end, so that the last layer is one of them
    singles = sorted(ids[::-1][::step])
    return points + [_of_layers(f"layer {number} alone", (number,), float(number), own) for number in singles]


def _of_layers(label: str, layers: tuple[int, ...], place: float | None, own: Reading) -> Point:
    reading = replace(own, layers=layers)
    return Point(axis="layers", label=label, place=place, reading=reading, is_own=reading == own)


def _experts(axis: str, own: Reading) -> list[Point]:
    points = [Point(axis=axis, label="all", place=1.0, reading=own, is_own=True)]
    for share in _SHARES:
        for lot in (None, *range(_LOTS)):
            how = "most varying" if lot is None else f"by lot {lot + 1}"
            reading = replace(own, share=share, lot=lot)
            points.append(Point(axis=axis, label=f"{_fraction(share)}, {how}", place=share, reading=reading))
    return points


def _fraction(value: float) -> str:
    return f"1/{round(1 / value)}" if value < 1 else f"{value:g}"


class Reader:
    """Makes views of a reading; the experts that vary most are those of the calibration sentences.

    Args:
        reading: How the routers are read.
        info: The model, with the number of active experts that it ran with.
        sentences: Views of the calibration sentences, with the router logits of all layers.
    """

    def __init__(self, reading: Reading, info: ModelInfo, sentences: Views) -> None:
        self._reading = reading
        self._info = info
        self._kept = [self._columns(layer, sentences) for layer in reading.layers]

    def read(self, views: Views) -> Views:
        """Return views with routing weights in place of logits.

        Args:
            views: With the router logits of all layers, `(num_texts, sum of num_experts)`.
        """
        parts = [
            self._weights(layer, views)[:, kept] for layer, kept in zip(self._reading.layers, self._kept, strict=True)
        ]
        return replace(
            views,
            routing_weights=np.concatenate(parts, axis=1),
            layer_ids=self._reading.layers,
            num_experts=tuple(part.shape[1] for part in parts),
            projections=None,
        )

    def _columns(self, layer: int, sentences: Views) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        weights = self._weights(layer, sentences)
        count = max(1, round(self._reading.share * weights.shape[1]))
        if self._reading.lot is None:
            order = np.argsort(-weights.var(axis=0), kind="stable")
        else:
            order = np.random.default_rng([self._reading.lot, layer]).permutation(weights.shape[1])
        return np.sort(order[:count])

    def _weights(self, layer: int, views: Views) -> Array:
        place = self._info.layer_ids.index(layer)
        logits = views.routing_layer(layer) / np.float32(self._reading.temperature)
        top_k = min(self._info.top_k[place], logits.shape[1])
        return score_experts(logits, self._reading.scoring, scoring_func=self._info.scoring_func, top_k=top_k)


def changes(points: Sequence[Point]) -> list[RoutingChange]:
    """Return the different passes that points need, the model as it is first."""
    return list(dict.fromkeys([RoutingChange(), *(point.change for point in points)]))
