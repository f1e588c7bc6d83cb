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
from moee.types import ModelInfo, Scoring

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


def control_settings(base: Setting, info: ModelInfo) -> list[Control]:
    """Return the settings that every claim about RW is compared with, the fused one first.

    "By dimension" sets alpha to the number of routing dimensions over hidden dimensions. Concatenation at the blocks'
    own scale weighs the views so on average, since a calibrated block has a mean squared length equal to its number of
    dimensions; in `concat` the ratio varies from text to text, here it is the same for all.

    Args:
        base: Recipe, prompt, calibration and scoring are kept; its fusion is taken to be `sum`.
        info: The model: its widths and its type.
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
    closed = Control("alpha-closed", "variant", "alpha in closed form, no labels", replace(fused, alpha="auto"))
    rows += [closed] if fused.alpha != "auto" else []
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
    return replace(fused, alpha=0.0) if fused.recipe == "paper" else replace(fused, fusion="hs")


def oracle_alpha(study: Study, name: str, setting: Setting, grid: Sequence[float] = GRID) -> OracleAlpha:
    """Score a task at every alpha of a grid and return the best, WITH the labels: an upper bound, never a result.

    Args:
        study: The model and the data.
        name: Name of the task.
        setting: Its fusion must be `sum`; its alpha is not used.
        grid: Alphas, 0 or larger.

    Raises:
        InputError: If the fusion is not `sum`, or the grid is empty.
    """
    if setting.fusion != "sum" or not grid:
        raise InputError(
            f"The oracle tries alphas of fusion='sum', not of {setting.fusion!r}, on a grid of at least one; "
            f"got {len(grid)}."
        )
    scores = {float(alpha): study.score(name, replace(setting, alpha=float(alpha))) for alpha in sorted(grid)}
    best = max(scores, key=lambda alpha: scores[alpha].main)
    return OracleAlpha(best, scores[best], MappingProxyType({alpha: each.main for alpha, each in scores.items()}))


def verdict(
    hs: Sequence[TaskScore],
    fused: Sequence[TaskScore],
    random: Sequence[TaskScore] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Verdict:
    """Say whether RW adds anything beyond HS with the same calibration, and beyond random projections.

    A difference counts when its whole 95 % interval lies above `NEGLIGIBLE`.

    Args:
        hs: Scores of HS with the same calibration, one for each task.
        fused: Scores of the sum on the same tasks.
        random: Scores of the sum with random projections in place of RW, on the same tasks.
        resamples: Draws of the bootstrap.
        seed: Seed of the draws.

    Raises:
        InputError: If the scores are not of the same tasks and items.
    """
    over_hs = paired_mean_difference(fused, hs, resamples=resamples, seed=seed)
    over_random = paired_mean_difference(fused, random, resamples=resamples, seed=seed) if random is not None else None
    adds = over_hs.low > NEGLIGIBLE
    beats_random = over_random.low > NEGLIGIBLE if over_random is not None else None
    sentence = f"{_against_hs(over_hs)}{_against_random(over_random, adds)}."
    return Verdict(adds, beats_random, over_hs, over_random, sentence)


def _against_hs(interval: Interval) -> str:
    if interval.low > NEGLIGIBLE:
        return f"RW adds to calibrated HS: {points(interval)}"
    if interval.high < -NEGLIGIBLE:
        return f"RW adds nothing to calibrated HS and lowers its score: {points(interval)}"
    return f"RW adds nothing that this sample can show to calibrated HS: {points(interval)}"


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
