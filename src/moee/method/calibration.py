"""Frozen statistics that make cosines of the two views meaningful, and the standardisation of the original code.

A few dimensions of a language model's hidden state dominate every cosine, and a few experts of a router take most of
the weight for every text. Both are constant offsets and scales, which statistics of any few thousand texts remove.
The statistics are fitted once per model, prompt and pooling, and kept: a text's vector never depends on its batch.

Hidden states (HS): each dimension is centred and scaled to unit variance (`zscore`); `spectral` then flattens the
leading directions of the correlation matrix. With eigenvalues l_1 >= l_2 >= ..., direction i <= k is scaled by
(l_i / l_(k+1))^(-gamma/2) and all others are left alone, so gamma 0 is `zscore`, and gamma 1 whitens the k leading
directions. Directions beyond k carry little variance and are noisy: whitening them too made scores worse.

Routing weights (RW): each layer is centred, which removes the experts that serve every text, and whitened within itself
(`routing_calibration="whiten"`): a few directions of a router take most of its variance. All layers then count alike,
so the early ones, which at the prompt's last token have seen little of the text, are left out
(`routing_layers="last_third"`). `moee eval --controls` compares with random projections that are treated alike.
`"scale"` is the former way: one scale for all experts.

The mean of a text's tokens (`tokens`): each dimension is centred and scaled, as in `zscore`.

Alpha, the weight of RW in the sum of arXiv 2410.10814, is a number or follows a rule. `"slope"` is that of the
regression of cos_HS on cos_RW over pairs of calibration texts: what is added to HS is the best linear estimate of its
cosine from routing, so it rewards routing that repeats HS. `"scale"` is sd(cos_HS) / sd(cos_RW): both then vary alike,
whatever they hold. Neither knows which view is better.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from moee.errors import CalibrationError, InputError, NonFiniteActivationsError, check_choice
from moee.files.arrays import read_arrays, write_arrays
from moee.method.config import EmbedderConfig
from moee.method.fusion import unit
from moee.method.lexical import FREQUENCY_ARRAYS, DocumentFrequencies, lexical_block
from moee.method.moments import (
    Wide,
    bounded_inverse_deviation,
    cosine_scale,
    cosine_slope,
    inverse_deviation,
    leading_directions,
    mean_and_variance,
    whitening,
)
from moee.types import AlphaRule, Array, CalibrationMethod, ModelInfo, RoutingCalibration, View, Views

FORMAT_VERSION = 2
MIN_TEXTS = 2
SPECTRAL_DIRECTIONS = 64
"""Leading directions that `spectral` may flatten. Chosen on STSBenchmark dev (benchmarks/quality.py)."""

_TEXTS_PER_DIRECTION = 2
"""Texts needed for each direction that is flattened."""

_PAIRED_TEXTS = 2048


def _nothing() -> Wide:
    return np.zeros(0)


FROZEN_METHODS: tuple[CalibrationMethod, ...] = ("zscore", "spectral")
"""The methods that use frozen statistics."""


@dataclass(frozen=True, slots=True, repr=False)
class Calibration:
    """Statistics of the views over a set of texts. They serve every method; only `gamma` is fixed by the fit.

    Attributes:
        hidden_mean: `(hidden_size,)` float64.
        hidden_scale: `(hidden_size,)` float64, one over the standard deviation, bounded; 0 where a dimension is
            constant.
        eigenvalues: `(k + 1,)` float64, the largest of the correlation matrix, descending.
        eigenvectors: `(hidden_size, k)` float64, orthonormal columns.
        routing_mean: `(sum of num_experts,)` float64.
        routing_scale: `(sum of num_experts,)` float64, the same for all experts; 0 where one is constant. Used by
            `routing_calibration="scale"`.
        num_experts: Width of every layer's routing weights.
        gamma: Strength of `spectral`, 0 to 1.
        alphas: Weight of RW in the sum by each rule and method; see `alpha`.
        num_texts: How many texts were used.
        texts: Kind of the texts: `"builtin"`, `"user"`, or another word that says so.
        model: Name of the model.
        fingerprint: Fingerprint of the model's weights.
        view_key: The choices that decided the views, from `EmbedderConfig.view_key`.
        routing_whitening: `(sum of num_experts squared,)` float64, the maps of all layers one after the other; empty
            under `routing_calibration="scale"`.
        tokens_mean: `(hidden_size,)` float64; empty if the view `tokens` was not captured.
        tokens_scale: `(hidden_size,)` float64, as `hidden_scale`.
        frequencies: How many texts hold each word; None stands for the built-in ones.
    """

    hidden_mean: Wide
    hidden_scale: Wide
    eigenvalues: Wide
    eigenvectors: Wide
    routing_mean: Wide
    routing_scale: Wide
    num_experts: tuple[int, ...]
    gamma: float
    alphas: Mapping[str, float]
    num_texts: int
    texts: str
    model: str
    fingerprint: str
    view_key: Mapping[str, Any]
    routing_whitening: Wide = field(default_factory=_nothing)
    tokens_mean: Wide = field(default_factory=_nothing)
    tokens_scale: Wide = field(default_factory=_nothing)
    frequencies: DocumentFrequencies | None = None

    def __repr__(self) -> str:
        alphas = ", ".join(f"{method} {alpha:.3g}" for method, alpha in self.alphas.items())
        return (
            f"Calibration({self.model!r}: {self.num_texts} texts ({self.texts}), {len(self.hidden_mean)} hidden "
            f"dimensions, {len(self.num_experts)} routers of {sum(self.num_experts)} experts, gamma {self.gamma:g}, "
            f"alpha {alphas})"
        )

    @classmethod
    def fit(
        cls,
        views: Views,
        *,
        info: ModelInfo,
        config: EmbedderConfig,
        texts: str = "user",
        frequencies: DocumentFrequencies | None = None,
    ) -> Calibration:
        """Fit the statistics, in float64.

        Args:
            views: Views of the calibration texts, at least two; thousands are better. No labels are used.
            info: The model behind the views.
            config: Gives `gamma` and the view key.
            texts: A word for the origin of the texts, kept with the statistics.
            frequencies: How many texts hold each word; None stands for the built-in ones.

        Raises:
            InputError: If there are fewer than two texts, or all have one hidden state.
            NonFiniteActivationsError: If a view holds NaN or infinity; names the text.
        """
        if len(views) < MIN_TEXTS:
            raise InputError(
                f"Calibration needs at least {MIN_TEXTS} texts, and got {len(views)}. "
                "Some hundreds of texts like those to be embedded are a good start."
            )
        _check_finite(views)
        if (views.hidden_states == views.hidden_states[0]).all():
            raise InputError(
                f"Calibration needs at least {MIN_TEXTS} different texts, and all {len(views)} have the same hidden "
                "state, so that every vector would be zero. Give texts that differ."
            )
        hidden_mean, variance = mean_and_variance(views.hidden_states)
        hidden_scale = bounded_inverse_deviation(hidden_mean, variance)
        eigenvalues, eigenvectors = leading_directions(
            views.hidden_states, hidden_mean, hidden_scale, _num_directions(views.hidden_states)
        )
        routing_mean, routing_scale = _routing_statistics(views)
        tokens_mean, tokens_scale = _tokens_statistics(views)
        fitted = cls(
            hidden_mean=hidden_mean,
            hidden_scale=hidden_scale,
            eigenvalues=eigenvalues,
            eigenvectors=eigenvectors,
            routing_mean=routing_mean,
            routing_scale=routing_scale,
            num_experts=views.num_experts,
            gamma=config.gamma,
            alphas={},
            num_texts=len(views),
            texts=texts,
            model=info.name,
            fingerprint=info.fingerprint,
            view_key=config.view_key(),
            routing_whitening=_whitening_of(views, routing_mean, config.routing_calibration),
            tokens_mean=tokens_mean,
            tokens_scale=tokens_scale,
            frequencies=frequencies,
        )
        return fitted._with_alphas(views)

    def apply(self, views: Views, config: EmbedderConfig) -> dict[View, Array]:
        """Calibrate views.

        Args:
            views: Views of any texts, from the model and prompt of the fit.
            config: Names the views that are wanted, and `"zscore"` or `"spectral"` for the hidden states.

        Returns:
            The blocks of HS, RW and the views that count besides, `(num_texts, dim of the block)` float32. Over the
            calibration texts those of HS and RW have a mean squared length about equal to their number of dimensions.
            A row may be zero: a text equal to the mean, or without words or tokens of its own.

        Raises:
            CalibrationError: If the views have other widths than those of the fit, or one was not fitted.
        """
        check_choice("frozen calibration", config.calibration, FROZEN_METHODS)
        self._check_widths(views)
        blocks = raw_blocks(views, config, self.frequencies)
        blocks["hs"] = self._hidden(blocks["hs"], config.calibration)
        blocks["rw"] = self._routing(blocks["rw"])
        if "tokens" in blocks:
            blocks["tokens"] = self._tokens(blocks["tokens"])
        return blocks

    def alpha(self, method: CalibrationMethod, rule: AlphaRule = "slope") -> float:
        """Return the weight of RW in the sum that a rule gives.

        Raises:
            CalibrationError: If the statistics were written before there was such a rule.
        """
        check_choice("frozen calibration", method, FROZEN_METHODS)
        key = _alpha_key(method, rule)
        if key not in self.alphas:
            raise CalibrationError(
                f"These statistics, of a former version, hold no alpha by the rule {rule!r}. Calibrate again, or give "
                "alpha as a number or as 'slope'."
            )
        return self.alphas[key]

    def digest(self) -> str:
        """Return a short digest of the numbers: two sets of statistics that calibrate alike share it."""
        digest = hashlib.sha256(repr((self.gamma, sorted(self.alphas.items()))).encode())
        fitted_since = [name for name in _LATER_ARRAYS if len(getattr(self, name))]
        for name in ("hidden_mean", "routing_mean", *fitted_since):
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        if self.frequencies is not None:
            for counts in self.frequencies.arrays().values():
                digest.update(counts.tobytes())
        return digest.hexdigest()[:16]

    def check(self, info: ModelInfo, config: EmbedderConfig) -> None:
        """Check that these statistics belong to a model and configuration.

        Raises:
            CalibrationError: If not; names what differs, with both values.
        """
        if self.fingerprint != info.fingerprint:
            raise CalibrationError(
                f"The calibration was fitted for the model {self.model!r} (weights {self.fingerprint}), "
                f"not for {info.name!r} (weights {info.fingerprint}). Calibrate this model."
            )
        wanted = config.view_key()
        for key in sorted(set(wanted) | set(self.view_key)):
            if self.view_key.get(key) != wanted.get(key):
                raise CalibrationError(
                    f"The calibration was fitted with {key} = {self.view_key.get(key)!r}, but {key} = "
                    f"{wanted.get(key)!r} is asked for. Calibrate again, or use the former value."
                )
        if "tokens" in config.views:
            self._check_tokens()
        if config.calibration == "spectral" and self.gamma != config.gamma:
            raise CalibrationError(
                f"The calibration was fitted with gamma = {self.gamma}, but gamma = {config.gamma} is asked for. "
                "Calibrate again, or use the former value."
            )

    def save(self, path: Path) -> None:
        """Write the statistics to a safetensors file, whole or not at all.

        Eigenvectors are kept in float32, everything else in float64.

        Raises:
            OutputError: If the file cannot be written.
        """
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, *_LATER_ARRAYS)}
        if self.frequencies is not None:
            arrays |= self.frequencies.arrays()
        arrays["eigenvectors"] = arrays["eigenvectors"].astype(np.float32)
        facts = {name: getattr(self, name) for name in _FACTS}
        facts["alphas"], facts["view_key"] = dict(self.alphas), dict(self.view_key)
        write_arrays(path, "calibration", arrays, facts, version=FORMAT_VERSION)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            CalibrationError: If the file is missing, not a calibration file, damaged, or of a newer version.
        """
        values = read_arrays(
            path,
            "calibration",
            arrays=_ARRAYS,
            facts=_FACTS,
            version=FORMAT_VERSION,
            error=CalibrationError,
            advice="Delete it and calibrate again.",
            optional_arrays=(*_LATER_ARRAYS, *FREQUENCY_ARRAYS),
        )
        values["num_experts"] = tuple(values["num_experts"])
        words = {name: values.pop(name) for name in FREQUENCY_ARRAYS if name in values}
        values["frequencies"] = DocumentFrequencies.from_arrays(words) if words else None
        floats = [name for name in (*_ARRAYS, *_LATER_ARRAYS) if name in values]
        return cls(**values | {name: values[name].astype(np.float64) for name in floats})

    def _check_widths(self, views: Views) -> None:
        if views.routing_weights.shape[1] != sum(views.num_experts):
            raise CalibrationError(
                f"The views hold {views.routing_weights.shape[1]} routing weights a text, but name layers of "
                f"{views.num_experts} experts, {sum(views.num_experts)} in all. Encode again."
            )
        found = (views.hidden_states.shape[1], views.num_experts)
        fitted = (len(self.hidden_mean), self.num_experts)
        if found != fitted:
            raise CalibrationError(
                f"The calibration was fitted on views with (hidden size, experts by layer) = {fitted}, "
                f"but these have {found}. Calibrate again."
            )

    def _hidden(self, hidden_states: Array, method: CalibrationMethod) -> Array:
        z = (hidden_states - self.hidden_mean) * self.hidden_scale
        if method == "zscore":
            return z.astype(np.float32)
        k = self.eigenvectors.shape[1]
        factors = (self.eigenvalues[:k] / self.eigenvalues[k]) ** (-self.gamma / 2)
        z += ((z @ self.eigenvectors) * (factors - 1.0)) @ self.eigenvectors.T
        dimensions = float(np.count_nonzero(self.hidden_scale))
        kept = dimensions - float(np.sum(self.eigenvalues[:k] * (1.0 - factors**2)))
        return np.asarray(z * math.sqrt(dimensions / kept), dtype=np.float32) if kept > 0 else z.astype(np.float32)

    def _routing(self, routing_weights: Array) -> Array:
        if not len(self.routing_whitening):
            return np.asarray((routing_weights - self.routing_mean) * self.routing_scale, dtype=np.float32)
        centred = routing_weights - self.routing_mean
        whitened, start, end = np.empty(centred.shape, dtype=np.float32), 0, 0
        for width in self.num_experts:
            turn = self.routing_whitening[end : end + width**2].reshape(width, width)
            whitened[:, start : start + width] = centred[:, start : start + width] @ turn
            start, end = start + width, end + width**2
        return whitened

    def _check_tokens(self) -> None:
        if not len(self.tokens_mean):
            raise CalibrationError(
                "The calibration was fitted without the view 'tokens', which has a weight. Calibrate again, or leave "
                "it out of weights."
            )

    def _tokens(self, means: Array) -> Array:
        self._check_tokens()
        block = ((means - self.tokens_mean) * self.tokens_scale).astype(np.float32)
        block[~means.any(axis=1)] = 0.0  # a text without tokens of its own says nothing
        return block

    def _with_alphas(self, views: Views) -> Calibration:
        # pairs grow with the square of the texts; this many give two million
        sample = np.unique(np.linspace(0, len(views) - 1, num=min(len(views), _PAIRED_TEXTS)).astype(int))
        routing = unit(self._routing(views.routing_weights[sample]))
        alphas = {}
        for method in FROZEN_METHODS:
            hidden = unit(self._hidden(views.hidden_states[sample], method))
            alphas[_alpha_key(method, "slope")] = cosine_slope(hidden, routing)
            alphas[_alpha_key(method, "scale")] = cosine_scale(hidden, routing)
        return replace(self, alphas=alphas)


