"""Semantic textual similarity: Spearman of cosine similarity and human score.

Reference: mteb 2.26, `abstasks/sts.py` and `_evaluators/any_sts_evaluator.py`.
"""

from __future__ import annotations

import numpy as np

from moee.evaluate.datasets import Numbers, STSData
from moee.evaluate.scoring.cosine import paired_cosines
from moee.evaluate.scoring.score import Embed, TaskScore, apply_statistic, encode, require_variation


def score_sts(data: STSData, embed: Embed) -> TaskScore:
    """Score sentence pairs; encodes the left sentences, then the right ones.

    Args:
        data: The pairs. With `groups`, each group is scored apart and the main score is the mean of the groups.
        embed: The encode call.

    Returns:
        `cosine_spearman`, with `cosine_pearson`. With groups also `cosine_spearman_<group>`, and the items are not
        similarities but each pair's share of the mean, see `_shares`.

    Raises:
        InputError: If vectors are not finite, or all similarities (of a group) or all scores are equal.
    """
    left = encode(data, embed, data.left)
    cosines = paired_cosines(left, encode(data, embed, data.right)).astype(np.float64)
    if data.groups:
        return _score_groups(data, cosines)
    require_variation(data, cosines, "similarities")
    require_variation(data, data.scores, "scores")
    main = apply_statistic("spearman", cosines, data.scores)
    metrics = {"cosine_spearman": main, "cosine_pearson": apply_statistic("pearson", cosines, data.scores)}
    return TaskScore("cosine_spearman", main, metrics, cosines, data.scores, "spearman")


def _score_groups(data: STSData, cosines: Numbers) -> TaskScore:
    groups = np.asarray(data.groups)
    names = list(dict.fromkeys(data.groups))
    spearmans: dict[str, float] = {}
    pearsons: list[float] = []
    shares = np.empty(len(cosines))
    for name in names:
        chosen = groups == name
        require_variation(data, cosines[chosen], f"similarities of group {name!r}")
        require_variation(data, data.scores[chosen], f"scores of group {name!r}")
        spearmans[name] = apply_statistic("spearman", cosines[chosen], data.scores[chosen])
        pearsons.append(apply_statistic("pearson", cosines[chosen], data.scores[chosen]))
        weight = len(cosines) / (len(names) * int(chosen.sum()))
        shares[chosen] = weight * _shares(cosines[chosen], data.scores[chosen], spearmans[name])
    main = float(np.mean(list(spearmans.values())))
    metrics = {"cosine_spearman": main, "cosine_pearson": float(np.mean(pearsons))}
    metrics |= {f"cosine_spearman_{name}": value for name, value in spearmans.items()}
    return TaskScore("cosine_spearman", main, metrics, shares, None, "mean")


def _shares(cosines: Numbers, scores: Numbers, spearman: float) -> Numbers:
    """Split a Spearman correlation into one value a pair whose mean is the correlation.

    A mean of correlations is no mean over pairs, so a bootstrap over pairs needs another form of it: the correlation
    plus each pair's influence on it, `x y - r (x^2 + y^2) / 2` for standardised ranks x and y, which sums to zero.
    """
    from scipy.stats import rankdata, zscore

    x, y = zscore(rankdata(cosines)), zscore(rankdata(scores))
    return np.asarray(spearman + x * y - spearman * (x**2 + y**2) / 2)
