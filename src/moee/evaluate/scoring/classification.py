"""Classification: accuracy of logistic regression fitted on a few training texts a label.

Reference: mteb 2.26, `abstasks/classification.py` and `_evaluators/sklearn_evaluator.py`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from moee.errors import InputError
from moee.evaluate.datasets import ClassificationData, Indices
from moee.evaluate.scoring.score import Embed, TaskScore, encode
from moee.evaluate.tasks import TASKS
from moee.types import Array

_MAX_ITERATIONS = 100  # of the solver, mteb's


def draw_samples(labels: Indices, samples_per_label: int, runs: int, seed: int) -> list[Indices]:
    """Draw the training texts of every run, the same ones as mteb.

    mteb shuffles one list again and again with a generator started anew from the same seed each time: the
    samples differ because each begins from the order that the last one left.

    Args:
        labels: `(num_train,)` label of each training text.
        samples_per_label: At most this many texts are taken of each label.
        runs: How many samples to draw.
        seed: Of the shuffles.

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


def predict_runs(
    data: ClassificationData, embed: Embed, *, seed: int, samples_per_label: int, runs: int
) -> list[Indices]:
    """Fit one classifier a run and return what each predicts for all test texts, `(num_test,)`.

    Encodes every training text that some run draws (in file order), then all test texts.
    """
    drawn = draw_samples(data.train_labels, samples_per_label, runs, seed)
    pool = np.unique(np.concatenate(drawn))
    train = encode(data, embed, data.train[pool])
    test = encode(data, embed, data.test)
    return [predict(train[np.searchsorted(pool, chosen)], data.train_labels[chosen], test, seed) for chosen in drawn]


def sampling(name: str) -> tuple[int, int]:
    """Return the training texts a label and the number of runs of a task: its row's, or mteb's defaults without one."""
    row = next((row for row in TASKS if row.name == name), None)
    return (row.samples_per_label, row.runs) if row else (8, 10)


def score_classification(data: ClassificationData, embed: Embed, *, seed: int = 42) -> TaskScore:
    """Score labelled texts; the encode calls are those of `predict_runs`.

    Args:
        data: Training and test texts with labels.
        embed: The encode call.
        seed: Of the samples; mteb's is 42.

    Returns:
        `accuracy`, the mean over the runs, with `accuracy_std`, macro and weighted `f1`, and for two labels `ap` of the
        predicted label. The items are each test text's share of runs that got it right.

    Raises:
        InputError: If vectors are not finite, or a run would draw texts of one label only.
    """
    if len(np.unique(data.train_labels)) < 2:
        raise InputError(
            f"The {len(data.train_labels)} training texts of {data.name} have one label only: there is nothing to tell "
            "apart. Check the file of training texts."
        )
    samples_per_label, runs = sampling(data.name)
    predictions = predict_runs(data, embed, seed=seed, samples_per_label=samples_per_label, runs=runs)
    return summarise("accuracy", data.test_labels, predictions)
