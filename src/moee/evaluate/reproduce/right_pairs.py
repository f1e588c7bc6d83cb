"""Figures 2 and 6 and the cases of tables 6 and 7: on which pairs HS and RW are right.

No formula of the paper for "right" is known to us. Here: pairs are ranked by similarity and by the people's score,
both from 0 (least similar) to 1. People's ties make a range of ranks, in which every order is right. A view is right
on a pair if its rank lies within `THRESHOLD` of that range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moee.evaluate.reproduce.exhibit import Cell, Exhibit, Picture, Table
from moee.evaluate.reproduce.paper_scores import METHOD_NAMES
from moee.evaluate.reproduce.pictures import draw_lines, draw_shares
from moee.evaluate.reproduce.run import Run, original_setting, right_setting
from moee.evaluate.reproduce.score_tables import ORIGINAL, RIGHT, settings
from moee.evaluate.tasks import Numbers, STSData
from moee.evaluate.vectors import Setting
from moee.types import Fusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STS_TASKS = ("STS12", "STS13", "STS14", "STS15", "STS16", "BIOSSES", "SICK-R", "STSBenchmark")
THRESHOLD = 0.1
CASES = 10
_PERMUTATIONS = 200
_BINS = 5
_WILSON_Z = 1.96

DEFINITION = (
    f"Right: the pair's rank by similarity, from 0 to 1, lies within {THRESHOLD} of its rank by the people's score; "
    "pairs that people scored alike share a range of ranks, and any order within it is right. This is our definition; "
    "the paper's may be another."
)
Flags = npt.NDArray[np.bool_]


def ranks(values: Numbers) -> tuple[Numbers, Numbers]:
    """Return the lowest and the highest rank of each value among its ties, from 0 to 1."""
    from scipy.stats import rankdata

    span = max(len(values) - 1, 1)
    return (rankdata(values, "min") - 1) / span, (rankdata(values, "max") - 1) / span


def rank_errors(similarities: Numbers, scores: Numbers) -> Numbers:
    """Return how far each pair's rank by similarity lies outside the range of ranks that its score allows.

    Args:
        similarities: `(n,)`; the middle of their ties is used.
        scores: `(n,)`, the people's.

    Returns:
        `(n,)`, 0 to 1.
    """
    low, high = ranks(scores)
    rank = np.mean(ranks(similarities), axis=0)
    return np.asarray(np.maximum(np.maximum(low - rank, rank - high), 0.0))


def chance(scores: Numbers, seed: int) -> float:
    """Return the share of pairs on which a random order is right, from `_PERMUTATIONS` of them."""
    rng = np.random.default_rng(seed)
    places = np.arange(len(scores), dtype=np.float64)
    return float(np.mean([rank_errors(rng.permutation(places), scores) <= THRESHOLD for _ in range(_PERMUTATIONS)]))


def pair_similarities(run: Run, data: STSData, setting: Setting) -> Numbers:
    """Return the cosine of every pair under a setting, each column encoded by one call as mteb does."""
    from moee.method.similarity import similarity_pairwise

    embed = run.study.embed(data, setting)
    left, right = embed(data.left), embed(data.right)
    return np.asarray(similarity_pairwise(left, right), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Errors:
    """Rank errors of one task under one way of computing."""

    data: STSData
    computed: str
    of: dict[str, Numbers]

    def right(self, method: str) -> Flags:
        return self.of[method] <= THRESHOLD


def _errors(run: Run, task: str, methods: tuple[Fusion, ...]) -> list[_Errors]:
    data = run.study.task(task)
    assert isinstance(data, STSData)
    return [
        _Errors(
            data,
            computed,
            {
                METHOD_NAMES[method]: rank_errors(pair_similarities(run, data, make(method, "prompteol")), data.scores)
                for method in methods
            },
        )
        for computed, make in ((ORIGINAL, original_setting), (RIGHT, right_setting))
    ]


def figure2(run: Run) -> Exhibit:
    """Make figure 2: how often HS, RW, both or neither is right."""
    rows: list[tuple[Cell, ...]] = []
    bars: dict[str, list[float]] = {}
    for task in run.chosen(STS_TASKS, what="figure2"):
        for errors in _errors(run, task, ("hs", "rw")):
            hidden, routing = errors.right("HS"), errors.right("RW")
            parts = _shares(hidden, routing)
            independent = _independent(float(hidden.mean()), float(routing.mean()))
            rows.append(
                (
                    task,
                    errors.computed,
                    len(hidden),
                    *parts,
                    *independent,
                    100 * chance(errors.data.scores, run.options.seed),
                )
            )
            bars[f"{task}\n{errors.computed}"] = parts
    names = ("both right", "HS right, RW wrong", "RW right, HS wrong", "both wrong")
    columns = ("task", "computed", "pairs", *names, *(f"{name}, if independent" for name in names), "right by chance")
    notes = (
        DEFINITION,
        '"if independent": the share to expect from two views as good as these whose errors have nothing to do with '
        "each other. Views complement each other as far as the shares come near it.",
        f'"right by chance": a random order of the pairs (mean of {_PERMUTATIONS}).',
    )

    def draw(figure: Figure) -> None:
        values = list(bars.values())
        shares = {name: [value[place] for value in values] for place, name in enumerate(names)}
        draw_shares(figure, list(bars), shares, "share of pairs (%)")

    picture = Picture("figure2", "Where HS and RW are right, PromptEOL", (9, 1.6 + 0.45 * len(bars)), draw)
    table = Table("figure2", "Share of pairs, %", columns, tuple(rows), decimals=1)
    title = "Figure 2: errors of HS and RW"
    return Exhibit("figure2", title, (table,), notes, (picture,), {**settings(run), "threshold": THRESHOLD})


def cases(run: Run) -> Exhibit:
    """Make tables 6 and 7: pairs on which one view is right and the other is far off."""
    rows: list[tuple[Cell, ...]] = []
    for task in run.chosen(STS_TASKS, what="cases"):
        errors = _errors(run, task, ("hs", "rw"))[0]
        hidden, routing = errors.of["HS"], errors.of["RW"]
        for view, good, bad in (("HS", hidden, routing), ("RW", routing, hidden)):
            found = np.flatnonzero((good <= THRESHOLD) & (bad > THRESHOLD))
            for place in found[np.argsort(-bad[found], kind="stable")][:CASES]:
                rows.append(_case(task, view, errors, int(place)))
    columns = ("task", "right", "people's score", "HS off by", "RW off by", "text 1", "text 2")
    table = Table("cases", "Pairs on which one view is right and the other is not", columns, tuple(rows))
    notes = (
        DEFINITION,
        '"off by": distance between the two ranks, 0 to 1. The pairs with the largest errors come first, at most '
        f"{CASES} for each task and view. Computed {ORIGINAL}.",
        "The texts are rows of the evaluation sets: for your eyes, not for publication.",
    )
    title = "Tables 6 and 7: pairs that only one view gets right"
    return Exhibit("cases", title, (table,), notes, settings={**settings(run), "threshold": THRESHOLD})


def figure6(run: Run) -> Exhibit:
    """Make figure 6: text length against accuracy."""
    methods: tuple[Fusion, ...] = ("hs", "rw", "sum")
    lengths: list[Numbers] = []
    right: dict[str, list[Flags]] = {METHOD_NAMES[method]: [] for method in methods}
    for task in run.chosen(STS_TASKS, what="figure6"):
        errors = _errors(run, task, methods)[0]
        lengths.append(_pair_lengths(errors.data))
        for method, flags in right.items():
            flags.append(errors.right(method))
    words = np.concatenate(lengths)
    flags_of = {method: np.concatenate(flags) for method, flags in right.items()}
    bins, members = _bins(words)
    points = {method: [_wilson(flags[each]) for each in members] for method, flags in flags_of.items()}
    rows = tuple(
        (name, len(members[place]), method, *points[method][place])
        for place, name in enumerate(bins)
        for method in points
    )

    def draw(figure: Figure) -> None:
        draw_lines(figure, bins, points, ("words in a text, mean of the pair", "pairs ranked right (%)"))

    columns = ("words", "pairs", "method", "right", "low", "high")
    notes = (
        DEFINITION,
        f"All tasks together, in {len(bins)} bins of about as many pairs each; intervals are Wilson's, 95 %. "
        f"Computed {ORIGINAL}.",
        "Tasks differ in length and in difficulty at once, so a slope here is no proof of an effect of length.",
    )
    table = Table("figure6", "Pairs ranked right, %, by length", columns, rows, decimals=1)
    picture = Picture("figure6", "Length and accuracy, PromptEOL", (8, 4.5), draw)
    title = "Figure 6: length and accuracy"
    return Exhibit("figure6", title, (table,), notes, (picture,), {**settings(run), "threshold": THRESHOLD})


def _shares(hidden: Flags, routing: Flags) -> list[float]:
    parts = (hidden & routing, hidden & ~routing, ~hidden & routing, ~hidden & ~routing)
    return [100 * float(part.mean()) for part in parts]


def _independent(hidden: float, routing: float) -> list[float]:
    parts = (hidden * routing, hidden * (1 - routing), (1 - hidden) * routing, (1 - hidden) * (1 - routing))
    return [100 * part for part in parts]


def _case(task: str, view: str, errors: _Errors, place: int) -> tuple[Cell, ...]:
    data = errors.data
    texts = (data.texts[data.left[place]], data.texts[data.right[place]])
    return (task, view, float(data.scores[place]), float(errors.of["HS"][place]), float(errors.of["RW"][place]), *texts)


def _pair_lengths(data: STSData) -> Numbers:
    counts = np.array([len(text.split()) for text in data.texts], dtype=np.float64)
    return (counts[data.left] + counts[data.right]) / 2


def _bins(words: Numbers) -> tuple[list[str], list[npt.NDArray[np.int64]]]:
    """Return names and members of bins of about equal size; equal lengths stay together, so there may be fewer bins."""
    edges = np.unique(np.quantile(words, np.linspace(0, 1, _BINS + 1)))
    if len(edges) < 2:
        return [f"{words[0]:g}"], [np.arange(len(words))]
    places = np.clip(np.searchsorted(edges, words, side="right") - 1, 0, len(edges) - 2)
    members = [np.flatnonzero(places == place) for place in range(len(edges) - 1)]
    kept = [each for each in members if len(each)]
    return [f"{words[each].min():g} to {words[each].max():g}" for each in kept], kept


def _wilson(flags: Flags) -> tuple[float, float, float]:
    """Return a share and its 95 % interval by Wilson's score method, in %."""
    count, share = len(flags), float(flags.mean())
    spread = _WILSON_Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = _WILSON_Z * np.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return 100 * share, 100 * max(centre - half, 0.0), 100 * min(centre + half, 1.0)
