"""Document similarity: correlation of cosine and human similarity over all pairs of documents.

The measure of Lee, Pincombe and Welsh (2005), "An empirical evaluation of models of text document similarity".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from moee.evaluate.tasks.cosine import cosine_matrix
from moee.evaluate.tasks.files import DataError, Indices, Numbers, TaskFolder, Texts
from moee.evaluate.tasks.score import Embed, TaskScore, apply_statistic, encode, require_variation
from moee.evaluate.tasks.task import Task, TaskData


@dataclass(frozen=True, slots=True)
class DocumentSimilarityData(TaskData):
    """Documents and the mean human rating of every two of them, `(n, n)`, of which the pairs i < j are used."""

    task_type = "DocumentSimilarity"
    metric = "cosine_pearson"
    tasks = (Task("Lee50", "DocumentSimilarity", None),)
    documents: Indices
    similarity: Numbers

    @classmethod
    def read(cls, folder: TaskFolder) -> Self:
        """Read documents, each with its rating beside every document of the file."""
        file, texts = folder.scored(), Texts()
        documents = texts.add(file.strings("text"))
        rows = file.lists("similarity_to", (int, float))
        for number, row in zip(file.lines, rows, strict=True):
            if len(row) != file.num_rows:
                raise DataError(
                    f"{file.path}, line {number}: field 'similarity_to' holds {len(row)} values; it must hold "
                    f"{file.num_rows}, one for each document."
                )
        ratings = np.array(rows, dtype=np.float64)[:, file.places]
        return cls(folder.name, texts.all(), documents, ratings)

    def score(self, embed: Embed, *, seed: int = 42) -> TaskScore:
        """Score documents; encodes them all in one call.

        Returns:
            `cosine_pearson`, with `cosine_spearman`. The items are the cosines of the pairs, row by row. Pairs share
            documents, so they are not independent.

        Raises:
            InputError: If vectors are not finite, or all similarities or all human values are equal.
        """
        vectors = encode(self.name, embed, self.documents)
        above = np.triu_indices(len(vectors), k=1)
        cosines = cosine_matrix(vectors, vectors)[above].astype(np.float64)
        targets = self.similarity[above]
        require_variation(self.name, cosines, "similarities")
        require_variation(self.name, targets, "human similarities")
        main = apply_statistic("pearson", cosines, targets)
        metrics = {"cosine_pearson": main, "cosine_spearman": apply_statistic("spearman", cosines, targets)}
        return TaskScore("cosine_pearson", main, metrics, cosines, targets, "pearson")

    def listed(self) -> Indices:
        """Return the documents."""
        return self.documents