_ARRAYS = ("hidden_mean", "hidden_scale", "eigenvalues", "eigenvectors", "routing_mean", "routing_scale")
_LATER_ARRAYS = ("routing_whitening", "tokens_mean", "tokens_scale")
"""Arrays that files of version 1 lack."""
_FACTS = ("num_experts", "gamma", "alphas", "num_texts", "texts", "model", "fingerprint", "view_key")


def _alpha_key(method: CalibrationMethod, rule: AlphaRule) -> str:
    return method if rule == "slope" else f"{method} {rule}"  # version 1 had the slope alone


def raw_blocks(
    views: Views, config: EmbedderConfig, frequencies: DocumentFrequencies | None = None
) -> dict[View, Array]:
    """Return the blocks of a configuration's views before calibration, in the order of `VIEWS`.

    Args:
        views: Views of any texts.
        config: Names the views that count.
        frequencies: How many texts hold each word; None stands for the built-in ones.

    Raises:
        InputError: If a view that counts was not captured.
    """
    blocks: dict[View, Array] = {"hs": views.hidden_states, "rw": views.routing_weights}
    if "tokens" in config.captured:
        if views.tokens is None:
            raise InputError("These views were captured without the view 'tokens', which has a weight. Encode again.")
        blocks["tokens"] = views.tokens
    if "lexical" in config.captured:
        if views.texts is None:
            raise InputError("These views hold no texts, from which the view 'lexical' is made. Encode again.")
        blocks["lexical"] = lexical_block(views.texts, config.lexical_dim, frequencies)
    return blocks


