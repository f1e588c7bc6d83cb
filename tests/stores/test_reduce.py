from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moee.errors import CheckpointError, InputError, UnknownNameError
from moee.method.fusion import unit
from moee.stores.reduce import METHODS, Reducer
from moee.types import Array, View

HIDDEN, ROUTING, TOKENS = 40, 24, 16
RNG = np.random.default_rng(5)


def blocks(num_texts: int) -> dict[View, Array]:
    """Unit blocks whose variance falls along directions of their own."""
    turn_h, turn_r = (np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))[0] for d in (HIDDEN, ROUTING))
    h = (RNG.standard_normal((num_texts, HIDDEN)) * 0.85 ** np.arange(HIDDEN)) @ turn_h
    r = (RNG.standard_normal((num_texts, ROUTING)) * 0.7 ** np.arange(ROUTING)) @ turn_r
    return {"hs": unit(h), "rw": unit(r)}


def with_third(two: dict[View, Array]) -> dict[View, Array]:
    """Blocks of three views: the third is the first one's leading part and something of its own."""
    own = np.random.default_rng(8).standard_normal((len(two["hs"]), TOKENS)) * 0.8 ** np.arange(TOKENS)
    return {**two, "tokens": unit(two["hs"][:, :TOKENS] + 0.2 * own)}


FITTED, OTHERS = blocks(500), blocks(300)
THREE: dict[View, float] = {"hs": 1.0, "rw": 0.2, "tokens": 0.5}


def products(h: np.ndarray, r: np.ndarray, alpha: float) -> np.ndarray:
    return (h @ h.T + alpha * r @ r.T)[np.triu_indices(len(h), 1)]


