"""What makes two texts alike: the exact parts that each view, layer, expert and word adds to their similarity.

The cosine of two unit vectors is the sum of their elementwise products. In a fused vector every element belongs to one
view, and within it to one expert of one layer, or to the words of one coordinate. So the products, summed by block, are
parts that add up to the similarity. A positive part makes the texts more alike, a negative one less.

Parts of views and layers are exact whatever the calibration, for no calibration mixes them. Where routing is whitened
within each layer, an element is an expert's weight once the experts beside it are accounted for: its part is exact, and
belongs to the expert as far as its weight says what theirs do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from moee.errors import InputError, check_choice
from moee.method.fusion import VIEW_NAMES, blend_weights, split_blocks, uses_alpha
from moee.method.lexical import SharedWord, shared_words
from moee.method.space import VectorSpace
from moee.plots.heatmap import HeatMap, write_heatmap
from moee.types import Fusion, View, Views

Wide = npt.NDArray[np.float64]
Layers = tuple[Wide, ...]
"""One array for each captured router, each `(num_experts,)` of that router."""

TOP = 10
"""Experts that are named, unless told otherwise."""
_MARKED = 5
"""Experts that are named in the heat map."""
_PLAIN = ("texts", "model", "fusion", "alpha", "similarity", "hidden", "routing", "hidden_cosine", "routing_cosine")


@dataclass(frozen=True, slots=True)
class PairExpert:
    """An expert and what it adds to the similarity of two texts.

    Attributes:
        layer: Decoder layer.
        expert: Place in the layer's router, from 0.
        part: Added to the similarity; negative if it makes the texts less alike.
        weights: Routing weights of the two texts, as the model gave them.
    """

    layer: int
    expert: int
    part: float
    weights: tuple[float, float]


@dataclass(frozen=True, slots=True)
class TextExpert:
    """An expert that marks one text.

    Attributes:
        layer: Decoder layer.
        expert: Place in the layer's router, from 0.
        weight: Routing weight of the text, as the model gave it.
        mean: Mean weight over the calibration texts; None without frozen statistics.
    """

    layer: int
    expert: int
    weight: float
    mean: float | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """The similarity of two texts and its parts; made by `MoEE.explain`.

    Attributes:
        texts: The two texts.
        model: Name of the model.
        fusion: Fusion of the vectors that are compared.
        alpha: Weight of RW in `"sum"`, the geometric mean of two if each text has its own; None in the other fusions,
            which use none.
        similarity: Cosine of the two vectors: the sum of `view_parts`.
        hidden: Part of the hidden states (HS); 0 if the fusion leaves them out.
        routing: Part of the routing weights (RW): the sum of `parts`.
        hidden_cosine: Cosine of the hidden states alone; None if the fusion leaves them out.
        routing_cosine: Cosine of the routing weights alone; None if the fusion leaves them out.
        layer_ids: Decoder layer of every router.
        parts: For each layer `(num_experts,)` float64, what each expert adds; zeros if the fusion leaves RW out.
        weights_a: Routing weights of the first text as the model gave them, for each layer `(num_experts,)`.
        weights_b: The same of the second.
        mean_weights_a: Mean weights over the calibration texts, with the prompt of the first text; None without frozen
            statistics.
        mean_weights_b: The same with the prompt of the second, which is another only for a query and a document.
        weights: What the cosine of every view was asked to count, by name; empty if blocks keep their own scale.
        shares: What the cosine of every view counts in this similarity. They are the weights divided by their sum,
            unless a text lacks a view, which the others then carry.
        cosines: The cosine of every view alone, by name; 0 if a text lacks the view.
        view_parts: What every view adds to the similarity: its share times its cosine.
        words: What both texts share, if `lexical` counts: words with the part of each, largest first.
        collisions: Rest of the part of `lexical`: pairs of different words that share a coordinate. They add or take
            away by chance, and less the wider the view is (`lexical_dim`).
    """

    texts: tuple[str, str]
    model: str
    fusion: Fusion
    alpha: float | None
    similarity: float
    hidden: float
    routing: float
    hidden_cosine: float | None
    routing_cosine: float | None
    layer_ids: tuple[int, ...]
    parts: Layers
    weights_a: Layers
    weights_b: Layers
    mean_weights_a: Layers | None
    mean_weights_b: Layers | None
    weights: Mapping[View, float] = field(default_factory=dict)
    shares: Mapping[View, float] = field(default_factory=dict)
    cosines: Mapping[View, float] = field(default_factory=dict)
    view_parts: Mapping[View, float] = field(default_factory=dict)
    words: tuple[SharedWord, ...] = ()
    collisions: float = 0.0

    @property
    def layer_parts(self) -> list[float]:
        """What each layer adds to the similarity, in the order of `layer_ids`; they add up to `routing`."""
        return [float(part.sum()) for part in self.parts]

    def top_experts(self, n: int = TOP) -> list[PairExpert]:
        """Return the `n` experts with the largest parts, by absolute value: negative parts count too.

        Experts whose part is zero are left out, so fewer may come back.

        Raises:
            InputError: If `n` is not 1 or larger.
        """
        parts = np.concatenate(self.parts)
        places = [place for place in _largest(np.abs(parts), n) if parts[place]]
        return [
            PairExpert(
                *self._addresses[place],
                float(parts[place]),
                (float(self._flat_a[place]), float(self._flat_b[place])),
            )
            for place in places
        ]

    def top_experts_of(self, text: Literal["a", "b"], n: int = TOP) -> list[TextExpert]:
        """Return the `n` experts that mark one of the texts most.

        A few experts of a router take much of the weight of every text, and say nothing about this one. With frozen
        statistics experts are therefore ranked by how far the weight is above its mean over the calibration texts
        with the text's own prompt; without, by the weight itself.

        Args:
            text: `"a"` is the first text, `"b"` the second.
            n: How many, 1 or larger; experts at or below their mean are left out.

        Raises:
            UnknownNameError: If `text` is neither.
            InputError: If `n` is not 1 or larger.
        """
        check_choice("text", text, ("a", "b"))
        weights, usual = (self._flat_a, self.mean_weights_a) if text == "a" else (self._flat_b, self.mean_weights_b)
        means = None if usual is None else np.concatenate(usual)
        if means is None:
            places = _largest(weights, n)
        else:
            places = [place for place in _largest(weights - means, n) if weights[place] > means[place]]
        return [
            TextExpert(*self._addresses[place], float(weights[place]), None if means is None else float(means[place]))
            for place in places
        ]

    def difference(self) -> Layers:
        """Return how the routing of the two texts differs: weights of the first minus those of the second, by layer."""
        return tuple(a - b for a, b in zip(self.weights_a, self.weights_b, strict=True))

    def to_dict(self, *, top: int = TOP) -> dict[str, Any]:
        """Return a JSON-ready mapping with every part, and the `top` experts of the pair and of each text.

        `views` has `weight`, `share`, `cosine` and `part` of every view by its name; a weight is None if blocks keep
        their own scale.
        """
        layers = zip(self.layer_ids, self.layer_parts, self.parts, self.weights_a, self.weights_b, strict=True)
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "texts": list(self.texts),
            "views": {
                view: {
                    "weight": self.weights.get(view),
                    "share": self.shares[view],
                    "cosine": self.cosines[view],
                    "part": part,
                }
                for view, part in self.view_parts.items()
            },
            "words": [asdict(each) | {"forms": list(each.forms)} for each in self.words],
            "collisions": self.collisions,
            "layers": [
                {"layer": layer, "part": part, "parts": parts.tolist(), "weights": [a.tolist(), b.tolist()]}
                for layer, part, parts, a, b in layers
            ],
            "top_experts": [asdict(each) | {"weights": list(each.weights)} for each in self.top_experts(top)],
            "top_experts_of": [[asdict(each) for each in self.top_experts_of(text, top)] for text in ("a", "b")],
        }

    def heatmap(self, path: str | Path) -> None:
        """Draw the parts as a heat map, layers down and experts across.

        Args:
            path: Path of the picture; ends in `.png` or `.svg`.

        Raises:
            InputError: If the suffix is another, or no expert has a part (as in `"hs"`).
            MissingExtraError: If matplotlib is not installed.
            OutputError: If the file cannot be written.
        """
        weight = "" if self.alpha is None else f"   (alpha {self.alpha:.3g})"
        sums = "  +  ".join(f"{VIEW_NAMES[view]} {part:.3f}" for view, part in self.view_parts.items())
        summary = f"similarity {self.similarity:.3f}  =  {sums}{weight}"
        marked = [(each.layer, each.expert) for each in self.top_experts(_MARKED)]
        write_heatmap(HeatMap(self.texts, summary, self.layer_ids, self.parts, marked), Path(path))

    @cached_property
    def _addresses(self) -> list[tuple[int, int]]:
        pairs = zip(self.layer_ids, self.parts, strict=True)
        return [(layer, expert) for layer, parts in pairs for expert in range(len(parts))]

    @cached_property
    def _flat_a(self) -> Wide:
        return np.concatenate(self.weights_a)

    @cached_property
    def _flat_b(self) -> Wide:
        return np.concatenate(self.weights_b)


def check_pair(space: VectorSpace) -> None:
    """Refuse to explain a pair of texts whose vectors would depend on nothing but each other.

    Raises:
        InputError: If they are standardised over the batch: of two rows one is then the negative of the other, and
            their cosine is -1 whatever the texts are.
    """
    if space.is_by_batch:
        space.config.check_alone("explained with one other text (any two texts come out as opposites); fusion='hs' can")


def explain_pair(
    texts: tuple[str, str], views: Views, spaces: tuple[VectorSpace, VectorSpace], *, model: str
) -> Explanation:
    """Split the cosine of two texts into its parts.

    Args:
        texts: The two texts.
        views: Views of the two texts, before calibration.
        spaces: Where each of them lies: the prompts and statistics may differ, the fusion is the same.
        model: Name of the model.

    Returns:
        Parts of the cosine of the two vectors; a zero vector has no direction, and its similarity is 0. Each text's
        usual weights are those under its own prompt: under another, experts that only the prompt calls on would seem
        to mark the text. If each has its own weight of RW (`alpha="auto"`), the explanation's `alpha` is their
        geometric mean: the products of two `"sum"` vectors hold `cos_HS + sqrt(alpha_a * alpha_b) * cos_RW`, up to a
        factor.
    """
    fusion, dims = spaces[0].config.fusion, spaces[0].dims(views)
    vectors = [space.fuse(space.blocks(views.take(np.array([row])))) for row, space in enumerate(spaces)]
    # in float64, so that many thousand small products add up to the cosine
    wide = np.concatenate(vectors).astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True) if wide.any(axis=1).all() else math.inf
    blocks = split_blocks(wide, dims)
    products = {view: block[0] * block[1] for view, block in blocks.items()}
    view_parts = {view: float(product.sum()) for view, product in products.items()}
    shares = {view: float(np.linalg.norm(block, axis=1).prod()) for view, block in blocks.items()}
    cosines = {view: part / (shares[view] or 1.0) for view, part in view_parts.items()}
    parts = products.get("rw", np.zeros(views.routing_weights.shape[1]))
    means = [None if space.statistics is None else space.statistics.routing_mean for space in spaces]
    mean_a, mean_b = (None if mean is None else _by_layer(mean, views.num_experts) for mean in means)
    words = _shared(views, spaces, shares.get("lexical", 0.0))
    return Explanation(
        texts=texts,
        model=model,
        fusion=fusion,
        alpha=_alpha(spaces) if uses_alpha(fusion) else None,
        similarity=math.fsum(view_parts.values()),
        hidden=view_parts.get("hs", 0.0),
        routing=view_parts.get("rw", 0.0),
        hidden_cosine=cosines.get("hs"),
        routing_cosine=cosines.get("rw"),
        layer_ids=views.layer_ids,
        parts=_by_layer(parts, views.num_experts),
        weights_a=_by_layer(views.routing_weights[0], views.num_experts),
        weights_b=_by_layer(views.routing_weights[1], views.num_experts),
        mean_weights_a=mean_a,
        mean_weights_b=mean_b,
        weights=_weights(spaces, shares),
        shares=shares,
        cosines=cosines,
        view_parts=view_parts,
        words=words,
        collisions=view_parts.get("lexical", 0.0) - math.fsum(word.part for word in words),
    )


def _alpha(spaces: tuple[VectorSpace, VectorSpace]) -> float:
    one, other = (space.alpha for space in spaces)
    return one if one == other else math.sqrt(one * other)


def _weights(spaces: tuple[VectorSpace, VectorSpace], shares: Mapping[View, float]) -> dict[View, float]:
    """Return what was asked for by name; blocks at their own scale have no weights, and a view alone is all."""
    config = spaces[0].config
    counts = blend_weights(config.fusion, _alpha(spaces), config.weights)
    return (dict.fromkeys(shares, 1.0) if len(shares) == 1 else {}) if counts is None else counts


def _shared(views: Views, spaces: tuple[VectorSpace, VectorSpace], share: float) -> tuple[SharedWord, ...]:
    if not share or views.texts is None:
        return ()
    one, other = (None if space.statistics is None else space.statistics.frequencies for space in spaces)
    return shared_words((views.texts[0], views.texts[1]), spaces[0].config.lexical_dim, (one, other), share=share)


def _by_layer(row: npt.NDArray[np.floating], num_experts: Sequence[int]) -> Layers:
    """Cut a row of all experts into one array for each layer."""
    ends = np.cumsum(num_experts)[:-1]
    return tuple(np.split(np.asarray(row, dtype=np.float64), ends))


def _largest(scores: Wide, n: int) -> list[int]:
    """Return the places of the `n` largest scores, largest first; equal ones in their order."""
    if n < 1:
        raise InputError(f"The number of experts is {n}; it must be 1 or larger.")
    return [int(place) for place in np.argsort(-scores, kind="stable")[:n]]
