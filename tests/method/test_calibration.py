"""Frozen statistics: what they are, that they stay frozen, and that they refuse other models."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.errors import CalibrationError, InputError, NonFiniteActivationsError, UnknownNameError
from moee.method.calibration import FROZEN_METHODS, SPECTRAL_DIRECTIONS, Calibration
from moee.method.config import RECIPES, EmbedderConfig
from moee.method.fusion import unit
from moee.method.lexical import DocumentFrequencies
from moee.method.moments import cosine_slope, inverse_deviation, leading_directions, mean_and_variance
from moee.types import Array, CalibrationMethod, ModelInfo, Views

HIDDEN, EXPERTS = 64, (4, 8, 4)
CONFIG = RECIPES["0.1"].replace(gamma=0.5)


def applied(statistics: Calibration, views: Views, method: CalibrationMethod) -> tuple[Array, Array]:
    blocks = statistics.apply(views, CONFIG.replace(calibration=method))
    return blocks["hs"], blocks["rw"]


INFO = ModelInfo("a-model", "f1", "fake", HIDDEN, 4, (0, 1, 3), EXPERTS, (2, 2, 2), "softmax", None, "float32", "cpu")


def make_views(count: int, seed: int = 0) -> Views:
    """Correlated hidden states of very different scales with an offset, and positive routing weights."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(HIDDEN, HIDDEN))
    hidden = rng.normal(size=(count, HIDDEN)) * np.geomspace(1, 10, HIDDEN) @ mixing * np.geomspace(0.1, 50, HIDDEN)
    routing = rng.random((count, sum(EXPERTS))) * np.repeat([1.0, 10.0, 0.1], EXPERTS) + 3.0
    return Views((hidden + 100).astype(np.float32), routing.astype(np.float32), (0, 1, 3), EXPERTS)


@pytest.fixture(scope="module")
def views() -> Views:
    return make_views(400)


@pytest.fixture(scope="module")
def calibration(views: Views) -> Calibration:
    return Calibration.fit(views, info=INFO, config=CONFIG)


