"""Ranks, correlations and samples of rows, against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from moee.method.moments import average_ranks, spearman, spread


def test_average_ranks_and_spearman_are_scipys() -> None:
    a, b = np.round(np.random.default_rng(4).normal(size=(2, 200)), 1)
    assert average_ranks(a).tolist() == rankdata(a).tolist()
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert math.isnan(spearman(a, np.ones(200)))


def test_equal_values_of_a_matrix_share_a_rank() -> None:
    values = np.float32([[3, 1, 1], [2, 3, 3]])
    assert average_ranks(values).tolist() == [5, 1.5, 1.5, 3, 5, 5]


@pytest.mark.parametrize(("total", "count"), [(10, 4), (4097, 4096), (5, 5), (5, 9), (1, 3), (0, 3), (7, 0), (9, 1)])
def test_rows_are_taken_at_equal_distances_from_first_to_last(total: int, count: int) -> None:
    rows = spread(total, count)
    assert len(rows) == len(set(rows.tolist())) == min(total, count)
    if len(rows) > 1:
        assert (rows[0], rows[-1]) == (0, total - 1)
        assert np.ptp(np.diff(rows)) <= 1


def test_no_limit_takes_every_row() -> None:
    assert spread(5, None).tolist() == [0, 1, 2, 3, 4]
