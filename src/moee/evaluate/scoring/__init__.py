"""From vectors to a score: one module for each type of task.

`score(data, embed)` gives the main score that mteb 2.26 gives for the same vectors, without mteb: scikit-learn and
scipy are enough. Nothing here knows a model or a setting; vectors come from the `embed` that is passed in, one call
for each encode call of mteb and in its order.
"""

from __future__ import annotations

from moee.errors import InputError, MissingExtraError
from moee.evaluate.datasets import (
    ClassificationData,
    ClusteringData,
    DocumentSimilarityData,
    PairData,
    RerankingData,
    RetrievalData,
    STSData,
    SummarizationData,
    TaskData,
)
from moee.evaluate.scoring.classification import score_classification
from moee.evaluate.scoring.clustering import score_clustering
from moee.evaluate.scoring.documents import score_documents
from moee.evaluate.scoring.pairs import score_pairs
from moee.evaluate.scoring.reranking import score_reranking
from moee.evaluate.scoring.retrieval import score_retrieval
from moee.evaluate.scoring.score import Embed, TaskScore, apply_statistic, check_finite
from moee.evaluate.scoring.sts import score_sts
from moee.evaluate.scoring.summarization import score_summarization

__all__ = ["Embed", "TaskScore", "apply_statistic", "score"]


def score(data: TaskData, embed: Embed, *, seed: int = 42) -> TaskScore:
    """Score one task.

    Args:
        data: The task. For classification the training texts a label and the number of runs come from its row in
            `tasks.TASKS`, or are mteb's defaults of 8 and 10 for a name without a row.
        embed: The encode call.
        seed: Of samples and clusters; mteb's is 42.

    Returns:
        The main score, unrounded, with what it was computed from.

    Raises:
        InputError: If vectors are not finite or not one for each text, or the score would be NaN; names the task.
        MissingExtraError: If scikit-learn or scipy is not installed.
    """
    try:
        found = _score(data, embed, seed)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("sklearn", "scipy"):
            raise
        raise MissingExtraError("scikit-learn", "scoring", "evaluate") from error
    return check_finite(data, found)


def _score(data: TaskData, embed: Embed, seed: int) -> TaskScore:  # noqa: PLR0911 - one line for each type
    match data:
        case STSData():
            return score_sts(data, embed)
        case PairData():
            return score_pairs(data, embed)
        case ClassificationData():
            return score_classification(data, embed, seed=seed)
        case ClusteringData():
            return score_clustering(data, embed, seed=seed)
        case RerankingData():
            return score_reranking(data, embed)
        case RetrievalData():
            return score_retrieval(data, embed)
        case SummarizationData():
            return score_summarization(data, embed)
        case DocumentSimilarityData():
            return score_documents(data, embed)
    raise InputError(f"{data.name} is a {type(data).__name__}; there is no scoring for it. Load it with `load_task`.")