def _num_directions(hidden_states: Array) -> int:
    num_texts, hidden_size = hidden_states.shape[0], hidden_states.shape[1]
    return int(min(SPECTRAL_DIRECTIONS, hidden_size // 8, num_texts // _TEXTS_PER_DIRECTION))


def _check_finite(views: Views) -> None:
    tokens = views.hidden_states[:0] if views.tokens is None else views.tokens
    named = (
        ("hidden state", views.hidden_states),
        ("routing weights", views.routing_weights),
        ("mean of its tokens", tokens),
    )
    for name, rows in named:
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise NonFiniteActivationsError(row=int(bad[0]), what=name)


def _routing_statistics(views: Views) -> tuple[Wide, Wide]:
    mean, variance = mean_and_variance(views.routing_weights)
    moving = inverse_deviation(mean, variance) > 0
    total = float(variance[moving].sum())
    return mean, np.where(moving, math.sqrt(len(mean) / total) if total > 0 else 0.0, 0.0)


def _whitening_of(views: Views, mean: Wide, way: RoutingCalibration) -> Wide:
    """Return the whitening maps of all layers, one after the other, with mean squared lengths as `"scale"` has them."""
    if way == "scale" or not views.num_experts:
        return _nothing()
    maps, start = [], 0
    # layers count alike, and the mean squared length is about the number of dimensions
    length = math.sqrt(len(mean) / len(views.num_experts))
    for width in views.num_experts:
        columns = slice(start, start + width)
        maps.append(length * whitening(views.routing_weights[:, columns], mean[columns]).ravel())
        start += width
    return np.concatenate(maps)


def _tokens_statistics(views: Views) -> tuple[Wide, Wide]:
    if views.tokens is None:
        return _nothing(), _nothing()
    mean, variance = mean_and_variance(views.tokens[views.tokens.any(axis=1)])
    return mean, bounded_inverse_deviation(mean, variance)


def batch_standardise(rows: Array, batch_size: int) -> Array:
    """Standardise every column over each batch of rows, as the original code of arXiv 2410.10814 does.

    A row's result depends on the other rows of its batch. Only the `paper` recipe uses this.

    Args:
        rows: `(n, dim)`, in the order of the texts.
        batch_size: Rows in a batch; the last batch may have fewer.

    Returns:
        `(n, dim)` float32: `(x - mean) / (std + 1e-8)`, std with n - 1. A batch of one row is all zeros: its deviation
        is undefined, and the original turns the NaN into 0.
    """
    result = np.zeros(rows.shape, dtype=np.float32)
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size].astype(np.float64)
        if len(batch) > 1:
            deviation = batch.std(axis=0, ddof=1)
            result[start : start + batch_size] = (batch - batch.mean(axis=0)) / (deviation + 1e-8)
    return result
