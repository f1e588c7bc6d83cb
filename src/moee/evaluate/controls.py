"""Controls: what a gain of routing weights (RW) over hidden states (HS) must survive before it is called one.

A fused vector can beat HS for reasons that have nothing to do with routing: its statistics were better, a second view
of other layers helped, or alpha was chosen with labels. Each control takes one reason away. Two planted defects check
the controls themselves: with them RW carries nothing, and a sound evaluation must say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, get_args

from moee.errors import InputError
from moee.evaluate.bootstrap import RESAMPLES, Interval, paired_mean_difference
from moee.evaluate.study import Study
from moee.evaluate.tasks import TaskScore
from moee.evaluate.vectors import Setting
from moee.types import AlphaRule, ModelInfo, Scoring, View

Role = Literal["baseline", "variant", "control", "planted defect"]

GRID = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Alphas that the oracle tries: HS alone, and powers of two around equal weight."""

NEGLIGIBLE = 1e-4
"""A hundredth of a point of score. Float32 rounding reorders near ties and so moves a score by less than this."""


@dataclass(frozen=True, slots=True)
class Control:
    """A setting that stands beside a fused one, and why.

    Attributes:
        name: Short, for tables.
        role: `baseline`: what RW must beat. `variant`: another legitimate choice. `control`: RW replaced by something
            that is not routing. `planted defect`: RW made worthless on purpose.
        meaning: One line for readers.
        setting: What to score.
    """

    name: str
    role: Role
    meaning: str
    setting: Setting


@dataclass(frozen=True, slots=True)
class OracleAlpha:
    """The best alpha of a grid, chosen with the labels of the very rows that it is scored on.

    An upper bound of what any choice of alpha could reach, never a result.

    Attributes:
        alpha: Alpha of the best score; the smallest one where several are best.
        score: Scores at that alpha.
        by_alpha: Main score at every alpha of the grid.
    """

    alpha: float
    score: TaskScore
    by_alpha: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether RW adds anything.

    Attributes:
        adds: The fused score is above that of HS with the same calibration, by the whole interval.
        beats_random: It is also above the same fusion with random projections; None if that was not compared.
        over_hs: Fused minus HS.
        over_random: Fused minus its random control; None if there is none.
        sentence: The conclusion with its numbers, in points (score times 100).
    """

    adds: bool
    beats_random: bool | None
    over_hs: Interval
    over_random: Interval | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A vector with RW, and the two that it must be above before RW is said to add anything to it.

    Attributes:
        vector: The vector with RW.
        without: The same without RW.
        random: The same with random projections of what the routers read in place of RW, calibrated alike.
    """

    vector: Setting
    without: Setting
    random: Setting


def claims(base: Setting) -> list[Claim]:
    """Return what is asked of a setting's RW: beside HS alone, and beside all the other views that have a weight.

    Args:
        base: A setting of `fusion="weighted"` with a weight for RW; others are taken to be the sum of HS and RW.
    """
    if base.weights is None:
        fused = replace(base, fusion="sum", routing="router")
        return [Claim(fused, _hidden_alone(fused), replace(fused, routing="random-projections"))]
    chosen = {view: weight for view, weight in base.weights.items() if weight}
    two: dict[View, float] = {"hs": chosen.get("hs", 1.0), "rw": chosen["rw"]}
    found: list[Claim] = []
    for weights in (two, chosen):
        vector = replace(base, weights=weights, routing="router")
        if all(vector.label() != each.vector.label() for each in found):
            without = replace(vector, weights=_without_routing(weights))
            found.append(Claim(vector, without, replace(vector, routing="random-projections")))
    return found


def _without_routing(weights: Mapping[View, float]) -> dict[View, float]:
    """Return the weights without RW's; those of HS alone if none is left."""
    others: dict[View, float] = {view: weight for view, weight in weights.items() if view != "rw" and weight}
    return others or {"hs": 1.0}


