"""Classification: accuracy of logistic regression fitted on a few training texts a label.

Reference: mteb 2.26, `abstasks/classification.py` and `_evaluators/sklearn_evaluator.py`.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from moee.errors import InputError
from moee.evaluate.tasks.files import Indices, TaskFolder, Texts, label_names
from moee.evaluate.tasks.score import Embed, TaskScore, encode
from moee.evaluate.tasks.task import Tables, Task, TaskData, mteb_rows
from moee.evaluate.tasks.words import document_frequency, word_counts
from moee.method.moments import spread
from moee.types import Array

SEED = 42
"""Seed of the samples; mteb's."""
_MAX_ITERATIONS = 100  # of the solver, mteb's


def _row(name: str, samples_per_label: int = 8, *, in_paper: bool = False) -> Task:
    return Task(name, "Classification", name, in_paper=in_paper, samples_per_label=samples_per_label)


@dataclass(frozen=True, slots=True)
class ClassificationData(TaskData):
    """Labelled texts; `label_names[label]` is the readable name of a label."""

    task_type = "Classification"
    metric = "accuracy"
    mteb_class = "AbsTaskClassification"
    tasks = (
        _row("EmotionClassification", 16, in_paper=True),
        _row("TweetSentimentExtractionClassification", 32, in_paper=True),
        _row("ToxicConversationsClassification", 16, in_paper=True),
        _row("Banking77Classification"),
        Task(
            "AmazonCounterfactual-en",
            "Classification",
            "AmazonCounterfactualClassification",
            subset="en",
            samples_per_label=32,
        ),
    )
    train: Indices
    train_labels: Indices
    test: Indices
    test_labels: Indices
    label_names: tuple[str, ...]

    @classmethod
    def read(cls, folder: TaskFolder) -> Self:
        """Read the training and the test texts; with a limit at most so many of each, but one of every label."""
        train, test, texts = folder.read("train"), folder.scored(), Texts()
        if folder.limit is not None:
            train = train.only(_spread_by_label(train.labels(), folder.limit))
        test_rows, train_rows = texts.add(test.strings("text")), texts.add(train.strings("text"))
        names = label_names(train, test)
        return cls(folder.name, texts.all(), train_rows, train.labels(), test_rows, test.labels(), names)

    def score(self, embed: Embed, *, seed: int = SEED) -> TaskScore:
        """Score labelled texts; the encode calls are those of `predict_runs`.

        Returns:
            `accuracy`, the mean over the runs, with `accuracy_std`, macro and weighted `f1`, and for two labels `ap`
            of the predicted label. The items are each test text's share of runs that got it right.

        Raises:
            InputError: If vectors are not finite, or a run would draw texts of one label only.
        """
        return summarise("accuracy", self.test_labels, predict_runs(self, embed, seed=seed))

    def samples(self, seed: int = SEED) -> list[Indices]:
        """Return the training texts of every run; their number is the row's, or mteb's default without a row."""
        row = next((row for row in self.tasks if row.name == self.name), _row(self.name))
        return draw_samples(self.train_labels, row.samples_per_label, row.runs, seed)

    def listed(self) -> Indices:
        """Return the training texts."""
        return self.train

    def embedded(self) -> Indices:
        """Return all test texts, and the training texts that some run draws."""
        return np.unique(np.concatenate([self.train[each] for each in self.samples()] + [self.test]))

    def further_floors(self) -> dict[str, TaskScore]:
        """Return naive Bayes, fitted on all of train."""
        return {"naive-bayes": naive_bayes_score(self)}

    def mteb_tables(self, columns: Mapping[str, str], config: str) -> Tables:
        """Return a table of training and one of test texts."""
        names = (columns["input_column_name"], columns["label_column_name"])
        parts = {"train": (self.train, self.train_labels), "test": (self.test, self.test_labels)}
        return {
            config: {
                split: mteb_rows(names, self.texts_at(rows), labels.tolist()) for split, (rows, labels) in parts.items()
            }
        }


