"""Summarization: does a machine summary's similarity to human summaries follow its rated relevance?

Reference: mteb 2.26, `abstasks/text/summarization.py` and `_evaluators/text/summarization_evaluator.py`.
"""

from __future__ import annotations

import numpy as np

from moee.errors import InputError
from moee.evaluate.datasets import Numbers, SummarizationData
from moee.evaluate.scoring.cosine import cosine_matrix
from moee.evaluate.scoring.score import Embed, TaskScore, encode


def score_summarization(data: SummarizationData, embed: Embed) -> TaskScore:
    """Score articles; encodes all human summaries, then all machine summaries.

    Args:
        data: For each article the human and machine summaries and the relevance of the latter. An article whose
            ratings or whose similarities are all equal is left out, as in mteb.
        embed: The encode call.

    Returns:
        `cosine_spearman` as mteb's `SummEvalSummarization.v2` computes it: the mean over articles of the Spearman
        correlation between a machine summary's best cosine with a human one and its relevance. With it
        `cosine_pearson`, and `cosine_spearman_v1`, the number that the first `SummEval` task reports: by a slip it
        averages correlations and p-values together (mteb issue 1156), and published tables hold it. The items are
        the Spearman correlations of the articles.

    Raises:
        InputError: If vectors are not finite, or no article has varied ratings and similarities.
    """
    from scipy.stats import pearsonr, spearmanr

    ranks, p_values, linear = [], [], []
    for cosines, relevance in zip(_best_cosines(data, embed), data.relevance, strict=True):
        if len(np.unique(cosines)) == 1 or len(np.unique(relevance)) == 1:
            continue
        result = spearmanr(relevance, cosines)
        ranks.append(float(result.statistic))
        p_values.append(float(result.pvalue))
        linear.append(float(pearsonr(relevance, cosines).statistic))
    if not ranks:
        raise InputError(
            f"The score of {data.name} is NaN: in each of its {len(data.relevance)} articles all similarities or all "
            "ratings are equal. Check that the vectors differ between texts."
        )
    items = np.asarray(ranks)
    metrics = {
        "cosine_spearman": float(items.mean()),
        "cosine_pearson": float(np.mean(linear)),
        "cosine_spearman_v1": float(np.mean([ranks, p_values])),
    }
    return TaskScore("cosine_spearman", metrics["cosine_spearman"], metrics, items)


def _best_cosines(data: SummarizationData, embed: Embed) -> list[Numbers]:
    """Return for each article the cosine of every machine summary with the nearest human one."""
    human = encode(data, embed, np.concatenate(data.human))
    machine = encode(data, embed, np.concatenate(data.machine))
    humans = np.split(human, np.cumsum([len(rows) for rows in data.human])[:-1])
    machines = np.split(machine, np.cumsum([len(rows) for rows in data.machine])[:-1])
    return [cosine_matrix(m, h).max(axis=1).astype(np.float64) for m, h in zip(machines, humans, strict=True)]
