"""`Searcher`: questions to an index. It loads the model that the index was built with, and no other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from moee.embedder import MoEE
from moee.errors import InputError
from moee.index.folder import EMBEDDER, IndexFolder, open_index
from moee.index.manifest import Manifest
from moee.index.passages import best_of_documents, check_passages
from moee.method.chunks import Chunk, pool
from moee.method.config import EmbedderConfig
from moee.method.fusion import check_together, check_weighted, check_weights, cosine_weights, join_blocks, unit
from moee.method.saved import SavedEmbedder, read_embedder
from moee.stores.base import search
from moee.stores.filters import Filter
from moee.stores.fulltext import no_full_text
from moee.stores.reduce import Reducer
from moee.stores.store import Hit, Query, weights_over
from moee.types import Array, View, Views

logger = logging.getLogger("moee")


class Searcher:
    """An index with its model in memory. To be closed, or used as a context; not for several threads at once.

    Args:
        index: The open index; closed with the searcher.
        embedder: Embedder with the configuration and the statistics of the index.

    Attributes:
        index: The index without the model.
        folder: Folder of the index.
        store: Records and vectors of the index.
        reducer: How its vectors were shortened; None if they were not.
        embedder: The model, with the configuration and the statistics of the index.
        documents: The embedder with the prompt of documents.
        fusion: The fusion of a search that names none.
        alpha: The weight of the routing weights in a sum that names none.
        weights: What the cosine of every view of the index counts in a search that names nothing.
    """

    def __init__(self, index: IndexFolder, embedder: MoEE) -> None:
        config = embedder.config
        self.index, self.folder, self.store, self.reducer = index, index.folder, index.store, index.reducer
        self.embedder = embedder
        self.documents = documents_of(embedder)
        self.fusion = check_weighted(config.fusion, "searched")
        self.alpha = index.manifest.alpha
        self.weights = settle_weights(index.manifest, config)
        self._queries = embedder.with_settings(prompt=config.query_prompt or config.prompt)

    @classmethod
    def open(cls, folder: str | Path, *, model: MoEE | str | None = None, **options: Any) -> Searcher:
        """Open an index, and load its model unless it is given.

        Args:
            folder: Folder that `moee index build` wrote.
            model: A model in memory, which is shared; or where the index's model lies now, if it was moved. None loads
                what the index names. Whichever it is, configuration and statistics are those of the index.
            **options: As `MoEE.from_pretrained` takes them. `dtype` and `precision` are those of the build if not
                given. A setting that decides vectors, such as `prompt`, must be that of the index.

        Raises:
            InputError: If there is no index, the model has other weights, or a setting is another; with both values.
            StoreError: If the store is damaged or cannot be reached.
            CheckpointError, CalibrationError: If the model or the index's own files cannot be read.
        """
        index = open_index(folder)
        try:
            return cls(index, open_embedder(index, model, options))
        except BaseException:
            index.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """What the index was made from and how."""
        return self.index.manifest

    def __len__(self) -> int:
        return len(self.store)

    def query_blocks(self, texts: Sequence[str]) -> dict[View, Array]:
        """Run the model over queries.

        Args:
            texts: Embedded with the index's query prompt.

        Returns:
            The unit blocks of the index by name, each `(num_texts, dim of the block)`. They serve all weights, see
            `weigh`.

        Raises:
            InputError, TextTypeError, TruncationError, NonFiniteActivationsError: As `MoEE.encode`.
        """
        views = self._queries.encode_views(texts)
        return blocks_of(self._queries, views, self.reducer, hybrid=self.manifest.layout.hybrid)

    @property
    def views(self) -> tuple[View, ...]:
        """The views that weights may name."""
        return self.manifest.views

    def chosen_weights(
        self,
        weights: Mapping[View, float] | None = None,
        *,
        fusion: str | None = None,
        alpha: float | None = None,
        hybrid: bool | None = None,
    ) -> dict[View, float]:
        """Return what every view of the index counts in a search; see `settle_weights`."""
        config = self.embedder.config
        return settle_weights(self.manifest, config, weights, fusion=fusion, alpha=alpha, hybrid=hybrid)

    def named_fusion(self, weights: object = None, fusion: str | None = None, alpha: float | None = None) -> str:
        """Return the name of what a search asks for: `"weighted"`, or the fusion that is meant."""
        if weights is not None:
            return "weighted"
        return fusion or ("sum" if alpha is not None and self.fusion == "weighted" else self.fusion)

    def weigh(
        self,
        blocks: Mapping[View, Array],
        *,
        weights: Mapping[View, float] | None = None,
        fusion: str | None = None,
        alpha: float | None = None,
        hybrid: bool | None = None,
        text: str | None = None,
    ) -> Query:
        """Return the query of the blocks of one text, without the model.

        Args:
            blocks: Blocks by name, each a row of what `query_blocks` returned.
            weights: See `settle_weights`, as the others.
            fusion: A fusion in place of weights.
            alpha: The weight of the routing weights in it.
            hybrid: Whether words are searched.
            text: The query itself, which an index needs that keeps words.

        Raises:
            InputError, UnknownNameError: As `settle_weights`.
        """
        chosen = self.chosen_weights(weights, fusion=fusion, alpha=alpha, hybrid=hybrid)
        return Query(blocks, chosen, text if self.manifest.layout.hybrid else None)

    def query(
        self,
        text: str,
        *,
        weights: Mapping[View, float] | None = None,
        fusion: str | None = None,
        alpha: float | None = None,
        hybrid: bool | None = None,
    ) -> Query:
        """Turn a text into a query; see `query_blocks` and `weigh`."""
        chosen = self.chosen_weights(weights, fusion=fusion, alpha=alpha, hybrid=hybrid)  # before the model runs
        blocks = {view: block[0] for view, block in self.query_blocks([text]).items()}
        return self.weigh(blocks, weights=chosen, text=text)

    def search(  # noqa: PLR0913 - each is a choice of its own that a caller names
        self,
        text: str,
        k: int = 10,
        *,
        weights: Mapping[View, float] | None = None,
        fusion: str | None = None,
        alpha: float | None = None,
        hybrid: bool | None = None,
        where: str | None = None,
        per_document: bool = False,
    ) -> list[Hit]:
        """Return the texts that are most like a query, best first.

        Nothing is embedded again for other weights.

        Args:
            text: The query.
            k: How many; fewer come back if the index or the filter has fewer.
            weights: What the cosine of each view counts, for example `{"hs": 1, "rw": 0.2}`; a view that is not named
                counts 0. None is the index's.
            fusion: `"hs"`, `"rw"` or `"sum"` in place of weights.
            alpha: Weight of the routing weights in `"sum"`; None is the index's.
            hybrid: False leaves words out, True insists on them; None searches them if the index keeps them and they
                count.
            where: A filter over the fields, for example `year >= 2020 and lang == "en"`.
            per_document: Return the best passage of each document alone, in an index of passages.

        Raises:
            InputError: If a value cannot be used, or the filter names an unknown field; as `query` for the rest.
        """
        condition = self.filter(where)
        query = self.query(text, weights=weights, fusion=fusion, alpha=alpha, hybrid=hybrid)
        return self.find(query, k, condition, per_document=per_document)

    def filter(self, where: str | None) -> Filter | None:
        """Read a filter and check it against the fields of the index.

        Raises:
            InputError: If it cannot be read, or names an unknown field.
        """
        if where is None:
            return None
        condition = Filter.parse(where)
        condition.check(self.manifest.layout.fields)
        return condition

    def find(self, query: Query, k: int = 10, where: Filter | None = None, *, per_document: bool = False) -> list[Hit]:
        """Search with a query that is ready; the model is not run.

        Raises:
            InputError: If `k` is not 1 or larger, the query's blocks do not fit, or the best of each document is asked
                for and the index holds whole texts.
        """
        if not per_document:
            return search(self.store, query, k, where)
        check_passages(self.manifest)
        return best_of_documents(lambda limit: search(self.store, query, limit, where), k)

    def close(self) -> None:
        """Close the index. The model stays: it may be shared."""
        self.index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def blocks_of(
    embedder: MoEE,
    views: Views,
    reducer: Reducer | None,
    chunks: Sequence[Sequence[Chunk]] | None = None,
    *,
    hybrid: bool = False,
) -> dict[View, Array]:
    """Return the unit blocks of views, shortened if there is a reducer: what an index stores, and is asked with.

    Args:
        embedder: With the prompt and the statistics of the views.
        views: Views of texts, or of the chunks of texts.
        reducer: None keeps the blocks' lengths.
        chunks: The chunks of every text, whose blocks become one; None if the views are those of texts.
        hybrid: Whether the index keeps words, which then have no block.

    Raises:
        CalibrationError: If a vector is NaN, infinite or zero.
    """
    space = embedder.space()
    units = {view: block for view, block in space.units(views).items() if not (hybrid and view == "lexical")}
    if chunks is not None:
        units = {view: unit(block) for view, block in pool(units, chunks).items()}
    space.checked(join_blocks(units))
    return units if reducer is None else reducer.reduce(units)


def settle_weights(
    manifest: Manifest,
    config: EmbedderConfig,
    weights: Mapping[View, float] | None = None,
    *,
    fusion: str | None = None,
    alpha: float | None = None,
    hybrid: bool | None = None,
) -> dict[View, float]:
    """Return what every view of an index counts, from what is asked for.

    Args:
        manifest: What the index is.
        config: Its configuration, which decides where nothing is asked for.
        weights: What the views count, by name; one that is not named counts 0.
        fusion: `"hs"`, `"rw"` or `"sum"` in place of weights.
        alpha: Weight of the routing weights in `"sum"`, and alone the choice of it; None is the index's.
        hybrid: False leaves the words of a hybrid index out; True searches them, with the weight of the index where
            nothing else is said.

    Raises:
        InputError: If weights are given together with a fusion or alpha, name a view that the index does not hold, or
            are negative, not finite or all 0; if the fusion is `"concat"`; if `hybrid` is True and the index keeps no
            words.
        UnknownNameError: If the fusion or a view is unknown.
    """
    chosen = _asked_weights(manifest, config, weights, fusion, alpha)
    if hybrid and not manifest.layout.hybrid:
        raise no_full_text()
    if hybrid is None or not manifest.layout.hybrid:
        return chosen
    if not hybrid:
        return weights_over(manifest.views, {**chosen, "lexical": 0.0})
    return {**chosen, "lexical": chosen["lexical"] or settle_weights(manifest, config)["lexical"] or 1.0}


def _asked_weights(
    manifest: Manifest,
    config: EmbedderConfig,
    weights: Mapping[View, float] | None,
    fusion: str | None,
    alpha: float | None,
) -> dict[View, float]:
    check_together(fusion, alpha, weights)
    if weights is not None:
        return weights_over(manifest.views, check_weights(weights))
    if fusion is None:
        fusion = "sum" if alpha is not None and config.fusion == "weighted" else config.fusion
    counts = cosine_weights(fusion, manifest.alpha if alpha is None else alpha, config.weights)
    if fusion == config.fusion:
        if manifest.layout.hybrid and "lexical" not in config.views:
            counts = {**counts, "lexical": 1.0}  # words were asked for with a fusion that has no name for them
        # what counted where the index was built; it may hold less, and more
        return {view: counts.get(view, 0.0) for view in manifest.views}
    return weights_over(manifest.views, counts)


def documents_of(embedder: MoEE) -> MoEE:
    """Return the embedder with the prompt of documents as its own."""
    return embedder.with_settings(prompt=embedder.config.document_prompt or embedder.config.prompt)


def open_embedder(index: IndexFolder, model: MoEE | str | None, options: Mapping[str, Any]) -> MoEE:
    """Return the model of an index with the index's configuration and statistics; see `Searcher.open`."""
    saved = read_embedder(index.folder / EMBEDDER)
    loading = _without_settings(saved.config, options)
    if isinstance(model, MoEE):
        if loading:
            raise InputError(f"The model is in memory already, and {', '.join(loading)} cannot be chosen any more.")
        base = model
    else:
        base = _load(index.manifest, saved, model, loading)
    index.manifest.check_model(base.info)
    computed = (index.manifest.dtype, index.manifest.precision)
    if (base.info.dtype, base.info.precision) != computed:
        logger.warning(
            "The index was computed in %s (%s), the model computes in %s (%s): cosines differ a little from those of "
            "the build.",
            *computed,
            base.info.dtype,
            base.info.precision,
        )
    return base.with_statistics(saved.config, saved.calibrations)


def _load(manifest: Manifest, saved: SavedEmbedder, model: str | None, loading: Mapping[str, Any]) -> MoEE:
    fixed = {
        "dtype": manifest.dtype,
        "precision": manifest.precision,
        "include_attention_routers": saved.config.include_attention_routers,
    }
    if model is None:
        fixed["revision"] = saved.revision
        if Path(saved.name).is_absolute() and not Path(saved.name).exists():
            raise InputError(
                f"The index was built with the model in {saved.name!r}, which is not there. If it was moved, say "
                "where it is now (model, --model)."
            )
    return MoEE.from_pretrained(model or saved.name, **{**fixed, **loading})


def _without_settings(config: EmbedderConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of loading; those that decide vectors must be as they were."""
    names = {field.name for field in fields(EmbedderConfig)}
    for name, value in options.items():
        if name in names and value is not None and value != getattr(config, name):
            raise InputError(
                f"The index was built with {name} = {getattr(config, name)!r}, and {value!r} is asked for: vectors of "
                f"the two do not compare. Leave {name} out, or build another index with it."
            )
    return {name: value for name, value in options.items() if name not in names and value is not None}
