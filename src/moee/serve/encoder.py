"""Requests to vectors: the only place of the server that calls the embedder.

Everything here runs on the thread that owns the model, `tokenize` and `detokenize` on that of the tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moee.embedder import MoEE
from moee.errors import InputError, UnknownNameError
from moee.method.config import EmbedderConfig
from moee.method.fusion import check_weighted, fuse, unit
from moee.method.prompts import resolve_prompt
from moee.method.space import VectorSpace
from moee.method.texts import token_sequences
from moee.stores.reduce import Reducer
from moee.types import Array, Fusion, View, Views


@dataclass(frozen=True, slots=True)
class Options:
    """What a request may choose about its vectors; None keeps what the server was started with.

    Attributes:
        prompt: Name of a prompt, or the template that the server was started with.
        fusion: As `MoEE.encode` takes it.
        alpha: As `MoEE.encode` takes it.
        weights: As `MoEE.encode` takes them, in pairs of view and weight.
        normalize: As `MoEE.encode` takes it.
        dimensions: Shorten vectors to so many, by the reduction that was fitted with the index.
        views: Calibrated views that are wanted beside the vector, each as a vector of that view alone.
    """

    prompt: str
    fusion: Fusion | None = None
    alpha: float | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    weights: tuple[tuple[View, float], ...] | None = None
    views: tuple[View, ...] = ()

    @property
    def changes(self) -> dict[str, Any]:
        """What is changed in the configuration, as `MoEE.space` takes it."""
        weights = None if self.weights is None else dict(self.weights)
        return {"fusion": self.fusion, "alpha": self.alpha, "weights": weights, "normalize": self.normalize}


@dataclass(frozen=True, slots=True)
class Part:
    """A request's texts, or as many of them as fit into one turn of the model.

    Attributes:
        texts: Checked texts.
        options: What the request asks for.
        token_ids: Token ids of every text with its prompt, before any cut.
    """

    texts: Sequence[str]
    options: Options
    token_ids: Sequence[list[int]]


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of a part.

    Attributes:
        fused: `(num_texts, dim)` float32.
        views: The vectors of each view alone, by name, if they were asked for.
    """

    fused: Array
    views: Mapping[View, Array] = field(default_factory=dict)

    def take(self, rows: slice) -> Vectors:
        """Return the vectors of some texts, copied, so that a small request does not hold a large batch in memory."""
        return Vectors(self.fused[rows].copy(), {view: each[rows].copy() for view, each in self.views.items()})

    @staticmethod
    def join(parts: Sequence[Vectors]) -> Vectors:
        """Return the vectors of all parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        fused = np.concatenate([each.fused for each in parts])
        return Vectors(fused, {view: np.concatenate([each.views[view] for each in parts]) for view in parts[0].views})


class Encoder:
    """An embedder as a server uses it: texts of several requests in one run of the model.

    Args:
        embedder: Turns texts into vectors.
        prompts: Further prompts that requests may choose.
        reducer: Shortens vectors; None if none was fitted.

    Raises:
        InputError: If the embedder's vectors depend on what shares their batch, or a prompt is unknown.
    """

    def __init__(self, embedder: MoEE, prompts: Iterable[str] = (), reducer: Reducer | None = None) -> None:
        config = embedder.config
        config.check_alone("served, where texts of different clients share a batch; `moee embed` keeps that way")
        self._embedder = embedder
        self._reducer = reducer
        own = (config.prompt, config.query_prompt, config.document_prompt)
        names = dict.fromkeys([*(prompt for prompt in own if prompt is not None), *prompts])
        # requests are cut, or refused, before they come here
        self._by_prompt = {name: embedder.with_settings(prompt=name, truncate="end") for name in names}

    @property
    def embedder(self) -> MoEE:
        """The embedder as it was given."""
        return self._embedder

    @property
    def prompts(self) -> tuple[str, ...]:
        """Prompts that requests may choose, the configured one first."""
        return tuple(self._by_prompt)

    @property
    def max_tokens(self) -> int | None:
        """Longest text with its prompt, in tokens; None if there is no limit."""
        limits = (self._embedder.config.max_length, self._embedder.info.max_tokens)
        return min((limit for limit in limits if limit is not None), default=None)

    def check_prompt(self, name: str | None) -> str:
        """Return the name of a prompt that is served; the configured one for None."""
        if name is None:
            return self.prompts[0]
        if name not in self._by_prompt:
            raise UnknownNameError(
                "prompt_name", name, self.prompts, hint="Start the server with --prompts to serve more."
            )
        return name

    def check_views(self, options: Options) -> None:
        """Refuse views that this model's configuration cannot give.

        Raises:
            InputError: If a view that is weighed or returned needs a template apart from its text.
        """
        _with_views(self._space(options), options.views)

    def check_dimensions(self, options: Options) -> None:
        """Refuse a length that vectors cannot be shortened to.

        Raises:
            InputError: If no reduction was fitted, or it does not give so many dimensions of this fusion.
        """
        if options.dimensions is None:
            return
        if self._reducer is None:
            raise InputError(
                f"dimensions is {options.dimensions}, and no reduction was fitted: cut short as they are, these "
                "vectors would lose their meaning. Leave it out, or serve an index that was built with --dims."
            )
        _shorter(self._reducer, options.dimensions, self._space(options).config)

    def _space(self, options: Options) -> VectorSpace:
        """Return the way to the vectors of some options, without statistics: for checks."""
        return VectorSpace(self._by_prompt[options.prompt].config).replace(**options.changes)

    def prepare(self) -> int:
        """Fit the statistics of every prompt that has none, and run the model once; return the vectors' length."""
        widths = [len(each.encode("ready")) for each in self._by_prompt.values()]
        return widths[0]

    def tokenize(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        """Return the token ids of every text with its prompt, before any cut."""
        return token_sequences(
            texts,
            resolve_prompt(prompt),
            self._embedder.backend.tokenize,
            cleaning=self._embedder.config.cleaning,
            truncate="end",
            max_tokens=None,
            prompt_tokens=self._embedder.config.prompt_tokens,
        )

    def detokenize(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Return the texts of token ids of the model's own tokenizer."""
        return self._embedder.backend.detokenize(sequences)

    def encode(self, parts: Sequence[Part]) -> list[Vectors | Exception]:
        """Turn parts of one prompt into vectors, in one run of the model.

        A part that fails takes no other with it: after an error each runs alone.

        Returns:
            For each part its vectors, or the error that it alone raises.
        """
        try:
            return list(self._together(parts))
        except Exception as error:
            if len(parts) == 1:
                return [error]
        return [self.encode([part])[0] for part in parts]

    def _together(self, parts: Sequence[Part]) -> list[Vectors]:
        embedder = self._by_prompt[parts[0].options.prompt]
        texts = [text for part in parts for text in part.texts]
        spaces = {part.options: self._space(part.options) for part in parts}
        with_tokens = any(
            "tokens" in _with_views(space, options.views).config.captured for options, space in spaces.items()
        )
        token_ids = [ids for part in parts for ids in part.token_ids]
        views = embedder.encode_views(texts, token_ids=token_ids, with_tokens=with_tokens)
        ends = np.cumsum([len(part.texts) for part in parts])
        places = [slice(end - len(part.texts), end) for part, end in zip(parts, ends, strict=True)]
        alike: dict[Options, list[int]] = {}
        for number, part in enumerate(parts):
            alike.setdefault(part.options, []).append(number)
        found: dict[int, Vectors] = {}
        for options, numbers in alike.items():
            # those who ask for the same are fused at once: it costs as much for one text as for many
            rows = np.concatenate([np.arange(places[number].start, places[number].stop) for number in numbers])
            vectors = self._fused(embedder, views if len(alike) == 1 else views.take(rows), options)
            start = 0
            for number in numbers:
                stop = start + len(parts[number].texts)
                found[number] = vectors.take(slice(start, stop))
                start = stop
        return [found[number] for number in range(len(parts))]

    def _fused(self, embedder: MoEE, views: Views, options: Options) -> Vectors:
        space = embedder.space(**options.changes)
        blocks = _with_views(space, options.views).blocks(views)
        dims = options.dimensions
        fused = space.checked(space.fuse(blocks) if dims is None else self._shortened(space, blocks, dims))
        scaled = unit if space.config.normalize else np.array
        return Vectors(fused, {view: scaled(blocks[view]) for view in options.views})

    def _shortened(self, space: VectorSpace, blocks: Mapping[View, Array], dimensions: int) -> Array:
        assert self._reducer is not None, "checked by check_dimensions"
        config = space.config
        reducer = _shorter(self._reducer, dimensions, config)
        short = reducer.reduce({view: unit(blocks[view]) for view in config.views})
        # of unit length already, unless a text lacks a view; one view is given as it is
        return fuse(short, config.fusion, space.alpha, weights=config.weights, normalize=config.fusion == "weighted")


def _with_views(space: VectorSpace, views: Sequence[View]) -> VectorSpace:
    """Return the space whose blocks are those of a space and of some views besides."""
    if set(views) <= set(space.config.captured):
        return space
    return space.replace(weights=dict.fromkeys((*space.config.captured, *views), 1.0))


def _shorter(reducer: Reducer, dimensions: int, config: EmbedderConfig) -> Reducer:
    """Return the reduction of a fusion's vectors to so many dimensions; their products are those of such an index."""
    check_weighted(config.fusion, "shortened")
    return reducer.shortened(dimensions, config.views)
