"""What of an index is mapped."""

from __future__ import annotations

import numpy as np
import pytest

from moee.errors import InputError
from moee.maps.points import read_points
from moee.method.fusion import fuse
from tests.maps.conftest import PER_TOPIC, MakeIndex, sentences


def test_points_are_the_fused_vectors_of_the_store(make_index: MakeIndex) -> None:
    index = make_index()
    points = read_points(index, max_points=1000, seed=0)
    stored = next(index.store.scan())
    expected = fuse(index.manifest.layout.split(stored.vectors), "sum", index.manifest.alpha)
    np.testing.assert_array_equal(points.vectors, expected)
    assert [record.id for record in points.records] == [record.id for record in stored.records]
    assert (points.weights, points.num_records) == ({"hs": 1.0, "rw": index.manifest.alpha}, 3 * PER_TOPIC)


def test_the_fusion_is_the_index_s_own_unless_another_is_asked_for(make_index: MakeIndex) -> None:
    index = make_index(fusion="rw")
    own = read_points(index, max_points=1000, seed=0)
    assert own.weights == {"hs": 0.0, "rw": 1.0}
    assert own.vectors.shape[1] == index.manifest.layout.dims["rw"]
    hs = read_points(index, max_points=1000, seed=0, fusion="hs")
    assert hs.vectors.shape[1] == index.manifest.layout.dims["hs"]
    heavy = read_points(index, max_points=1000, seed=0, fusion="sum", alpha=9.0)
    assert heavy.weights == {"hs": 1.0, "rw": 9.0}
    lengths = np.linalg.norm(heavy.vectors[:, : index.manifest.layout.dims["hs"]], axis=1)
    np.testing.assert_allclose(lengths, np.sqrt(1 / 10), atol=1e-6)


def test_a_large_index_is_sampled_and_the_seed_fixes_the_sample(make_index: MakeIndex) -> None:
    index = make_index()
    everything = read_points(index, max_points=60, seed=0)
    few = read_points(index, max_points=10, seed=0)
    assert (len(few), few.num_records) == (10, 60)
    at = [[record.id for record in everything.records].index(record.id) for record in few.records]
    assert at == sorted(at)
    np.testing.assert_array_equal(few.vectors, everything.vectors[at])
    again, other = (read_points(index, max_points=10, seed=seed) for seed in (0, 1))
    assert again.records == few.records
    assert other.records != few.records


def test_an_index_of_too_few_texts_is_refused(make_index: MakeIndex) -> None:
    index = make_index(sentences()[:4])
    with pytest.raises(InputError, match=r"needs 5 texts that differ, and the index holds 4 texts of which 4 differ"):
        read_points(index, max_points=1000, seed=0)


def test_duplicates_do_not_count(make_index: MakeIndex) -> None:
    index = make_index()
    records = next(index.store.scan()).records
    index.store.upsert(records, np.ones((len(records), index.manifest.layout.dim), dtype=np.float32))
    with pytest.raises(InputError, match=r"holds 60 texts of which 1 differ. Add texts"):
        read_points(index, max_points=1000, seed=0)


def test_values_out_of_range_are_refused(make_index: MakeIndex) -> None:
    index = make_index()
    with pytest.raises(InputError, match="max_points is 4; a map needs 5 points or more"):
        read_points(index, max_points=4, seed=0)
    with pytest.raises(InputError, match=r"fusion='concat' cannot be searched.*Use weighted, hs, rw, sum"):
        read_points(index, max_points=1000, seed=0, fusion="concat")
    with pytest.raises(InputError, match="alpha is -1"):
        read_points(index, max_points=1000, seed=0, alpha=-1.0)
    with pytest.raises(InputError, match="weights name tokens, and there are the views hs, rw here"):
        read_points(index, max_points=1000, seed=0, weights={"tokens": 1.0})


def test_a_map_can_be_of_any_views(make_index: MakeIndex) -> None:
    index = make_index(weights={"hs": 1.0, "tokens": 0.5}, prompt_tokens="apart")
    own = read_points(index, max_points=1000, seed=0)
    dims = index.manifest.layout.dims
    assert own.weights == {"hs": 1.0, "rw": 0.0, "tokens": 0.5}
    assert own.vectors.shape[1] == dims["hs"] + dims["tokens"]
    one = read_points(index, max_points=1000, seed=0, weights={"tokens": 1.0})
    np.testing.assert_allclose(one.vectors, own.vectors[:, dims["hs"] :] * np.sqrt(3), atol=1e-6)
