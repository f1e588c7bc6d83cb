"""Semantic textual similarity: Spearman of cosine similarity and human score.

Reference: mteb 2.26, `abstasks/sts.py` and `_evaluators/any_sts_evaluator.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from moee.evaluate.tasks.cosine import paired_cosines
from moee.evaluate.tasks.files import Indices, Numbers, TaskFolder, Texts
from moee.evaluate.tasks.score import Embed, TaskScore, apply_statistic, encode, require_variation
from moee.evaluate.tasks.task import Tables, Task, TaskData, mteb_rows, no_mteb
from moee.evaluate.tasks.words import Sparse, paired, plane, word_counts


def _row(name: str) -> Task:
    return Task(name, "STS", name, in_paper=True)


@dataclass(frozen=True, slots=True)
class STSData(TaskData):
    """Scored pairs.

    Attributes:
        left: First text of each pair.
        right: Second text of each pair.
        scores: Similarity of each pair, given by people.
        groups: One name per pair if the groups are scored apart, else empty.
    """

    task_type = "STS"
    metric = "cosine_spearman"
    mteb_class = "AbsTaskSTS"
    tasks = (
        _row("STS12"),
        _row("STS13"),
        _row("STS14"),
        _row("STS15"),
        _row("STS16"),
        _row("BIOSSES"),
        _row("SICK-R"),
        _row("STSBenchmark"),
        Task(
            "WordSimilarity",
            "STS",
            None,
            in_means=False,
            note="single words: the mean of SimLex-999 and WordSim-353; not in the means, TF-IDF knows nothing of them",
        ),
    )
    left: Indices
    right: Indices
    scores: Numbers
    groups: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: TaskFolder) -> Self:
        """Read pairs; a field `set` names groups that are scored apart."""
        file, texts = folder.scored(), Texts()
        left, right = texts.add(file.strings("sentence1")), texts.add(file.strings("sentence2"))
        groups = tuple(file.strings("set")) if "set" in file.rows[0] else ()
        return cls(folder.name, texts.all(), left, right, file.numbers("score"), groups)

    def score(self, embed: Embed, *, seed: int = 42) -> TaskScore:
        """Score the pairs; encodes the left sentences, then the right ones.

        Returns:
            `cosine_spearman`, with `cosine_pearson`. With groups each is scored apart, the main score is their mean,
            `cosine_spearman_<group>` stands beside it, and the items are not similarities but each pair's share of
            the mean, see `_shares`.

        Raises:
            InputError: If vectors are not finite, or all similarities (of a group) or all scores are equal.
        """
        left = encode(self.name, embed, self.left)
        cosines = paired_cosines(left, encode(self.name, embed, self.right)).astype(np.float64)
        if self.groups:
            return self._score_groups(cosines)
        require_variation(self.name, cosines, "similarities")
        require_variation(self.name, self.scores, "scores")
        main = apply_statistic("spearman", cosines, self.scores)
        metrics = {"cosine_spearman": main, "cosine_pearson": apply_statistic("pearson", cosines, self.scores)}
        return TaskScore("cosine_spearman", main, metrics, cosines, self.scores, "spearman")

    def _score_groups(self, cosines: Numbers) -> TaskScore:
        names = list(dict.fromkeys(self.groups))
        spearmans: dict[str, float] = {}
        pearsons: list[float] = []
        shares = np.empty(len(cosines))
        for name in names:
            chosen = np.asarray(self.groups) == name
            require_variation(self.name, cosines[chosen], f"similarities of group {name!r}")
            require_variation(self.name, self.scores[chosen], f"scores of group {name!r}")
            spearmans[name] = apply_statistic("spearman", cosines[chosen], self.scores[chosen])
            pearsons.append(apply_statistic("pearson", cosines[chosen], self.scores[chosen]))
            weight = len(cosines) / (len(names) * int(chosen.sum()))
            shares[chosen] = weight * _shares(cosines[chosen], self.scores[chosen], spearmans[name])
        main = float(np.mean(list(spearmans.values())))
        metrics = {"cosine_spearman": main, "cosine_pearson": float(np.mean(pearsons))}
        metrics |= {f"cosine_spearman_{name}": value for name, value in spearmans.items()}
        return TaskScore("cosine_spearman", main, metrics, shares, None, "mean")

    def listed(self) -> Indices:
        """Return both sides of all pairs."""
        return np.concatenate([self.left, self.right])

    def has_tfidf(self) -> bool:
        """Return whether word counts tell the pairs (of every group) apart; single words hardly ever share one."""
        cosines = paired(word_counts(self.texts), self.left, self.right)
        groups = np.asarray(self.groups or ("",) * len(cosines))
        return all(cosines[groups == name].any() for name in np.unique(groups))

    def score_tfidf(self, vectors: Sparse, *, seed: int = 42) -> TaskScore:
        """Score the pairs' exact cosines."""
        return self.score(plane(paired(vectors, self.left, self.right)), seed=seed)

    def mteb_tables(self, columns: Mapping[str, str], config: str) -> Tables:
        """Return one table of pairs; mteb knows no groups."""
        if self.groups:
            raise no_mteb(self, "groups that are scored apart")
        names = (columns["input1_column_name"], columns["input2_column_name"], "score")
        sides = (self.texts_at(self.left), self.texts_at(self.right))
        return {config: {"test": mteb_rows(names, *sides, self.scores.tolist())}}


def _shares(cosines: Numbers, scores: Numbers, spearman: float) -> Numbers:
    """Split a Spearman correlation into one value a pair whose mean is the correlation.

    A mean of correlations is no mean over pairs, so a bootstrap over pairs needs another form of it: the correlation
    plus each pair's influence on it, `x y - r (x^2 + y^2) / 2` for standardised ranks x and y, which sums to zero.
    """
    from scipy.stats import rankdata, zscore

    x, y = zscore(rankdata(cosines)), zscore(rankdata(scores))
    return np.asarray(spearman + x * y - spearman * (x**2 + y**2) / 2)
