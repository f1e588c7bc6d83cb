"""Summarization: does a machine summary's similarity to human summaries follow its rated relevance?

Reference: mteb 2.26, `abstasks/text/summarization.py` and `_evaluators/text/summarization_evaluator.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from moee.errors import InputError
from moee.evaluate.tasks.cosine import cosine_matrix
from moee.evaluate.tasks.files import DataError, Indices, Numbers, TaskFolder, Texts
from moee.evaluate.tasks.score import Embed, TaskScore, encode
from moee.evaluate.tasks.task import Tables, Task, TaskData, mteb_rows


@dataclass(frozen=True, slots=True)
class SummarizationData(TaskData):
    """For each article: human summaries, machine summaries, and how relevant people found each of the latter."""

    task_type = "Summarization"
    metric = "cosine_spearman"
    tasks = (Task("SummEval", "Summarization", "SummEval", in_paper=True),)
    human: tuple[Indices, ...]
    machine: tuple[Indices, ...]
    relevance: tuple[Numbers, ...]

    @classmethod
    def read(cls, folder: TaskFolder) -> Self:
        """Read articles, each with a rating for every machine summary; a limit bounds its summaries too."""
        file, texts = folder.scored(), Texts()
        sides = (file.lists(f"{kind}_summaries", str) for kind in ("human", "machine"))
        human, machine = (tuple(texts.add(each[: folder.limit]) for each in side) for side in sides)
        listed = file.lists("relevance", (int, float))
        for number, summaries, ratings in zip(file.lines, file.lists("machine_summaries", str), listed, strict=True):
            if len(summaries) != len(ratings):
                raise DataError(
                    f"{file.path}, line {number}: {len(summaries)} machine_summaries, but field 'relevance' holds "
                    f"{len(ratings)} values."
                )
        relevance = tuple(np.array(each[: folder.limit], dtype=np.float64) for each in listed)
        return cls(folder.name, texts.all(), human, machine, relevance)

    def score(self, embed: Embed, *, seed: int = 42) -> TaskScore:
        """Score articles; encodes all human summaries, then all machine summaries.

        An article whose ratings or whose similarities are all equal is left out, as in mteb.

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
        for cosines, relevance in zip(self._best_cosines(embed), self.relevance, strict=True):
            if len(np.unique(cosines)) == 1 or len(np.unique(relevance)) == 1:
                continue
            result = spearmanr(relevance, cosines)
            ranks.append(float(result.statistic))
            p_values.append(float(result.pvalue))
            linear.append(float(pearsonr(relevance, cosines).statistic))
        if not ranks:
            raise InputError(
                f"The score of {self.name} is NaN: in each of its {len(self.relevance)} articles all similarities or "
                "all ratings are equal. Check that the vectors differ between texts."
            )
        items = np.asarray(ranks)
        metrics = {
            "cosine_spearman": float(items.mean()),
            "cosine_pearson": float(np.mean(linear)),
            "cosine_spearman_v1": float(np.mean([ranks, p_values])),
        }
        return TaskScore("cosine_spearman", metrics["cosine_spearman"], metrics, items)

    def _best_cosines(self, embed: Embed) -> list[Numbers]:
        """Return for each article the cosine of every machine summary with the nearest human one."""
        sides = []
        for rows in (self.human, self.machine):
            vectors = encode(self.name, embed, np.concatenate(rows))
            sides.append(np.split(vectors, np.cumsum([len(each) for each in rows])[:-1]))
        return [cosine_matrix(m, h).max(axis=1).astype(np.float64) for h, m in zip(*sides, strict=True)]

    def listed(self) -> Indices:
        """Return both texts of every comparison of a human with a machine summary."""
        sides = zip(self.human, self.machine, strict=True)
        return np.concatenate([part for h, m in sides for part in (np.tile(h, len(m)), np.tile(m, len(h)))])

    def mteb_tables(self, columns: Mapping[str, str], config: str) -> Tables:
        """Return one row for each article; mteb wants its text too, and reads it only to count its characters."""
        names = ("text", "human_summaries", "machine_summaries", "relevance")
        summaries = ([self.texts_at(rows) for rows in side] for side in (self.human, self.machine))
        ratings = [each.tolist() for each in self.relevance]
        return {config: {"test": mteb_rows(names, [""] * len(self.human), *summaries, ratings)}}