def has_controls(setting: Setting) -> bool:
    """Return whether a setting's claims can be checked: frozen statistics, and no named weights without RW."""
    has_routing = setting.weights is None or bool(setting.weights.get("rw"))
    return has_routing and setting.statistics in ("builtin", "corpus")


def control_settings(base: Setting, info: ModelInfo) -> list[Control]:
    """Return the settings that every claim about RW is compared with, the fused one first; see `claims`.

    Args:
        base: Recipe, prompt, calibration and scoring are kept. Without named weights its fusion is taken to be `sum`.
        info: The model: its widths and its type.
    """
    return _sum_controls(base, info) if base.weights is None else _weighted_controls(base)


def _weighted_controls(base: Setting) -> list[Control]:
    rows: list[Control] = []
    for claim in claims(base):
        projections = "random projections of what the same routers read, calibrated alike, in place of RW"
        is_base = claim.vector.label() == base.label()
        rows += [
            Control(claim.vector.vector, "variant", "as it is used" if is_base else "HS and RW alone", claim.vector),
            Control(claim.without.vector, "baseline", "the same without RW", claim.without),
            Control(f"{claim.vector.vector}, random", "control", projections, claim.random),
        ]
    alone = replace(base, weights={"rw": 1.0}, routing="router")
    random = replace(alone, routing="random-projections")
    return [
        *rows,
        Control("rw", "variant", "RW alone", alone),
        Control("random", "control", "the random projections alone", random),
        Control("shuffled", "planted defect", "each text has another text's RW", replace(base, routing="shuffled")),
        Control("hidden", "planted defect", "RW is a copy of HS", replace(base, routing="hidden")),
    ]


def _sum_controls(base: Setting, info: ModelInfo) -> list[Control]:
    """Return the controls of the sum of HS and RW.

    "By dimension" sets alpha to the number of routing dimensions over hidden dimensions. Concatenation at the blocks'
    own scale weighs the views so on average, since a calibrated block has a mean squared length equal to its number of
    dimensions; in `concat` the ratio varies from text to text, here it is the same for all.

    """
    fused = replace(base, fusion="sum", routing="router")
    used = fused.config(info.model_type).scoring
    by_dimension = sum(info.num_experts) / info.hidden_size
    rows: list[Control] = [
        Control("sum", "variant", "HS and RW in one vector, as it is used", fused),
        Control("hs", "baseline", "HS alone, with the same calibration (alpha 0)", _hidden_alone(fused)),
        Control("rw", "variant", "RW alone", replace(fused, fusion="rw")),
        Control("concat", "variant", "both blocks at their own scale", replace(fused, fusion="concat")),
        Control(
            "sum-random",
            "control",
            "RW replaced by random projections of what the same routers read",
            replace(fused, routing="random-projections"),
        ),
        Control(
            "random",
            "control",
            "the random projections alone",
            replace(fused, fusion="rw", routing="random-projections"),
        ),
    ]
    for scoring in get_args(Scoring):
        if scoring not in (used, "native"):
            changed = replace(fused, scoring=scoring)
            rows.append(Control(f"sum-{scoring}", "variant", f"router scores by {scoring} in place of {used}", changed))
    rules: Mapping[AlphaRule, str] = {
        "slope": "the slope of cos HS on cos RW",
        "scale": "the ratio of their deviations",
    }
    for rule, meaning in rules.items():
        if rule != fused.alpha:
            rows.append(
                Control(f"alpha-{rule}", "variant", f"alpha is {meaning}, no labels", replace(fused, alpha=rule))
            )
    return [
        *rows,
        Control(
            "alpha-dimension",
            "variant",
            f"alpha {by_dimension:.3g}: routing dimensions over hidden dimensions, as concat weighs on average",
            replace(fused, alpha=by_dimension),
        ),
        Control(
            "sum-shuffled", "planted defect", "each text has another text's RW", replace(fused, routing="shuffled")
        ),
        Control("sum-hidden", "planted defect", "RW is a copy of HS", replace(fused, routing="hidden")),
    ]


