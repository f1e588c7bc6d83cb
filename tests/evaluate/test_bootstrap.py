"""Intervals of differences: exact statistics on every draw, and sound conclusions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score

from moee.errors import InputError, UnknownNameError
from moee.evaluate.bootstrap import (
    _draws,
    _statistic,
    paired_difference,
    paired_mean_difference,
    statistic_of,
)
from moee.evaluate.tasks import Numbers, TaskScore


def make_score(items: Numbers, targets: Numbers | None, statistic: str) -> TaskScore:
    score = TaskScore(
        metric="m", main=0.0, metrics={}, items=np.asarray(items, float), targets=targets, statistic=statistic
    )
    return with_main(score, statistic_of(score))


def with_main(score: TaskScore, main: float) -> TaskScore:
    return TaskScore(score.metric, main, score.metrics, score.items, score.targets, score.statistic)


def correlated(count: int, noise: float, seed: int) -> tuple[Numbers, Numbers]:
    """Gold values with ties, and noisy estimates of them, some tied too."""
    rng = np.random.default_rng(seed)
    gold = np.round(rng.normal(size=count), 1)
    return np.round(gold + noise * rng.normal(size=count), 2), gold


REFERENCES = {
    "spearman": lambda x, y: spearmanr(x, y).statistic,
    "pearson": lambda x, y: pearsonr(x, y).statistic,
    "average_precision": lambda x, y: average_precision_score(y, x),
    "mean": lambda x, _: x.mean(),
}


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_every_draw_equals_the_reference_on_the_drawn_items(name: str) -> None:
    items, gold = correlated(60, 0.7, 1)
    gold = (gold > 0).astype(float) if name == "average_precision" else gold
    score = make_score(items, None if name == "mean" else gold, name)
    counts = next(_draws(60, 25, np.random.default_rng(2)))
    values = _statistic(score)(counts)
    for row, value in zip(counts, values, strict=True):
        drawn = np.repeat(np.arange(60), row.astype(int))
        assert value == pytest.approx(REFERENCES[name](items[drawn], gold[drawn]), abs=1e-9)
    assert counts.sum(axis=1) == pytest.approx(60)


def test_equal_scores_differ_by_exactly_nothing() -> None:
    items, gold = correlated(200, 1.0, 3)
    score = make_score(items, gold, "spearman")
    interval = paired_difference(score, score, resamples=100)
    assert (interval.difference, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert interval.low <= 0
    assert interval.high >= 0


def test_a_clearly_better_setting_is_above_zero_and_pairing_narrows_the_interval() -> None:
    items, gold = correlated(400, 0.6, 4)
    rng = np.random.default_rng(5)
    better, worse = make_score(items, gold, "spearman"), make_score(items + rng.normal(size=400), gold, "spearman")
    interval = paired_difference(better, worse)
    assert interval.low > 0
    assert interval.low < interval.difference < interval.high
    assert paired_difference(worse, better).high < 0
    # a small change of every item: far more certain than two samples drawn apart would be
    shifted = make_score(items + 0.05 * rng.normal(size=400), gold, "spearman")
    close = paired_difference(better, shifted)
    assert close.high - close.low < (interval.high - interval.low) / 3


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Normal means differ by 0.3; 95 % of the intervals should hold it. 200 trials: three deviations are 4.6 %."""
    rng, held = np.random.default_rng(6), 0
    for trial in range(200):
        base = rng.normal(size=80)
        a, b = make_score(base + 0.3 + 0.5 * rng.normal(size=80), None, "mean"), make_score(base, None, "mean")
        interval = paired_difference(a, b, resamples=400, seed=trial)
        held += interval.low <= 0.3 <= interval.high
    assert 0.90 <= held / 200 <= 0.99


def test_mean_over_tasks_averages_differences_and_is_narrower_than_one_task() -> None:
    pairs = []
    for seed in range(6):
        items, gold = correlated(150, 0.8, seed)
        noise = np.random.default_rng(100 + seed).normal(size=150)
        pairs.append((make_score(items, gold, "spearman"), make_score(items + 0.4 * noise, gold, "spearman")))
    firsts, seconds = ([pair[side] for pair in pairs] for side in (0, 1))
    mean = paired_mean_difference(firsts, seconds, resamples=500)
    assert mean.difference == pytest.approx(np.mean([a.main - b.main for a, b in pairs]))
    widths = [one.high - one.low for one in (paired_difference(a, b, resamples=500) for a, b in pairs)]
    assert mean.high - mean.low < 0.6 * np.mean(widths)  # independent tasks: 1 / sqrt(6) is 0.41


def test_the_seed_decides_the_draws() -> None:
    items, gold = correlated(100, 0.7, 8)
    a, b = make_score(items, gold, "pearson"), make_score(items**3, gold, "pearson")
    assert paired_difference(a, b, seed=1) == paired_difference(a, b, seed=1)
    assert paired_difference(a, b, seed=1) != paired_difference(a, b, seed=2)


def test_draws_without_a_positive_are_left_out_and_counted() -> None:
    targets = np.array([1.0, 0, 0, 0, 0])
    a = make_score(np.array([0.9, 0.5, 0.4, 0.3, 0.2]), targets, "average_precision")
    b = make_score(np.array([0.1, 0.5, 0.4, 0.3, 0.2]), targets, "average_precision")
    interval = paired_difference(a, b, resamples=1000)
    # an item is missed with probability (4/5)^5 = 0.33
    assert 600 < interval.resamples < 740
    assert interval.low > 0


def test_scores_of_other_items_are_refused() -> None:
    items, gold = correlated(50, 0.7, 9)
    score = make_score(items, gold, "spearman")
    with pytest.raises(InputError, match=r"50 items .* of 49"):
        paired_difference(score, make_score(items[1:], gold[1:], "spearman"))
    with pytest.raises(InputError, match="gold values differ"):
        paired_difference(score, make_score(items, gold + np.arange(50), "spearman"))
    with pytest.raises(InputError, match="1 scores on one side and 0"):
        paired_mean_difference([score], [])
    with pytest.raises(InputError, match="resamples is 0"):
        paired_difference(score, score, resamples=0)
    with pytest.raises(InputError, match=r"but the score says 0\.5"):
        paired_difference(with_main(score, 0.5), score)
    with pytest.raises(UnknownNameError, match="spearman"):
        make_score(items, gold, "speerman")


def test_an_undefined_statistic_is_refused() -> None:
    constant = TaskScore("m", 0.0, {}, np.ones(5), np.arange(5.0), "spearman")
    with pytest.raises(InputError, match="nan, but the score says"):
        paired_difference(constant, constant)


@pytest.mark.slow
def test_ten_thousand_pairs_have_a_narrow_interval() -> None:
    items, gold = correlated(10_000, 0.7, 10)
    a, b = make_score(items, gold, "spearman"), make_score(np.round(items**3, 1), gold, "spearman")
    found = paired_difference(a, b, resamples=200)
    assert found.low <= found.difference <= found.high
    assert found.high - found.low < 0.02
