"""Document similarity: correlation of cosine and human similarity over all pairs of documents.

The measure of Lee, Pincombe and Welsh (2005), "An empirical evaluation of models of text document similarity".
"""

from __future__ import annotations

import numpy as np

from moee.evaluate.datasets import DocumentSimilarityData
from moee.evaluate.scoring.cosine import cosine_matrix
from moee.evaluate.scoring.score import Embed, TaskScore, apply_statistic, encode, require_variation


def score_documents(data: DocumentSimilarityData, embed: Embed) -> TaskScore:
    """Score documents; encodes them all in one call.

    Args:
        data: Documents and their mean human similarity, of which the pairs i < j are used.
        embed: The encode call.

    Returns:
        `cosine_pearson`, with `cosine_spearman`. The items are the cosines of the pairs, row by row. Pairs share
        documents, so they are not independent.

    Raises:
        InputError: If vectors are not finite, or all similarities or all human values are equal.
    """
    vectors = encode(data, embed, data.documents)
    above = np.triu_indices(len(vectors), k=1)
    cosines = cosine_matrix(vectors, vectors)[above].astype(np.float64)
    targets = data.similarity[above]
    require_variation(data, cosines, "similarities")
    require_variation(data, targets, "human similarities")
    main = apply_statistic("pearson", cosines, targets)
    metrics = {"cosine_pearson": main, "cosine_spearman": apply_statistic("spearman", cosines, targets)}
    return TaskScore("cosine_pearson", main, metrics, cosines, targets, "pearson")