def _hidden_alone(fused: Setting) -> Setting:
    """Return HS with the fused setting's standardisation.

    The original code does not standardise its HS baseline but does so inside the sum; alpha 0 gives the fair one.
    """
    return replace(fused, alpha=0.0) if fused.is_by_batch else replace(fused, fusion="hs")


def oracle_alpha(study: Study, name: str, setting: Setting, grid: Sequence[float] = GRID) -> OracleAlpha:
    """Score a task at every weight of RW of a grid and return the best, WITH the labels: a bound, never a result.

    Args:
        study: The model and the data.
        name: Name of the task.
        setting: Its fusion must be `sum` or `weighted`; its own weight of RW is not used.
        grid: Weights, 0 or larger.

    Raises:
        InputError: If the fusion is another, or the grid is empty.
    """
    if setting.fusion not in ("sum", "weighted") or not grid:
        raise InputError(
            "The oracle tries weights of RW in fusion='sum' or 'weighted', not in "
            f"{setting.fusion!r}, on a grid of at least one; got {len(grid)}."
        )
    scores = {float(weight): study.score(name, _with_routing(setting, float(weight))) for weight in sorted(grid)}
    best = max(scores, key=lambda alpha: scores[alpha].main)
    return OracleAlpha(best, scores[best], MappingProxyType({alpha: each.main for alpha, each in scores.items()}))


def _with_routing(setting: Setting, weight: float) -> Setting:
    if setting.weights is None:
        return replace(setting, alpha=weight)
    return replace(setting, weights={**_without_routing(setting.weights), "rw": weight})


def verdict(
    hs: Sequence[TaskScore],
    fused: Sequence[TaskScore],
    random: Sequence[TaskScore] | None = None,
    *,
    beside: str = "calibrated HS",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Verdict:
    """Say whether RW adds anything beyond the same vector without it, and beyond random projections.

    A difference counts when its whole 95 % interval lies above `NEGLIGIBLE`.

    Args:
        hs: Scores of the vector without RW, with the same calibration, one for each task.
        fused: Scores of the vector with RW on the same tasks.
        random: Scores of the vector with random projections in place of RW, on the same tasks.
        beside: What RW is added to, in words.
        resamples: Draws of the bootstrap.
        seed: Seed of the draws.

    Raises:
        InputError: If the scores are not of the same tasks and items.
    """
    over_hs = paired_mean_difference(fused, hs, resamples=resamples, seed=seed)
    over_random = paired_mean_difference(fused, random, resamples=resamples, seed=seed) if random is not None else None
    adds = over_hs.low > NEGLIGIBLE
    beats_random = over_random.low > NEGLIGIBLE if over_random is not None else None
    sentence = f"{_against_hs(over_hs, beside)}{_against_random(over_random, adds)}."
    return Verdict(adds, beats_random, over_hs, over_random, sentence)


def _against_hs(interval: Interval, beside: str) -> str:
    if interval.low > NEGLIGIBLE:
        return f"RW adds to {beside}: {points(interval)}"
    if interval.high < -NEGLIGIBLE:
        return f"RW adds nothing to {beside} and lowers its score: {points(interval)}"
    return f"RW adds nothing that this sample can show to {beside}: {points(interval)}"


def _against_random(interval: Interval | None, adds: bool) -> str:
    if interval is None:
        return ""
    if interval.low > NEGLIGIBLE:
        return f"; it beats random projections of the same router inputs: {points(interval)}"
    reading = ", so what helps is a second view of these layers, not the routing" if adds else ""
    compared = "better" if interval.high < -NEGLIGIBLE else "as well"
    return f"; random projections of the same router inputs do {compared}: {points(interval)}{reading}"


def points(interval: Interval) -> str:
    """Return a difference with its interval in points, for example `+0.42 [+0.10, +0.75]`."""
    low, high, difference = (100 * value for value in (interval.low, interval.high, interval.difference))
    return f"{difference:+.2f} [{low:+.2f}, {high:+.2f}]"
