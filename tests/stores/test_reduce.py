from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moee.errors import CheckpointError, InputError, UnknownNameError
from moee.method.fusion import unit
from moee.stores.reduce import METHODS, Reducer
from moee.types import Array, View

HIDDEN, ROUTING = 40, 24
RNG = np.random.default_rng(5)


def blocks(num_texts: int) -> dict[View, Array]:
    """Unit blocks whose variance falls along directions of their own."""
    turn_h, turn_r = (np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))[0] for d in (HIDDEN, ROUTING))
    h = (RNG.standard_normal((num_texts, HIDDEN)) * 0.85 ** np.arange(HIDDEN)) @ turn_h
    r = (RNG.standard_normal((num_texts, ROUTING)) * 0.7 ** np.arange(ROUTING)) @ turn_r
    return {"hs": unit(h), "rw": unit(r)}


FITTED, OTHERS = blocks(500), blocks(300)


def products(h: np.ndarray, r: np.ndarray, alpha: float) -> np.ndarray:
    return (h @ h.T + alpha * r @ r.T)[np.triu_indices(len(h), 1)]


@pytest.mark.parametrize("method", METHODS)
def test_blocks_come_back_short_and_of_unit_length(method: str) -> None:
    reducer = Reducer.fit(FITTED, 20, alpha=0.5, method=method)
    h, r = reducer.reduce(OTHERS).values()
    assert (h.shape, r.shape) == ((300, reducer.hidden_dim), (300, reducer.routing_dim))
    assert reducer.hidden_dim + reducer.routing_dim == reducer.dims == 20
    assert (h.dtype, r.dtype) == (np.float32, np.float32)
    for block in (h, r):
        assert np.allclose(np.linalg.norm(block, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dims", [2, 7, 19])
def test_a_prefix_is_the_reducer_of_that_size(method: str, dims: int) -> None:
    long, short = (Reducer.fit(FITTED, each, alpha=0.3, method=method) for each in (20, dims))
    for a, b in zip(long.truncate(dims).reduce(OTHERS).values(), short.reduce(OTHERS).values(), strict=True):
        assert np.abs(a - b).max() < 1e-5


def test_principal_directions_lose_less_than_random_ones_and_more_lose_less() -> None:
    exact = products(*OTHERS.values(), 0.5)

    def loss(method: str, dims: int) -> float:
        found = products(*Reducer.fit(FITTED, dims, alpha=0.5, method=method).reduce(OTHERS).values(), 0.5)
        return float(1 - np.corrcoef(exact, found)[0, 1])

    assert loss("pca", 16) < 0.5 * loss("random", 16)
    assert loss("pca", 32) < loss("pca", 16) < loss("pca", 8) < loss("pca", 4)
    assert loss("random", 48) < loss("random", 8)


def test_the_division_of_dimensions_is_near_the_best_one() -> None:
    """Every other division of 16 is tried: none has much less squared error."""
    exact = products(*OTHERS.values(), 0.5)
    full = Reducer.fit(FITTED, 60, alpha=0.5)

    def loss(hidden: int, routing: int) -> float:
        h = unit(OTHERS["hs"] @ full.hidden_directions[:, :hidden])
        r = unit(OTHERS["rw"] @ full.routing_directions[:, :routing])
        return float(np.mean((products(h, r, 0.5) - exact) ** 2))

    chosen = Reducer.fit(FITTED, 16, alpha=0.5)
    losses = [loss(hidden, 16 - hidden) for hidden in range(2, 15)]
    assert loss(chosen.hidden_dim, chosen.routing_dim) < 1.25 * min(losses)


def test_a_larger_alpha_gives_routing_more_dimensions() -> None:
    for method in METHODS:
        found = [Reducer.fit(FITTED, 32, alpha=alpha, method=method).routing_dim for alpha in (0.0, 0.2, 1.0, 5.0)]
        assert found == sorted(found)
        assert found[0] < found[-1]


@pytest.mark.parametrize("method", METHODS)
def test_neither_block_gets_less_than_an_eighth(method: str) -> None:
    assert Reducer.fit(FITTED, 32, alpha=0.0, method=method).routing_dim == 4
    assert Reducer.fit(FITTED, 32, alpha=1e6, method=method).hidden_dim >= 4


def test_random_directions_depend_on_the_seed_alone() -> None:
    first, second = Reducer.fit(FITTED, 8, alpha=1, method="random"), Reducer.fit(OTHERS, 8, alpha=1, method="random")
    assert np.array_equal(first.hidden_directions, second.hidden_directions)
    other = Reducer.fit(FITTED, 8, alpha=1, method="random", seed=1)
    assert not np.allclose(first.hidden_directions, other.hidden_directions)


@pytest.mark.parametrize("method", METHODS)
def test_directions_are_orthonormal(method: str) -> None:
    reducer = Reducer.fit(FITTED, 20, alpha=0.5, method=method)
    for directions in (reducer.hidden_directions, reducer.routing_directions):
        assert np.allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-5)


def test_fewer_texts_than_dimensions_can_be_fitted() -> None:
    few = {view: block[:12] for view, block in FITTED.items()}
    reducer = Reducer.fit(few, 10, alpha=0.5)
    assert reducer.num_texts == 12
    with pytest.raises(InputError, match=r"12 texts give 11 \+ 11 directions; take more texts"):
        Reducer.fit(few, 30, alpha=0.5)
    assert Reducer.fit(few, 30, alpha=0.5, method="random").dims == 30


@pytest.mark.parametrize("dims", [-1, 0, 1, 64, 1000])
def test_impossible_sizes_are_refused_with_what_is_allowed(dims: int) -> None:
    with pytest.raises(InputError, match=rf"{dims} dimensions were asked for; allowed are 2 to 63"):
        Reducer.fit(FITTED, dims, alpha=0.5)


@pytest.mark.parametrize("dims", [1, 21])
def test_a_prefix_that_is_none_is_refused(dims: int) -> None:
    with pytest.raises(InputError, match=f"{dims} dimensions were asked for; allowed are 2 to 20"):
        Reducer.fit(FITTED, 20, alpha=0.5).truncate(dims)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown reduction 'pcs'.*Did you mean 'pca'"):
        Reducer.fit(FITTED, 8, alpha=0.5, method="pcs")


def test_blocks_of_another_model_are_refused() -> None:
    with pytest.raises(InputError, match="hs blocks of 40 dimensions; got 39"):
        Reducer.fit(FITTED, 8, alpha=0.5).reduce({"hs": OTHERS["hs"][:, 1:], "rw": OTHERS["rw"]})


def test_a_saved_reducer_is_the_same(tmp_path: Path) -> None:
    reducer = Reducer.fit(FITTED, 20, alpha=0.5)
    reducer.save(tmp_path / "reducer.safetensors")
    again = Reducer.load(tmp_path / "reducer.safetensors")
    assert (again.method, again.alpha, again.num_texts, again.dims) == ("pca", 0.5, 500, 20)
    for a, b in zip(
        again.truncate(9).reduce(OTHERS).values(), reducer.truncate(9).reduce(OTHERS).values(), strict=True
    ):
        assert np.array_equal(a, b)


def test_damaged_and_newer_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "reducer.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="is not a readable reducer"):
        Reducer.load(path)
    with monkeypatch.context() as patch:
        patch.setattr("moee.stores.reduce.FORMAT_VERSION", 2)
        Reducer.fit(FITTED, 20, alpha=0.5).save(path)
    with pytest.raises(CheckpointError, match="reducer format 2; this program reads format 1"):
        Reducer.load(path)


def test_turning_keeps_products_and_makes_dimensions_vary_alike(tmp_path: Path) -> None:
    plain = Reducer.fit(FITTED, 24, alpha=0.5)
    turned = plain.turned()
    assert (turned.is_turned, plain.is_turned, turned.dims) == (True, False, 24)
    for a, b in zip(plain.reduce(OTHERS).values(), turned.reduce(OTHERS).values(), strict=True):
        assert np.abs(a @ a.T - b @ b.T).max() < 1e-5
        assert np.ptp(np.log(b.var(axis=0))) < np.ptp(np.log(a.var(axis=0)))
    turned.save(tmp_path / "reducer.safetensors")
    assert Reducer.load(tmp_path / "reducer.safetensors").is_turned
    assert turned.truncate(24).dims == 24
    with pytest.raises(InputError, match="12 dimensions were asked for; allowed are 24: those of a binary index"):
        turned.truncate(12)


def test_one_view_alone_can_be_shortened() -> None:
    reducer = Reducer.fit(FITTED, 20, alpha=0.5)
    short = reducer.shortened(3, ["rw"]).reduce({"rw": OTHERS["rw"]})
    assert list(short) == ["rw"]
    np.testing.assert_allclose(short["rw"], unit(OTHERS["rw"] @ reducer.routing_directions[:, :3]), atol=1e-6)
    most = reducer.hidden_dim
    with pytest.raises(InputError, match=rf"dimensions is {most + 1} with fusion='hs'.*allows 1 to {most}\."):
        reducer.shortened(most + 1, ["hs"])
    with pytest.raises(InputError, match=f"allows {most} alone"):
        reducer.turned().shortened(most - 1, ["hs"])
