"""The API of text-embeddings-inference: `/embed`, `/similarity`, `/rerank`, `/info`, `/health`, `/ping`, `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from moee.serve.answers import JsonAnswer, json_list, wire
from moee.serve.metrics import CONTENT_TYPE
from moee.serve.routes.described import EMBEDDING, KEY, READING, tei_errors
from moee.serve.schemas import (
    EmbedRequest,
    InfoAnswer,
    Rank,
    RerankRequest,
    SimilarityParameters,
    SimilarityRequest,
)
from moee.serve.service import Service

_EMBEDDING = tei_errors(424, *EMBEDDING)


def router(service: Service) -> APIRouter:
    """Return the routes that need the key."""
    routes = APIRouter(tags=["TEI"], dependencies=[KEY])

    @routes.post("/embed", response_model=list[list[float]], responses=_EMBEDDING)
    async def embed(request: EmbedRequest) -> JsonAnswer:
        """Embed texts, or token ids of the model's own tokenizer."""
        options = service.options(
            prompt_name=request.prompt_name,
            fusion=request.fusion,
            alpha=request.alpha,
            weights=request.weights,
            normalize=request.normalize,
            dimensions=request.dimensions,
        )
        texts = await service.texts_of(request.inputs, param="inputs")
        encoded, _ = await service.embed(texts, options, truncate=request.truncate, param="inputs")
        return JsonAnswer(await json_list(wire(vector) for vector in encoded.vectors.fused))

    @routes.post("/similarity", response_model=list[float], responses=_EMBEDDING)
    async def similarity(request: SimilarityRequest) -> JsonAnswer:
        """Compare a text with others: the cosine of each pair."""
        chosen = request.parameters or SimilarityParameters.model_validate({})
        options = service.options(
            prompt_name=chosen.prompt_name, fusion=chosen.fusion, alpha=chosen.alpha, weights=chosen.weights
        )
        texts = [request.inputs.source_sentence, *request.inputs.sentences]
        encoded, _ = await service.embed(texts, options, truncate=chosen.truncate, param="sentences")
        vectors = encoded.vectors.fused
        scores: list[float] = service.encoder.embedder.similarity(vectors[:1], vectors[1:])[0].tolist()
        return JsonAnswer(scores)

    @routes.post("/rerank", response_model=list[Rank], responses=_EMBEDDING)
    async def rerank(request: RerankRequest) -> JsonAnswer:
        """Order texts by how alike they are to a query, best first."""
        ranked, _ = await service.rank(
            request.query,
            request.texts,
            fusion=request.fusion,
            alpha=request.alpha,
            weights=request.weights,
            truncate=request.truncate,
            param="texts",
        )
        return JsonAnswer(
            [
                {
                    "index": place,
                    "score": score if request.raw_scores else (1 + score) / 2,
                    **({"text": request.texts[place]} if request.return_text else {}),
                }
                for place, score in ranked
            ]
        )

    @routes.get("/info", response_model=InfoAnswer, responses=tei_errors(*READING))
    async def info() -> JsonAnswer:
        """Describe the model, the vectors, the index and the limits of this server."""
        return JsonAnswer(await service.info())

    return routes


def public_router(service: Service) -> APIRouter:
    """Return the routes that are open without a key."""
    routes = APIRouter(tags=["TEI"])

    @routes.head("/health", include_in_schema=False)  # FastAPI, unlike others, does not add it to GET
    @routes.get("/health", response_class=Response, responses=tei_errors(413))
    async def health() -> Response:
        """Say that the server takes requests; while it stops, the answer is 503."""
        return Response()

    @routes.head("/ping", include_in_schema=False)
    @routes.get("/ping", response_class=Response, responses=tei_errors(413))
    async def ping() -> Response:
        """Say the same as `/health`."""
        return Response()

    @routes.get("/metrics", response_class=Response, responses=tei_errors(413))
    async def metrics() -> Response:
        """Show counts and times, for Prometheus."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    return routes