def test_zscore_centres_and_scales_every_dimension(views: Views, calibration: Calibration) -> None:
    hidden, _ = applied(calibration, views, "zscore")
    np.testing.assert_allclose(hidden.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(hidden.std(axis=0, ddof=1), 1, atol=1e-3)


def test_spectral_is_the_formula_of_the_docstring(views: Views, calibration: Calibration) -> None:
    x = views.hidden_states.astype(np.float64)
    z = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    values, vectors = np.linalg.eigh(np.cov(z.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    k = min(SPECTRAL_DIRECTIONS, HIDDEN // 8)
    factors = (np.maximum(values, values[k]) / values[k]) ** -0.25
    hidden, _ = applied(calibration, views, "spectral")
    np.testing.assert_allclose(unit(hidden), unit(((z @ vectors) * factors) @ vectors.T), atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_gamma_goes_from_zscore_to_whitened_leading_directions(views: Views, gamma: float) -> None:
    fitted = Calibration.fit(views, info=INFO, config=CONFIG.replace(gamma=gamma))
    hidden, _ = applied(fitted, views, "spectral")
    if gamma == 0:
        np.testing.assert_allclose(hidden, applied(fitted, views, "zscore")[0], atol=1e-4)
    else:
        values = np.linalg.eigvalsh(np.cov(hidden.T))[::-1]
        np.testing.assert_allclose(values[: HIDDEN // 8], values[0], rtol=1e-3)


@pytest.mark.parametrize("method", FROZEN_METHODS)
def test_blocks_have_mean_squared_length_of_their_dimension(
    views: Views, calibration: Calibration, method: CalibrationMethod
) -> None:
    hidden, routing = applied(calibration, views, method)
    assert np.square(hidden).sum(axis=1).mean() == pytest.approx(HIDDEN, rel=0.01)
    assert np.square(routing).sum(axis=1).mean() == pytest.approx(sum(EXPERTS), rel=0.01)


def test_routing_is_centred_and_keeps_the_proportions_of_its_experts(views: Views, calibration: Calibration) -> None:
    _, routing = applied(calibration, views, "zscore")
    np.testing.assert_allclose(routing.mean(axis=0), 0, atol=1e-4)
    ratio = routing.std(axis=0) / views.routing_weights.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


@pytest.mark.parametrize("method", FROZEN_METHODS)
def test_a_text_does_not_depend_on_its_neighbours(calibration: Calibration, method: CalibrationMethod) -> None:
    others = make_views(5, seed=3)
    together = applied(calibration, others, method)
    for row in range(5):
        alone = Views(
            others.hidden_states[row : row + 1], others.routing_weights[row : row + 1], others.layer_ids, EXPERTS
        )
        for one, all_rows in zip(applied(calibration, alone, method), together, strict=True):
            np.testing.assert_allclose(one[0], all_rows[row], atol=1e-5)


@pytest.mark.parametrize("method", FROZEN_METHODS)
def test_alpha_is_the_slope_of_one_cosine_on_the_other(
    views: Views, calibration: Calibration, method: CalibrationMethod
) -> None:
    # routing that follows the hidden states, so that the slope is not zero
    follows = Views(views.hidden_states, views.hidden_states[:, : sum(EXPERTS)], views.layer_ids, EXPERTS)
    fitted = Calibration.fit(follows, info=INFO, config=CONFIG)
    hidden, routing = (unit(block).astype(np.float64) for block in applied(fitted, follows, method))
    pairs = np.triu_indices(len(views), 1)
    x, y = (routing @ routing.T)[pairs], (hidden @ hidden.T)[pairs]
    slope = np.corrcoef(x, y)[0, 1] * y.std() / x.std()
    assert fitted.alpha(method) == pytest.approx(slope, rel=1e-3)
    assert slope > 0.05
    assert calibration.alpha(method) < slope  # random routing tells nothing


def test_file_round_trip_keeps_the_vectors(views: Views, calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    calibration.save(path)
    loaded = Calibration.load(path)
    for name in ("num_experts", "gamma", "alphas", "num_texts", "texts", "model", "fingerprint", "view_key"):
        assert getattr(loaded, name) == getattr(calibration, name)
    for method in FROZEN_METHODS:
        for a, b in zip(
            applied(loaded, views, method),
            applied(calibration, views, method),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_damaged_or_missing_file_is_named(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    with pytest.raises(CalibrationError, match="not a readable calibration file"):
        Calibration.load(path)
    calibration.save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CalibrationError, match="calibrate again"):
        Calibration.load(path)


def test_statistics_of_other_weights_are_refused(calibration: Calibration) -> None:
    calibration.check(INFO, CONFIG)
    other = dataclasses.replace(INFO, name="b-model", fingerprint="f2")
    with pytest.raises(CalibrationError, match=r"fitted for the model 'a-model'.*not for 'b-model'"):
        calibration.check(other, CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "ke"}, "fitted with prompt = 'This sentence.*prompt = 'The essence"),
        ({"scoring": "logits"}, "scoring = 'softmax', but scoring = 'logits'"),
        ({"routing_layers": (1,)}, r"routing_layers = 'all', but routing_layers = \[1\]"),
        ({"calibration": "spectral", "gamma": 0.9}, "gamma = 0.5, but gamma = 0.9"),
    ],
)
def test_statistics_of_another_view_are_refused(
    calibration: Calibration, change: dict[str, object], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        calibration.check(INFO, CONFIG.replace(**change))


def test_views_of_another_width_are_refused(views: Views, calibration: Calibration) -> None:
    narrow = Views(views.hidden_states[:, :32], views.routing_weights, views.layer_ids, EXPERTS)
    with pytest.raises(CalibrationError, match=r"\(64, \(4, 8, 4\)\).*\(32, "):
        applied(calibration, narrow, "zscore")


def test_methods_without_statistics_are_refused(views: Views, calibration: Calibration) -> None:
    with pytest.raises(UnknownNameError, match="spectral, zscore"):
        applied(calibration, views, "batch")


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_texts_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"at least 2 texts, and got {count}"):
        Calibration.fit(make_views(count), info=INFO, config=CONFIG)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_few_texts_still_give_finite_vectors(count: int) -> None:
    fitted = Calibration.fit(make_views(count), info=INFO, config=CONFIG)
    for method in FROZEN_METHODS:
        assert np.isfinite(fitted.alpha(method))
        for block in applied(fitted, make_views(20, seed=5), method):
            assert np.isfinite(block).all()


def test_constant_dimensions_and_layers_become_zero(views: Views) -> None:
    hidden, routing = views.hidden_states.copy(), views.routing_weights.copy()
    hidden[:, 7] = 12345.678
    routing[:, 4:12] = 0.125
    fitted = Calibration.fit(Views(hidden, routing, views.layer_ids, EXPERTS), info=INFO, config=CONFIG)
    for method in FROZEN_METHODS:
        h, r = applied(fitted, views, method)
        assert not r[:, 4:12].any()
        assert np.isfinite(h).all()
    assert not applied(fitted, views, "zscore")[0][:, 7].any()


def test_routers_that_never_change_get_no_weight(views: Views) -> None:
    still = Views(views.hidden_states, np.full_like(views.routing_weights, 0.25), views.layer_ids, EXPERTS)
    fitted = Calibration.fit(still, info=INFO, config=CONFIG)
    assert fitted.alpha("spectral") == 0.0
    assert not applied(fitted, still, "spectral")[1].any()


def test_nan_is_never_fitted_and_the_text_is_named(views: Views) -> None:
    hidden = views.hidden_states.copy()
    hidden[17, 3] = np.nan
    with pytest.raises(NonFiniteActivationsError, match=r"Text 17.*hidden state is NaN"):
        Calibration.fit(Views(hidden, views.routing_weights, views.layer_ids, EXPERTS), info=INFO, config=CONFIG)


def test_moments_agree_with_numpy_over_several_chunks() -> None:
    rows = (np.random.default_rng(0).normal(size=(9000, 3)) + 1e4).astype(np.float32)
    mean, variance = mean_and_variance(rows)
    np.testing.assert_allclose(mean, rows.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(variance, rows.astype(np.float64).var(axis=0, ddof=1))


def test_leading_directions_have_a_fixed_sign(views: Views) -> None:
    mean, variance = mean_and_variance(views.hidden_states)
    values, vectors = leading_directions(views.hidden_states, mean, inverse_deviation(mean, variance), 5)
    assert len(values) == 6
    assert (np.diff(values) <= 0).all()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(5), atol=1e-10)
    assert (vectors[np.argmax(np.abs(vectors), axis=0), np.arange(5)] > 0).all()


def test_few_texts_give_the_directions_that_the_full_matrix_gives() -> None:
    rows = make_views(40).hidden_states
    mean, variance = mean_and_variance(rows)
    scale = inverse_deviation(mean, variance)
    values, vectors = leading_directions(rows, mean, scale, 5)
    full_values, full_vectors = np.linalg.eigh(np.corrcoef(rows.astype(np.float64).T))
    np.testing.assert_allclose(values, full_values[::-1][:6], rtol=1e-6)
    np.testing.assert_allclose(np.abs(vectors.T @ full_vectors[:, ::-1][:, :5]), np.eye(5), atol=1e-5)


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 0.0)])
def test_a_slope_needs_three_texts(count: int, expected: float) -> None:
    rows = unit(np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32))
    assert cosine_slope(rows, rows) == expected


def test_the_slope_of_equal_cosines_is_one_and_of_a_constant_zero() -> None:
    rows = unit(np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32))
    assert cosine_slope(rows, rows) == pytest.approx(1.0)
    assert cosine_slope(rows, np.ones_like(rows)) == 0.0


def test_statistics_show_themselves_in_one_line(calibration: Calibration) -> None:
    shown = repr(calibration)
    assert "\n" not in shown
    assert len(shown) < 250
    assert shown.startswith(f"Calibration('a-model': {calibration.num_texts} texts (")


def test_views_that_are_all_equal_are_refused() -> None:
    fake = MoEE.from_pretrained("fake")
    views = fake.encode_views(["The same line."] * 3)
    with pytest.raises(InputError, match="at least 2 different texts, and all 3 have the same hidden state"):
        Calibration.fit(views, info=fake.info, config=fake.config)


def test_whitened_routing_gives_every_layer_the_same_length_and_no_direction_more(views: Views) -> None:
    config = CONFIG.replace(routing_calibration="whiten")
    fitted = Calibration.fit(views, info=INFO, config=config)
    routing = fitted.apply(views, config)["rw"]
    ends = np.cumsum(EXPERTS)
    for start, end in zip((0, *ends[:-1]), ends, strict=True):
        layer = routing[:, start:end].astype(np.float64)
        length = np.linalg.norm(layer, axis=1).mean()
        assert length == pytest.approx(np.sqrt(sum(EXPERTS) / len(EXPERTS)), rel=1e-3)
        values = np.linalg.eigvalsh(np.cov(layer.T))
        # all alike, but for directions under the floor, which may be shorter
        assert np.median(values) == pytest.approx(values[-1], rel=1e-3)


def test_a_layer_whose_routing_never_changes_is_zero_when_whitened(views: Views) -> None:
    routing = views.routing_weights.copy()
    routing[:, :4] = 0.25
    config = CONFIG.replace(routing_calibration="whiten")
    still = Views(views.hidden_states, routing, views.layer_ids, EXPERTS)
    block = Calibration.fit(still, info=INFO, config=config).apply(still, config)["rw"]
    assert not block[:, :4].any()
    assert block[:, 4:].any(axis=0).all()


def test_alpha_by_scale_is_the_ratio_of_deviations(calibration: Calibration, views: Views) -> None:
    hidden, routing = (unit(block).astype(np.float64) for block in applied(calibration, views, "zscore"))
    pairs = np.triu_indices(len(views), 1)
    ratio = (hidden @ hidden.T)[pairs].std() / (routing @ routing.T)[pairs].std()
    assert calibration.alpha("zscore", "scale") == pytest.approx(ratio, rel=1e-4)


def test_statistics_keep_their_tokens_and_words(tmp_path: Path, views: Views) -> None:
    tokens = views.hidden_states[:, ::-1].copy()
    tokens[3] = 0
    texts = tuple(f"word{number % 7} and others" for number in range(len(views)))
    config = EmbedderConfig(calibration="zscore", prompt_tokens="apart").replace(weights={"tokens": 1, "lexical": 1})
    more = dataclasses.replace(views, tokens=tokens, texts=texts)
    fitted = Calibration.fit(more, info=INFO, config=config, frequencies=DocumentFrequencies.fit(texts))
    fitted.save(tmp_path / "c.safetensors")
    loaded = Calibration.load(tmp_path / "c.safetensors")
    before, after = (each.apply(more, config) for each in (fitted, loaded))
    assert list(after) == ["hs", "rw", "tokens", "lexical"]
    for view, block in after.items():
        np.testing.assert_array_equal(block, before[view])
    assert not after["tokens"][3].any()
    assert loaded.digest() == fitted.digest()
    builtin = Calibration.fit(more, info=INFO, config=config)
    assert builtin.digest() != fitted.digest()
    assert not np.array_equal(builtin.apply(more, config)["lexical"], after["lexical"])
