"""`MoEE`: the one class that ties prompts, a backend, calibration and fusion together. It holds no maths."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.backends.base import Backend
from moee.backends.checkpoint.support import LoadOptions
from moee.backends.open import Opened, Source, backend_of, open_backend
from moee.comparing import Comparing
from moee.data import calibration_texts
from moee.engine import OnBatch, default_batch_tokens, views_of_texts
from moee.errors import InputError
from moee.keeping import Kept
from moee.long_texts import split
from moee.method.calibration import Calibration
from moee.method.calibration_store import Statistics
from moee.method.chunks import Chunk
from moee.method.config import EmbedderConfig, recipe_config
from moee.method.explanation import Explanation, check_pair, explain_pair
from moee.method.lexical import DocumentFrequencies
from moee.method.pooling import PaddingSide
from moee.method.saved import SavedEmbedder, is_saved_embedder, portable, read_embedder
from moee.method.space import VectorSpace, block_dims
from moee.method.texts import check_sample, check_texts
from moee.types import Array, Fusion, ModelInfo, View, Views, join_views

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger("moee")

_WITHOUT_STATISTICS = ("none", "batch")


class MoEE(Kept, Comparing):
    """Texts to vectors through a Mixture-of-Experts LLM (Li & Zhou, ICLR 2025, arXiv 2410.10814).

    A text's vector depends on the text and the configuration alone: not on its batch, its place, or its neighbours
    (`calibration="batch"`, which copies the original code, is the one exception).

    Example:
        >>> from moee import MoEE
        >>> model = MoEE.from_pretrained("fake", calibration="none")
        >>> model.encode(["a cat", "a dog"]).shape
        (2, 2088)

    Args:
        backend: Runs the model.
        config: Every choice between a text and its vector.
        batch_tokens: Token budget of a batch; None chooses by device.
    """

    def __init__(self, backend: Backend, config: EmbedderConfig, *, batch_tokens: int | None = None) -> None:
        super().__init__(backend, config, batch_tokens=batch_tokens or default_batch_tokens(backend.info))

    @classmethod
    def from_pretrained(  # noqa: PLR0913 - each is a choice of its own that a caller names
        cls,
        name: str | Path,
        *,
        recipe: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        batch_tokens: int | None = None,
        padding_side: PaddingSide = "right",
        revision: str | None = None,
        local_files_only: bool = False,
        allow_pickle: bool = False,
        memory: str | int | None = None,
        precision: str = "exact",
        **settings: Any,
    ) -> MoEE:
        """Load a model by name.

        Args:
            name: `"demo"` (embedded, needs no network), a hub id, a model folder, or a folder written by `save`.
            recipe: A named configuration, `"default"` or `"paper"`.
            dtype: `"float32"`, `"bfloat16"` or `"float16"`; None is bfloat16 where the device computes it natively,
                else float32. Settled once; see `info`.
            device: A torch device; None is the first GPU, else the CPU.
            batch_tokens: Token budget of a batch, padding counted; None chooses by device.
            padding_side: Side of the padding in batches; vectors do not depend on it.
            revision: Revision of a hub id.
            local_files_only: Never ask the hub, use what is cached.
            allow_pickle: Load pickle weights, which can run any code that their author put in.
            memory: Memory that the process may take, for example `"4GiB"`, on a GPU the GPU's; None is what is free. A
                model that does not fit is read a layer at a time, once for each chunk of texts.
            precision: `"exact"`, or `"int8"`: weights and activations of 8 bits, on a CPU.
            **settings: Any attribute of `EmbedderConfig`, for example `prompt="ke"` or `scoring="logits"`.

        Raises:
            InputError: If a name or value is unknown; suggests close matches.
            CheckpointError: If the model's files are missing, corrupt or pickled.
            NoMoELayersError: If the model is dense.
            UnsupportedArchitectureError: If its routers cannot be found or used.
            CalibrationError: If a saved embedder's statistics belong to other weights.
        """
        recipe_config(recipe or "default")  # a misspelt recipe is reported before gigabytes are read
        EmbedderConfig().replace(**settings)
        saved = read_embedder(Path(name)) if is_saved_embedder(name) else None
        saved_attention = saved is not None and saved.config.include_attention_routers
        options = LoadOptions(
            dtype=dtype,
            device=device,
            padding_side=padding_side,
            include_attention_routers=bool(settings.get("include_attention_routers", saved_attention)),
            revision=revision or (saved.revision if saved else None),
            local_files_only=local_files_only,
            allow_pickle=allow_pickle,
            memory=memory,
            precision=precision,
        )
        wanted = saved.name if saved else str(name)
        opened = open_backend(wanted, options), Source(portable(wanted), options)
        return cls._of(opened, saved, recipe, batch_tokens, settings)

    @classmethod
    def _of(
        cls, opened: Opened, saved: SavedEmbedder | None, recipe: str | None, tokens: int | None, settings: Any
    ) -> MoEE:
        backend, source = opened
        config = recipe_config(recipe or "default", model_type=backend.info.model_type)
        if saved is not None and recipe is None:
            config = saved.config
        config, known = config.replace(**settings), Statistics(backend.info)
        known.adopt(config, () if saved is None else saved.calibrations)
        return cls(backend, config, batch_tokens=tokens).beside(config, known, source)

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        saved: str | Path | None = None,
        recipe: str | None = None,
        batch_tokens: int | None = None,
        padding_side: PaddingSide = "right",
        **settings: Any,
    ) -> MoEE:
        """Use an LLM that is already in memory; its weights are shared, and it stays usable while texts are encoded.

        Vectors are those of evaluation mode, whatever mode the model is in; nothing of the model is changed, so other
        threads may generate or train with it. Only an optimizer step in the midst of a pass is refused.

        Args:
            model: A decoder of transformers, with or without a language-model head.
            tokenizer: Tokenizer of the model; it is copied.
            saved: A folder written by `save`, of the same weights: its configuration and statistics are used.
            recipe: A named configuration, `"default"` or `"paper"`.
            batch_tokens: Token budget of a batch, padding counted; None chooses by device.
            padding_side: Side of the padding in batches; vectors do not depend on it.
            **settings: Any attribute of `EmbedderConfig`.

        Raises:
            InputError: If a name or value is unknown, or `model` is no model in memory.
            NoMoELayersError: If the model is dense.
            UnsupportedArchitectureError: If its routers cannot be found or used.
            CalibrationError: If statistics of `saved` belong to other weights.
        """
        kept = read_embedder(Path(saved)) if saved is not None else None
        attention = kept is not None and kept.config.include_attention_routers
        opened = backend_of(
            model,
            tokenizer,
            padding_side=padding_side,
            include_attention_routers=bool(settings.get("include_attention_routers", attention)),
        )
        return cls._of(opened, kept, recipe, batch_tokens, settings)

    @property
    def info(self) -> ModelInfo:
        """The model behind the embedder, with the dtype and device in use."""
        return self._backend.info

    @property
    def backend(self) -> Backend:
        """What runs the model: for work on tokens."""
        return self._backend

    @property
    def config(self) -> EmbedderConfig:
        """Every choice between a text and its vector."""
        return self._config

    @property
    def calibration(self) -> Calibration | None:
        """The frozen statistics of the configured prompt; None before they are first needed."""
        return self._known.get(self._config)

    @property
    def alpha(self) -> float:
        """The weight of RW in the sum: the configured number, or the closed form of the statistics in use.

        A rule needs the statistics, so they are fitted if they are not known yet, as `encode` does.
        """
        alpha = self._config.alpha
        return alpha if isinstance(alpha, float) else self.space().alpha

    @property
    def dims(self) -> dict[View, int]:
        """The parts of a vector and their lengths, in their order: `sum(model.dims.values())` is its width."""
        return block_dims(self.info, self._config)

    def space(self, **changes: Any) -> VectorSpace:
        """Return the way from views to vectors, with statistics that are fitted if they are not known yet.

        Args:
            **changes: Any attribute of `EmbedderConfig`; None is as configured.
        """
        config = self._with(**changes)
        return VectorSpace(config, self._statistics(config))

    def with_settings(self, **settings: Any) -> MoEE:
        """Return a second embedder over the same model in memory, with some settings changed.

        Statistics that were fitted for this embedder serve the new one wherever the prompt and the views are the same.
        What is fitted later, by `calibrate` for one, serves that embedder alone.

        Args:
            **settings: Any attribute of `EmbedderConfig`.

        Raises:
            InputError: If a value cannot be used, or needs the model to be loaded anew.
        """
        config = self._config.replace(**settings)
        if config.include_attention_routers != self._config.include_attention_routers:
            raise InputError("include_attention_routers is chosen when a model is loaded. Load it again to change it.")
        return self.beside(config, self._known.copy(), self._source)

    def with_statistics(self, config: EmbedderConfig, statistics: Sequence[Calibration]) -> MoEE:
        """Return another embedder over the same model in memory, which shares no statistics with this one.

        Args:
            config: Configuration of the new embedder.
            statistics: Frozen statistics, one for each of `config.prompts()` in their order, or none.

        Raises:
            CalibrationError: If they belong to another model or prompt.
        """
        known = Statistics(self.info)
        known.adopt(config, statistics)
        return self.beside(config, known, self._source)

    def __repr__(self) -> str:
        info, config = self.info, self._config
        return (
            f"MoEE({info.name!r}: {info.model_type}, {info.dtype} on {info.device}, {len(info.layer_ids)} routers; "
            f"recipe={config.recipe!r}, prompt={config.prompt!r}, fusion={config.fusion!r}, alpha={config.alpha!r}, "
            f"calibration={config.calibration!r})"
        )

    def encode(  # noqa: PLR0913 - each is a choice of its own that a caller names
        self,
        texts: Iterable[str] | str,
        *,
        fusion: Fusion | None = None,
        weights: Mapping[View, float] | None = None,
        alpha: float | None = None,
        prompt: str | None = None,
        normalize: bool | None = None,
        chunk: int | None = None,
        show_progress_bar: bool = False,
    ) -> Array:
        """Turn texts into vectors.

        Args:
            texts: A list, generator, Series or array of strings; a single string gives a single vector.
            fusion: `"weighted"`, or of HS and RW alone `"hs"`, `"rw"`, `"concat"` or `"sum"`; None is the configured
                one.
            weights: What the cosine of every view counts, as `{"hs": 1, "lexical": 0.5}`; alone they choose
                `"weighted"`. None is the configured ones.
            alpha: Weight of the routing weights in `"sum"`; None is the configured one.
            prompt: Name of a prompt or a template with `{text}`; None is the configured one. Its statistics are fitted
                at first use, as the configured prompt's are.
            normalize: Give vectors unit length; None is as configured.
            chunk: Tokens with the prompt over which a text is split into chunks of whole sentences; its vector is
                made of theirs, weighted by their tokens, and nothing of the text is cut off. None splits no text.
            show_progress_bar: Show a progress bar on stderr.

        Returns:
            `(num_texts, dim)` float32; `(dim,)` for a single string. The cosine of two vectors is the mean of the
            views' cosines under the weights; that of two `"sum"` vectors `(cos_HS + alpha * cos_RW) / (1 + alpha)`.

        Raises:
            InputError: If there are no texts, a text is empty, or a name is unknown.
            TextTypeError: If a text is no string (names its index), or `texts` is a table, a mapping or a set.
            TruncationError: If a text is over the limit under `truncate="error"`.
            NonFiniteActivationsError, CalibrationError: If a vector would be NaN, infinite or zero; name the text.
        """
        label = "Embedding" if show_progress_bar else None
        # before minutes may go into fitting statistics
        batch = check_texts([texts] if isinstance(texts, str) else texts, on_empty=self._config.on_empty)
        space = self.space(fusion=fusion, weights=weights, alpha=alpha, prompt=prompt, normalize=normalize)
        if chunk is not None:
            space.config.check_alone("made of chunks")
        chunks = None if chunk is None else split(self._backend, batch, space.config, chunk)
        passages = batch if chunks is None else [each.text for own in chunks for each in own]
        vectors = space.vectors(self._views(passages, space.config, label), chunks)
        return np.asarray(vectors[0]) if isinstance(texts, str) else vectors

    def split(self, texts: Iterable[str], chunk: int, *, prompt: str | None = None) -> list[list[Chunk]]:
        """Split texts into chunks of at most `chunk` tokens with the prompt. See `moee.method.chunks.split_texts`.

        Args:
            texts: Texts as in `encode`.
            chunk: See `encode`.
            prompt: Counted with every chunk; None is the configured one.

        Returns:
            The chunks of every text, at least one, each with its place in the text.

        Raises:
            InputError, TextTypeError: As `encode`.
        """
        checked = check_texts(texts, on_empty=self._config.on_empty)
        return split(self._backend, checked, self._with(prompt=prompt), chunk)

    def encode_views(
        self,
        texts: Iterable[str] | str,
        *,
        prompt: str | None = None,
        projections: bool = False,
        with_tokens: bool = False,
        show_progress_bar: bool = False,
        on_batch: OnBatch | None = None,
        token_ids: Sequence[list[int]] | None = None,
    ) -> Views:
        """Turn texts into their views, before calibration and fusion.

        Args:
            texts: Texts as in `encode`; a single string gives views of one row.
            prompt: Name of a prompt or a template with `{text}`; None is the configured one.
            projections: Also give random projections of the routers' inputs, the control for the routing weights.
            with_tokens: Also give the view `tokens` where it has no weight.
            show_progress_bar: Show a progress bar on stderr.
            on_batch: Called with the places of texts and their views as soon as they are known, so that a long run can
                be kept piece by piece.
            token_ids: Token ids of every text with its prompt, before any cut, where they are known already.

        Returns:
            Hidden states and routing weights, with the layers and widths of the routers.

        Raises:
            InputError, TextTypeError, TruncationError, NonFiniteActivationsError: As `encode`.
        """
        return self._views(
            [texts] if isinstance(texts, str) else texts,
            self._with(prompt=prompt),
            "Embedding" if show_progress_bar else None,
            projections=projections,
            with_tokens=with_tokens,
            on_batch=on_batch,
            token_ids=token_ids,
        )

    def fuse(
        self,
        views: Views,
        *,
        fusion: Fusion | None = None,
        weights: Mapping[View, float] | None = None,
        alpha: float | None = None,
        normalize: bool | None = None,
    ) -> Array:
        """Turn views of the configured prompt into vectors: the last step of `encode`, without the model.

        One pass over the texts can so serve several fusions: `fuse(encode_views(texts))` equals `encode(texts)`.

        Args:
            views: Views from `encode_views` of this embedder.
            fusion: See `encode`.
            weights: See `encode`.
            alpha: See `encode`.
            normalize: See `encode`.

        Returns:
            `(num_texts, dim)` float32.
        """
        return self.space(fusion=fusion, weights=weights, alpha=alpha, normalize=normalize).vectors(views)

    def explain(
        self,
        a: str,
        b: str,
        *,
        fusion: Fusion | None = None,
        weights: Mapping[View, float] | None = None,
        alpha: float | None = None,
        as_query: bool = False,
    ) -> Explanation:
        """Split the similarity of two texts into the parts that views, layers and experts add to it.

        Args:
            a: The first text.
            b: The second text.
            fusion: See `encode`.
            weights: See `encode`.
            alpha: See `encode`. `Searcher.search` weighs by `Searcher.alpha`, that of documents.
            as_query: Embed `a` as `encode_query` does and `b` as `encode_document`; else both have the one prompt.

        Returns:
            Parts that add up to the cosine of `encode([a, b])`, or of `encode_query(a)` and `encode_document(b)`.

        Raises:
            InputError: If the vectors depend on their batch (`calibration="batch"`), or as `encode`.
            TextTypeError, TruncationError, NonFiniteActivationsError: As `encode`.
        """
        prompts = self._config.search_prompts() if as_query else (self._config.prompt,) * 2
        changes = {"fusion": fusion, "weights": weights, "alpha": alpha}
        check_pair(VectorSpace(self._with(**changes)))
        check_texts([a, b], on_empty=self._config.on_empty)
        one, other = (self.space(**changes, prompt=prompt) for prompt in prompts)
        if one.config == other.config:
            views = self._views([a, b], one.config, None)
        else:
            views = join_views([self._views([a], one.config, None), self._views([b], other.config, None)])
        return explain_pair((a, b), views, (one, other), model=self.info.name)

    def calibrate(
        self, texts: Iterable[str] | None = None, *, words: bool = True, show_progress_bar: bool = False
    ) -> Calibration:
        """Fit frozen statistics on texts of your own; they need no labels. Used by every later `encode`.

        They help where texts are compared in pairs, and harm where they are to be told apart in classes, for what tells
        the classes of a corpus apart is frequent in it (docs: calibration, with figures).

        Args:
            texts: At least two different strings, each counted once; a few thousand that look like what will be
                embedded are best, below a hundred there is a warning. None fits the built-in sentences again.
            words: Also count how many of the texts hold each word, for the view `lexical`; False keeps the built-in
                counts.
            show_progress_bar: Show a progress bar on stderr.

        Returns:
            The statistics of the configured prompt. Prompts for queries and documents get their own.

        Raises:
            InputError: If there are too few texts, or the configured calibration uses no frozen statistics.
        """
        if self._config.calibration in _WITHOUT_STATISTICS:
            raise InputError(
                f"calibration={self._config.calibration!r} uses no frozen statistics, so there is nothing to fit. "
                "Load the model with calibration='zscore' or 'spectral'."
            )
        label = "builtin" if texts is None else "user"
        sample = calibration_texts() if texts is None else check_sample(texts, on_empty=self._config.on_empty)
        progress = "Calibrating" if show_progress_bar else None
        counts = DocumentFrequencies.fit(sample) if words and texts is not None else None
        for prompt in self._config.prompts():
            config = self._config.replace(prompt=prompt)
            self._known.put(config, self._fit(sample, config, label, progress, counts))
        found = self._known.get(self._config)
        assert found is not None, "the configured prompt is one of its prompts"
        return found

    def close(self) -> None:
        """Release the model. The embedder cannot be used afterwards."""
        self._backend.close()

    def _with(self, **changes: Any) -> EmbedderConfig:
        """Return the configuration with those of `changes` that are not None."""
        return self._config.replace(**{name: value for name, value in changes.items() if value is not None})

    def _views(self, texts: Iterable[str], config: EmbedderConfig, progress: str | None, **options: Any) -> Views:
        tokens = self._batch_tokens
        return views_of_texts(self._backend, texts, config, batch_tokens=tokens, progress=progress, **options)

    def _statistics(self, config: EmbedderConfig) -> Calibration | None:
        """Return the frozen statistics that `config` asks for, fitting them on the built-in sentences at first use."""
        if config.calibration in _WITHOUT_STATISTICS:
            return None
        return self._known.builtin(config, lambda: self._fit(calibration_texts(), config, "builtin", "Calibrating"))

    def _fit(
        self,
        texts: Sequence[str],
        config: EmbedderConfig,
        label: str,
        progress: str | None,
        words: DocumentFrequencies | None = None,
    ) -> Calibration:
        # every view that the prompt allows, so that the statistics serve any weights
        views = self._views(texts, config, progress, with_tokens=config.prompt_tokens == "apart")
        return Calibration.fit(views, info=self.info, config=config, texts=label, frequencies=words)