def _spread_by_label(labels: Indices, limit: int) -> Indices:
    """Return places of `limit` training texts, each label's at equal distances, and one at least of every label."""
    kinds = np.unique(labels)
    of_label = (np.flatnonzero(labels == kind) for kind in kinds)
    return np.sort(np.concatenate([each[spread(len(each), max(1, limit // len(kinds)))] for each in of_label]))


def draw_samples(labels: Indices, samples_per_label: int, runs: int, seed: int) -> list[Indices]:
    """Draw the training texts of every run, the same ones as mteb.

    mteb shuffles one list again and again with a generator started anew from the same seed each time: the
    samples differ because each begins from the order that the last one left.

    Args:
        labels: `(num_train,)` label of each training text.
        samples_per_label: At most this many texts are taken of each label.
        runs: How many samples to draw.
        seed: Seed of the shuffles.

    Returns:
        For each run the positions of the chosen texts, in the order they were drawn.
    """
    order = list(range(len(labels)))
    drawn = []
    for _ in range(runs):
        np.random.RandomState(seed).shuffle(order)
        taken: Counter[int] = Counter()
        chosen = []
        for position in order:
            label = int(labels[position])
            if taken[label] < samples_per_label:
                chosen.append(position)
                taken[label] += 1
        drawn.append(np.asarray(chosen, dtype=np.int64))
    return drawn


def predict(train: Array, labels: Indices, test: Array, seed: int) -> Indices:
    """Fit logistic regression with mteb's settings and return the predicted label of every test text.

    Args:
        train: `(n, dim)` float32.
        labels: `(n,)` labels of `train`.
        test: `(m, dim)` float32.
        seed: Passed on as mteb does; the solver draws nothing.

    Returns:
        `(m,)` labels.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=_MAX_ITERATIONS, random_state=seed)
    with warnings.catch_warnings():
        # stopping after 100 iterations is the setting, so reaching them is no news
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, labels)
    return np.asarray(model.predict(test), dtype=np.int64)


def summarise(name: str, test_labels: Indices, predictions: Sequence[Indices]) -> TaskScore:
    """Average the metrics of several runs over the same test texts; `name` is that of the main one, an accuracy."""
    from sklearn.metrics import average_precision_score, f1_score

    correct = np.stack([predicted == test_labels for predicted in predictions])
    items = correct.mean(axis=0, dtype=np.float64)
    main = float(items.mean())
    runs = correct.mean(axis=1, dtype=np.float64)
    metrics = {
        name: main,
        f"{name}_std": float(runs.std()),
        "f1": float(np.mean([f1_score(test_labels, p, average="macro") for p in predictions])),
        "f1_weighted": float(np.mean([f1_score(test_labels, p, average="weighted") for p in predictions])),
    }
    if np.array_equal(np.unique(test_labels), [0, 1]):
        metrics["ap"] = float(np.mean([average_precision_score(test_labels, p) for p in predictions]))
    return TaskScore(name, main, metrics, items)


def predict_runs(data: ClassificationData, embed: Embed, *, seed: int) -> list[Indices]:
    """Fit one classifier a run and return what each predicts for all test texts, `(num_test,)`.

    Encodes every training text that some run draws (in file order), then all test texts.

    Raises:
        InputError: If all training texts have one label.
    """
    if len(np.unique(data.train_labels)) < 2:
        raise InputError(
            f"The {len(data.train_labels)} training texts of {data.name} have one label only: there is nothing to tell "
            "apart. Check the file of training texts."
        )
    drawn = data.samples(seed)
    pool = np.unique(np.concatenate(drawn))
    train = encode(data.name, embed, data.train[pool])
    test = encode(data.name, embed, data.test)
    return [predict(train[np.searchsorted(pool, chosen)], data.train_labels[chosen], test, seed) for chosen in drawn]


def naive_bayes_score(data: ClassificationData) -> TaskScore:
    """Score multinomial naive Bayes, fitted on every training text; add-one smoothing.

    A word that training never saw has the smoothed probability of count zero in each class.

    Returns:
        `accuracy`. Not the protocol of the vectors, which see a few texts a label: this floor has seen all of them.
    """
    counts = word_counts(data.texts)
    train = counts[data.train]
    num_words = int((document_frequency(train) > 0).sum())
    classes = np.unique(data.train_labels)
    logs = []
    for label in classes:
        chosen = data.train_labels == label
        in_class = np.asarray(train[np.flatnonzero(chosen)].sum(axis=0)).ravel()
        likelihood = np.log((in_class + 1) / (in_class.sum() + num_words))
        logs.append(counts[data.test] @ likelihood + math.log(chosen.mean()))
    correct = (classes[np.argmax(np.array(logs), axis=0)] == data.test_labels).astype(np.float64)
    accuracy = float(correct.mean())
    return TaskScore("accuracy", accuracy, {"accuracy": accuracy}, correct)
