"""What the routes share: the model behind its queue, the index, and the checks that every request passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from moee.embedder import MoEE
from moee.errors import InputError
from moee.index.searcher import Searcher
from moee.method.explanation import Explanation
from moee.method.fusion import uses_alpha
from moee.method.similarity import rank
from moee.serve.batcher import Batcher, Encoded
from moee.serve.encoder import Encoder, Options
from moee.serve.errors import Refusal
from moee.serve.fields import Inputs
from moee.serve.finder import Blocks, Finder
from moee.serve.limits import AdmissionControl
from moee.serve.logs import note
from moee.serve.metrics import Metrics
from moee.serve.schemas import ExplainRequest, SearchRequest
from moee.serve.settings import Settings
from moee.types import Fusion, View

T = TypeVar("T")


class Service:
    """An embedder, and an index if there is one, ready to be asked by many at once.

    Args:
        embedder: Turns texts into vectors; its statistics are fitted here if they are not yet.
        settings: Settings of the server.
        searcher: Searcher over an index of the same model.

    Raises:
        InputError: If the embedder's vectors depend on what shares their batch, or a prompt is unknown.
    """

    def __init__(self, embedder: MoEE, settings: Settings, searcher: Searcher | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.encoder = Encoder(embedder, settings.prompts, None if searcher is None else searcher.reducer)
        self.dim = self.encoder.prepare()
        self.batcher = Batcher(self.encoder, settings, self.metrics)
        self.admission = AdmissionControl(settings, lambda: self.batcher.waiting_s)
        self.started_at = int(time.time())
        self._tokenizer = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
        self._finder = None if searcher is None else Finder(searcher)
        # what is explained are texts of the index, if there is one
        self._explainer = embedder if searcher is None else searcher.documents
        self._asked = embedder if searcher is None else searcher.embedder
        self._search_alpha = None if searcher is None else searcher.alpha

    @property
    def model_id(self) -> str:
        """The model, without the folders above it: where it lies is nobody's business."""
        name = self.encoder.embedder.info.name
        return Path(name).resolve().name if Path(name).is_dir() else name

    @property
    def model_name(self) -> str:
        """The model's name for clients."""
        return self.settings.served_model_name or self.model_id

    @property
    def finder(self) -> Finder:
        """The index."""
        if self._finder is None:
            raise Refusal("no_index", "This server has no index. Start it with one: moee serve --index DIR")
        return self._finder

    def start(self) -> None:
        """Begin to take turns; called inside the event loop."""
        self.batcher.start()

    async def stop(self) -> None:
        """End the threads, once every accepted request is answered."""
        await self.batcher.stop()
        await asyncio.to_thread(self._tokenizer.shutdown)
        if self._finder is not None:
            await self._finder.stop()

    async def embed(
        self, texts: Sequence[str], options: Options, *, truncate: bool | None, param: str, last: str | None = None
    ) -> tuple[Encoded, int]:
        """Turn a request's texts into vectors.

        Args:
            texts: Each with a visible character.
            options: What the request asks for.
            truncate: Cut what is over the model's limit; None as the server was started.
            param: The field that holds the texts, for messages.
            last: The field that holds the last text, if it is another.

        Returns:
            The vectors, and the tokens that the model read.

        Raises:
            Refusal: If there are too many texts, one is too long, all together are, or too much waits already.
            MoEEError: If the texts cannot be embedded.
        """
        self.check_number(len(texts) - (last is not None), param)
        token_ids, counts = await self._tokenized(
            lambda: self.encoder.tokenize(texts, options.prompt), truncate=truncate, param=param, last=last
        )
        encoded = await self.batcher.encode(texts, counts, options, token_ids)
        note(queue_ms=encoded.queue_s * 1e3, inference_ms=encoded.inference_s * 1e3)
        return encoded, sum(counts)

    async def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        fusion: Fusion | None,
        alpha: float | None,
        weights: Mapping[View, float] | None,
        truncate: bool | None,
        param: str,
    ) -> tuple[list[tuple[int, float]], int]:
        """Order documents by how alike they are to a query, each embedded with its own prompt, as `MoEE.rank` does.

        Args:
            query: With a visible character.
            documents: Each with one.
            fusion: As `MoEE.encode` takes it.
            alpha: As `MoEE.encode` takes it.
            weights: As `MoEE.encode` takes them.
            truncate: As `embed`.
            param: The field that holds the documents, for messages.

        Returns:
            The places of the documents with their cosines, best first, and the tokens that the model read.

        Raises:
            Refusal, MoEEError: As `embed`.
        """
        asking, answering = (
            self.options(prompt_name=prompt, fusion=fusion, alpha=alpha, weights=weights)
            for prompt in self.encoder.embedder.config.search_prompts()
        )
        if asking == answering:  # one turn of the model for both
            both, tokens = await self.embed(
                [*documents, query], answering, truncate=truncate, param=param, last="query"
            )
            vectors = both.vectors.fused
            return rank(vectors[-1:], vectors[:-1]), tokens
        self.check_number(len(documents), param)
        first, asked = await self.embed([query], asking, truncate=truncate, param="query")
        second, answered = await self.embed(documents, answering, truncate=truncate, param=param)
        return rank(first.vectors.fused, second.vectors.fused), asked + answered

    async def search(self, request: SearchRequest) -> dict[str, Any]:
        """Return the texts of the index that are most like a query; see `Finder.find`.

        Raises:
            Refusal: If there is no index; as `embed` for the rest.
            MoEEError: If the filter is wrong, or the store fails.
        """
        finder = self.finder
        options = Options(finder.prompt, normalize=True, views=finder.views)

        async def embed(query: str) -> Blocks:
            encoded, _ = await self.embed([query], options, truncate=None, param="query")
            return {view: rows[0] for view, rows in encoded.vectors.views.items()}

        return await finder.find(request, embed)

    async def explain(self, request: ExplainRequest) -> Explanation:
        """Split the similarity of two texts into its parts.

        Raises:
            Refusal: If one is too long.
            MoEEError: If the texts cannot be embedded.
        """
        texts, as_query, alpha = request.texts, request.as_query, request.alpha
        embedder = self._asked if as_query else self._explainer
        config = embedder.config
        fusion = request.fusion or ("weighted" if request.weights is not None else config.fusion)
        if as_query and alpha is None and uses_alpha(fusion):
            alpha = self._search_alpha  # a search weighs by that of documents, whatever the query's prompt would
        chosen: dict[str, Any] = {"fusion": request.fusion, "alpha": alpha, "weights": request.weights}
        prompts = config.search_prompts() if as_query else (config.prompt, config.prompt)
        self.check_number(len(texts), "texts")
        pair = list(zip(texts, prompts, strict=True))
        await self._tokenized(
            lambda: [ids for text, prompt in pair for ids in self.encoder.tokenize([text], prompt)],
            truncate=None,
            param="texts",
        )
        one, other = texts
        return await self.batcher.call(lambda: embedder.explain(one, other, as_query=as_query, **chosen))

    async def texts_of(self, inputs: Inputs, *, param: str) -> list[str]:
        """Return the texts of a request; token ids are turned back into text.

        Raises:
            Refusal: If there are too many, an id is unknown, or ids mean nothing that can be seen.
        """
        self.check_number(len(inputs), param)
        if inputs.texts:
            return inputs.texts
        try:
            texts = await self._tokenizing(lambda: self.encoder.detokenize(inputs.tokens))
        except InputError as error:
            raise Refusal("tokenizer", str(error), param=param) from error
        for place, text in enumerate(texts):
            if not text.strip():
                raise Refusal(
                    "empty",
                    f"The token ids of input {place} stand for nothing but whitespace. Leave it out.",
                    param=param,
                )
        return texts

    def options(
        self,
        *,
        prompt_name: str | None,
        fusion: Fusion | None,
        alpha: float | None,
        weights: Mapping[View, float] | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        views: Sequence[View] = (),
    ) -> Options:
        """Return what a request chose.

        Raises:
            Refusal: If the prompt is not served, a view cannot be had, or vectors cannot be shortened so.
        """
        try:
            prompt = self.encoder.check_prompt(prompt_name)
        except InputError as error:
            raise Refusal("validation", str(error), param="prompt_name") from error
        pairs = None if weights is None else tuple(weights.items())
        options = Options(prompt, fusion, alpha, normalize, dimensions, pairs, tuple(dict.fromkeys(views)))
        try:
            self.encoder.check_views(options)
        except InputError as error:
            raise Refusal("validation", str(error), param="weights" if weights else "return") from error
        try:
            self.encoder.check_dimensions(options)
        except InputError as error:
            raise Refusal("dimensions", str(error), param="dimensions") from error
        return options

    def check_number(self, count: int, param: str) -> None:
        """Refuse a request of too many texts."""
        limit = self.settings.max_client_batch_size
        if count > limit:
            raise Refusal(
                "too_large",
                f"{param} has {count} texts; the limit of this server is {limit} in one request. Send them in several, "
                "or start the server with a larger --max-client-batch-size.",
                param=param,
            )

    async def _tokenized(
        self, tokenize: Callable[[], list[list[int]]], *, truncate: bool | None, param: str, last: str | None = None
    ) -> tuple[list[list[int]], list[int]]:
        """Return the token ids of every text, from the tokenizer's thread, and how many the model will read of each."""
        started = time.perf_counter()
        token_ids = await self._tokenizing(tokenize)
        tokenization_s = time.perf_counter() - started
        tokens = self._cut([len(ids) for ids in token_ids], truncate=truncate, param=param, last=last)
        self.metrics.tokenization.observe(tokenization_s)
        self.metrics.input_tokens.observe(sum(tokens))
        note(inputs=len(tokens), tokens=sum(tokens), tokenization_ms=tokenization_s * 1e3)
        return token_ids, tokens

    def _cut(self, counts: Sequence[int], *, truncate: bool | None, param: str, last: str | None = None) -> list[int]:
        """Return the tokens of every text after the cut, or refuse those that are too long."""
        limit = self.encoder.max_tokens
        long = [] if limit is None else [place for place, count in enumerate(counts) if count > limit]
        if not long or limit is None:
            return self._fitting(list(counts), param)
        if not (self.settings.auto_truncate if truncate is None else truncate):
            is_last = last is not None and long[0] == len(counts) - 1
            what = f"The text of {last}" if is_last else f"Text {long[0]} of {param}"
            raise Refusal(
                "too_long",
                f"{what} is {counts[long[0]]} tokens with its prompt, over the limit of {limit} "
                f"({len(long)} such texts). Shorten it, or allow a cut with `truncate: true`.",
                param=last if is_last else param,
            )
        self.metrics.truncated.inc(len(long))
        note(truncated=len(long))
        return self._fitting([min(count, limit) for count in counts], param)

    def _fitting(self, tokens: list[int], param: str) -> list[int]:
        total, limit = sum(tokens), self.settings.max_queue_tokens
        if total > limit:
            raise Refusal(
                "too_large",
                f"{param} has {total} tokens with prompts; the limit of this server is {limit} in one request. Send "
                "them in several, or start the server with a larger --max-queue-tokens.",
                param=param,
            )
        return tokens

    async def _tokenizing(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._tokenizer, function)

    async def info(self) -> dict[str, Any]:
        """Return what `/info` shows."""
        embedder, settings = self.encoder.embedder, self.settings
        info, config = embedder.info, embedder.config
        return {
            "model_id": self.model_id,
            "served_model_name": self.model_name,
            "model_type": info.model_type,
            "device": info.device,
            "dtype": info.dtype,
            "dim": self.dim,
            "dims": embedder.dims,
            "hidden_size": info.hidden_size,
            "num_moe_layers": len(info.layer_ids),
            "num_experts": list(info.num_experts),
            "max_input_tokens": self.encoder.max_tokens,
            "prompt": config.prompt,
            "prompts": list(self.encoder.prompts),
            "fusion": config.fusion,
            "alpha": embedder.alpha,
            "weights": {view: config.weights[view] for view in config.views} if config.fusion == "weighted" else None,
            "calibration": config.calibration,
            "max_concurrent_requests": settings.max_concurrent_requests,
            "max_batch_tokens": settings.max_batch_tokens,
            "max_client_batch_size": settings.max_client_batch_size,
            "auto_truncate": settings.auto_truncate,
            "payload_limit": settings.payload_limit,
            "version": version("moee"),
            "index": None if self._finder is None else await self._finder.describe(),
        }