@pytest.mark.parametrize("method", METHODS)
def test_blocks_come_back_short_and_of_unit_length(method: str) -> None:
    reducer = Reducer.fit(FITTED, 20, weights={"hs": 1.0, "rw": 0.5}, method=method)
    h, r = reducer.reduce(OTHERS).values()
    assert (h.shape, r.shape) == ((300, reducer.dims["hs"]), (300, reducer.dims["rw"]))
    assert sum(reducer.dims.values()) == reducer.dim == 20
    assert (h.dtype, r.dtype) == (np.float32, np.float32)
    for block in (h, r):
        assert np.allclose(np.linalg.norm(block, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dims", [2, 7, 19])
def test_a_prefix_is_the_reducer_of_that_size(method: str, dims: int) -> None:
    long, short = (Reducer.fit(FITTED, each, weights={"hs": 1.0, "rw": 0.3}, method=method) for each in (20, dims))
    for a, b in zip(long.truncate(dims).reduce(OTHERS).values(), short.reduce(OTHERS).values(), strict=True):
        assert np.abs(a - b).max() < 1e-5


def test_principal_directions_lose_less_than_random_ones_and_more_lose_less() -> None:
    exact = products(*OTHERS.values(), 0.5)

    def loss(method: str, dims: int) -> float:
        found = products(
            *Reducer.fit(FITTED, dims, weights={"hs": 1.0, "rw": 0.5}, method=method).reduce(OTHERS).values(), 0.5
        )
        return float(1 - np.corrcoef(exact, found)[0, 1])

    assert loss("pca", 16) < 0.5 * loss("random", 16)
    assert loss("pca", 32) < loss("pca", 16) < loss("pca", 8) < loss("pca", 4)
    assert loss("random", 48) < loss("random", 8)


def test_the_division_of_dimensions_is_near_the_best_one() -> None:
    """Every other division of 16 is tried: none has much less squared error."""
    exact = products(*OTHERS.values(), 0.5)
    full = Reducer.fit(FITTED, 60, weights={"hs": 1.0, "rw": 0.5})

    def loss(hidden: int, routing: int) -> float:
        h = unit(OTHERS["hs"] @ full.directions["hs"][:, :hidden])
        r = unit(OTHERS["rw"] @ full.directions["rw"][:, :routing])
        return float(np.mean((products(h, r, 0.5) - exact) ** 2))

    chosen = Reducer.fit(FITTED, 16, weights={"hs": 1.0, "rw": 0.5})
    losses = [loss(hidden, 16 - hidden) for hidden in range(2, 15)]
    assert loss(*chosen.dims.values()) < 1.25 * min(losses)


def test_a_larger_alpha_gives_routing_more_dimensions() -> None:
    for method in METHODS:
        found = [
            Reducer.fit(FITTED, 32, weights={"hs": 1.0, "rw": alpha}, method=method).dims["rw"]
            for alpha in (0.0, 0.2, 1.0, 5.0)
        ]
        assert found == sorted(found)
        assert found[0] < found[-1]


@pytest.mark.parametrize("method", METHODS)
def test_neither_block_gets_less_than_an_eighth(method: str) -> None:
    assert Reducer.fit(FITTED, 32, weights={"hs": 1.0, "rw": 0.0}, method=method).dims["rw"] == 4
    assert Reducer.fit(FITTED, 32, weights={"hs": 1.0, "rw": 1e6}, method=method).dims["hs"] >= 4


def test_random_directions_depend_on_the_seed_alone() -> None:
    first, second = (
        Reducer.fit(FITTED, 8, weights={"hs": 1.0, "rw": 1}, method="random"),
        Reducer.fit(OTHERS, 8, weights={"hs": 1.0, "rw": 1}, method="random"),
    )
    assert np.array_equal(first.directions["hs"], second.directions["hs"])
    other = Reducer.fit(FITTED, 8, weights={"hs": 1.0, "rw": 1}, method="random", seed=1)
    assert not np.allclose(first.directions["hs"], other.directions["hs"])


@pytest.mark.parametrize("method", METHODS)
def test_directions_are_orthonormal(method: str) -> None:
    reducer = Reducer.fit(FITTED, 20, weights={"hs": 1.0, "rw": 0.5}, method=method)
    for directions in reducer.directions.values():
        assert np.allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-5)


def test_fewer_texts_than_dimensions_can_be_fitted() -> None:
    few = {view: block[:12] for view, block in FITTED.items()}
    reducer = Reducer.fit(few, 10, weights={"hs": 1.0, "rw": 0.5})
    assert reducer.num_texts == 12
    with pytest.raises(InputError, match=r"12 texts give the directions hs 11 \+ rw 11; take more texts"):
        Reducer.fit(few, 30, weights={"hs": 1.0, "rw": 0.5})
    assert Reducer.fit(few, 30, weights={"hs": 1.0, "rw": 0.5}, method="random").dim == 30


@pytest.mark.parametrize("dims", [-1, 0, 1, 64, 1000])
def test_impossible_sizes_are_refused_with_what_is_allowed(dims: int) -> None:
    with pytest.raises(InputError, match=rf"{dims} dimensions were asked for; allowed are 2 to 63"):
        Reducer.fit(FITTED, dims, weights={"hs": 1.0, "rw": 0.5})


@pytest.mark.parametrize("dims", [1, 21])
def test_a_prefix_that_is_none_is_refused(dims: int) -> None:
    with pytest.raises(InputError, match=f"{dims} dimensions were asked for; allowed are 2 to 20"):
        Reducer.fit(FITTED, 20, weights={"hs": 1.0, "rw": 0.5}).truncate(dims)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown reduction 'pcs'.*Did you mean 'pca'"):
        Reducer.fit(FITTED, 8, weights={"hs": 1.0, "rw": 0.5}, method="pcs")


def test_blocks_of_another_model_are_refused() -> None:
    with pytest.raises(InputError, match="hs blocks of 40 dimensions; got 39"):
        Reducer.fit(FITTED, 8, weights={"hs": 1.0, "rw": 0.5}).reduce({"hs": OTHERS["hs"][:, 1:], "rw": OTHERS["rw"]})


def test_a_saved_reducer_is_the_same(tmp_path: Path) -> None:
    reducer = Reducer.fit(FITTED, 20, weights={"hs": 1.0, "rw": 0.5})
    reducer.save(tmp_path / "reducer.safetensors")
    again = Reducer.load(tmp_path / "reducer.safetensors")
    assert (again.method, again.weights, again.num_texts, again.dims) == (
        "pca",
        {"hs": 1.0, "rw": 0.5},
        500,
        reducer.dims,
    )
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
        patch.setattr("moee.stores.reduce.FORMAT_VERSION", 3)
        Reducer.fit(FITTED, 20, weights={"hs": 1.0, "rw": 0.5}).save(path)
    with pytest.raises(CheckpointError, match="reducer format 3; this program reads formats up to 2"):
        Reducer.load(path)


def test_turning_keeps_products_and_makes_dimensions_vary_alike(tmp_path: Path) -> None:
    plain = Reducer.fit(FITTED, 24, weights={"hs": 1.0, "rw": 0.5})
    turned = plain.turned()
    assert (turned.is_turned, plain.is_turned, turned.dim) == (True, False, 24)
    for a, b in zip(plain.reduce(OTHERS).values(), turned.reduce(OTHERS).values(), strict=True):
        assert np.abs(a @ a.T - b @ b.T).max() < 1e-5
        assert np.ptp(np.log(b.var(axis=0))) < np.ptp(np.log(a.var(axis=0)))
    turned.save(tmp_path / "reducer.safetensors")
    assert Reducer.load(tmp_path / "reducer.safetensors").is_turned
    assert turned.truncate(24).dim == 24
    with pytest.raises(InputError, match="12 dimensions were asked for; allowed are 24: those of a binary index"):
        turned.truncate(12)


def test_one_view_alone_can_be_shortened() -> None:
    reducer = Reducer.fit(FITTED, 20, weights={"hs": 1.0, "rw": 0.5})
    short = reducer.shortened(3, ["rw"]).reduce({"rw": OTHERS["rw"]})
    assert list(short) == ["rw"]
    np.testing.assert_allclose(short["rw"], unit(OTHERS["rw"] @ reducer.directions["rw"][:, :3]), atol=1e-6)
    most = reducer.dims["hs"]
    with pytest.raises(InputError, match=rf"dimensions is {most + 1} of hs;.*allows 1 to {most}\."):
        reducer.shortened(most + 1, ["hs"])
    with pytest.raises(InputError, match=f"allows {most} alone"):
        reducer.turned().shortened(most - 1, ["hs"])
    with pytest.raises(InputError, match="has no lexical; it has hs, rw"):
        reducer.shortened(3, ["lexical"])


@pytest.mark.parametrize("method", METHODS)
def test_three_views_share_the_dimensions_by_their_weights(method: str) -> None:
    fitted = with_third(FITTED)

    def dims(tokens: float) -> dict[View, int]:
        return Reducer.fit(fitted, 36, weights={**THREE, "tokens": tokens}, method=method).dims

    assert list(dims(0.5)) == ["hs", "rw", "tokens"]
    assert sum(dims(0.5).values()) == 36
    assert dims(0.0)["tokens"] == 36 // 12 < dims({"pca": 0.05, "random": 0.5}[method])["tokens"] < dims(10.0)["tokens"]
    assert min(dims(1e6).values()) >= 36 // 12
    with pytest.raises(InputError, match="2 dimensions were asked for; allowed are 3 to 79"):
        Reducer.fit(fitted, 2, weights=THREE, method=method)


def test_some_of_three_views_can_be_shortened(tmp_path: Path) -> None:
    """Two of three are divided in the order that was fitted, after a file as well."""
    Reducer.fit(with_third(FITTED), 36, weights=THREE).save(tmp_path / "reducer.safetensors")
    reducer = Reducer.load(tmp_path / "reducer.safetensors")
    assert (list(reducer.directions), reducer.weights) == (["hs", "rw", "tokens"], THREE)
    two = reducer.shortened(9, ["hs", "tokens"])
    assert (list(two.dims), two.dim, sum(two.dims.values())) == (["hs", "tokens"], 9, 9)
    names = list(reducer.directions)
    leading = [names[place] for place in reducer.order if names[place] != "rw"][:9]
    assert two.dims == {view: leading.count(view) for view in two.dims}
    short = two.reduce({view: with_third(OTHERS)[view] for view in two.dims})
    assert {view: block.shape[1] for view, block in short.items()} == two.dims
    for dims, views in ((1, ["hs", "tokens"]), (37, ["hs", "tokens"]), (2, ["tokens", "rw", "hs"])):
        with pytest.raises(InputError, match=rf"{dims}.*allow"):
            reducer.shortened(dims, views)  # type: ignore[arg-type]
