"""How good a similarity is for some texts: by siblings, or by labelled pairs.

A criterion takes cosines by view in a shape of its own, weighs them, and gives a score with its items, so that two
choices can be compared with a paired bootstrap.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from moee.errors import InputError
from moee.evaluate.bootstrap import Interval, paired_difference
from moee.evaluate.tasks import Numbers, TaskScore, apply_statistic
from moee.types import Array, View

Cosines = Mapping[View, Numbers]
"""Cosines of the views over the same pairs of texts, `(num_left, num_right)` or `(num_pairs,)`."""
Weights = Mapping[View, float]

_RESAMPLES = 1000


class Criterion(ABC):
    """What weights are judged by.

    Attributes:
        name: A few words, for tables.
    """

    name: ClassVar[str]

    @abstractmethod
    def cosines(self, left: Mapping[View, Array], right: Mapping[View, Array]) -> dict[View, Numbers]:
        """Return the cosines that it needs, from the unit blocks of both sides, `(num_pairs, dim of the block)`."""

    @abstractmethod
    def items(self, similarities: Numbers) -> Numbers:
        """Return one value for each pair, from weighted cosines."""

    @abstractmethod
    def score(self, items: Numbers) -> TaskScore:
        """Return the score of these items."""

    def value(self, cosines: Cosines, weights: Weights) -> float:
        """Return the score under some weights."""
        return self.score(self.items(weighed(cosines, weights))).main

    def difference(self, cosines: tuple[Cosines, Cosines], weights: tuple[Weights, Weights]) -> Interval:
        """Return the score of one choice minus that of another, with its 95 % interval over the pairs."""
        one, other = (self.score(self.items(weighed(*each))) for each in zip(cosines, weights, strict=True))
        return paired_difference(one, other, resamples=_RESAMPLES)


def weighed(cosines: Cosines, weights: Weights) -> Numbers:
    """Return the similarities under some weights: the mean of the cosines that count."""
    counting = {view: weight for view, weight in weights.items() if weight and view in cosines}
    if not counting:
        raise InputError(f"None of the views {', '.join(cosines)} counts under the weights {dict(weights)}.")
    total = sum(counting.values())
    parts = [weight / total * cosines[view] for view, weight in counting.items()]
    return np.asarray(sum(parts[1:], parts[0]))


class SiblingRank(Criterion):
    """Mean reciprocal rank of each text's sibling among all texts of the other side, asked from both sides.

    By chance it is about log(n) / n for n pairs. Equal similarities share their ranks.
    """

    name = "sibling found among the others (mean reciprocal rank)"

    def cosines(self, left: Mapping[View, Array], right: Mapping[View, Array]) -> dict[View, Numbers]:
        """Return the cosines of every left text with every right one, `(num_pairs, num_pairs)`."""
        return {view: left[view].astype(np.float64) @ right[view].T for view in left}

    def items(self, similarities: Numbers) -> Numbers:
        """Return the mean of the reciprocal ranks from both sides, `(num_pairs,)`."""
        return (_reciprocal_ranks(similarities) + _reciprocal_ranks(similarities.T)) / 2

    def score(self, items: Numbers) -> TaskScore:
        """Return the mean."""
        mean = float(items.mean())
        return TaskScore("mean_reciprocal_rank", mean, {}, items)


def _reciprocal_ranks(similarities: Numbers) -> Numbers:
    own = np.diagonal(similarities)[:, None]
    above, level = (similarities > own).sum(axis=1), (similarities == own).sum(axis=1) - 1
    return np.asarray(1.0 / (1.0 + above + level / 2))


@dataclass(frozen=True)
class LabelledPairs(Criterion):
    """Spearman correlation of similarities with scores that people gave to pairs.

    Attributes:
        scores: Higher means more alike, `(num_pairs,)`, not all equal.

    Raises:
        InputError: If there are fewer than two different scores.
    """

    name: ClassVar[str] = "labelled pairs (Spearman correlation)"
    scores: Numbers

    def __post_init__(self) -> None:
        """Check the scores."""
        if len(np.unique(self.scores)) < 2:
            raise InputError(
                f"The {len(self.scores)} labelled pairs have one score only; at least two different ones are needed to "
                "tell more alike from less."
            )

    def cosines(self, left: Mapping[View, Array], right: Mapping[View, Array]) -> dict[View, Numbers]:
        """Return the cosine of each pair, `(num_pairs,)`."""
        return {view: np.einsum("nd,nd->n", left[view].astype(np.float64), right[view]) for view in left}

    def items(self, similarities: Numbers) -> Numbers:
        """Return the similarities themselves."""
        return similarities

    def score(self, items: Numbers) -> TaskScore:
        """Return the correlation; 0 where all similarities are equal."""
        varied = bool((items != items[0]).any())
        main = apply_statistic("spearman", items, self.scores) if varied else 0.0
        return TaskScore("cosine_spearman", main, {}, items, self.scores, "spearman")


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Pairs of texts that people scored; higher means more alike."""

    left: Sequence[str]
    right: Sequence[str]
    scores: Numbers
