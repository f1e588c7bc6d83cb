"""OpenAI's API, `/v1/embeddings` and `/v1/models`, and beside it what Cohere, Jina and vLLM call `/v1/rerank`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from pydantic_core import to_json

from moee.errors import shown
from moee.serve.answers import JsonAnswer, json_list, wire
from moee.serve.encoder import Vectors
from moee.serve.errors import Refusal
from moee.serve.routes.described import EMBEDDING, KEY, READING, openai_errors
from moee.serve.schemas import EmbeddingsAnswer, EmbeddingsRequest, ModelCard, ModelList, RankingAnswer, RankingRequest
from moee.serve.service import Service


def router(service: Service) -> APIRouter:
    """Return the routes of OpenAI's API."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI"], dependencies=[KEY])

    @routes.post("/embeddings", response_model=EmbeddingsAnswer, responses=openai_errors(404, *EMBEDDING))
    async def embeddings(request: EmbeddingsRequest) -> JsonAnswer:
        """Embed texts, or token ids of the model's own tokenizer."""
        _check_model(service, request.model)
        options = service.options(
            prompt_name=request.prompt_name,
            fusion=request.fusion,
            alpha=request.alpha,
            weights=request.weights,
            dimensions=request.dimensions,
            views=request.views,
        )
        texts = await service.texts_of(request.input, param="input")
        encoded, tokens = await service.embed(texts, options, truncate=request.truncate, param="input")
        data = await json_list(_items(encoded.vectors, request))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        end = to_json({"model": service.model_name, "usage": usage})
        return JsonAnswer(b'{"object":"list","data":' + data + b"," + end[1:])

    @routes.post("/rerank", response_model=RankingAnswer, responses=openai_errors(404, *EMBEDDING))
    async def rank(request: RankingRequest) -> JsonAnswer:
        """Order documents by how alike they are to a query, best first."""
        _check_model(service, request.model)
        documents = request.documents
        ranked, tokens = await service.rank(
            request.query,
            documents,
            fusion=request.fusion,
            alpha=request.alpha,
            weights=request.weights,
            truncate=request.truncate,
            param="documents",
        )
        results = [
            {
                "index": place,
                "relevance_score": score,
                **({"document": {"text": documents[place]}} if request.return_documents else {}),
            }
            for place, score in ranked[: request.top_n]
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JsonAnswer({"model": service.model_name, "results": results, "usage": usage})

    @routes.get("/models", response_model=ModelList, responses=openai_errors(*READING))
    async def models() -> JsonAnswer:
        """List the served model."""
        return JsonAnswer({"object": "list", "data": [_card(service)]})

    # a hub id has a slash in it
    @routes.get("/models/{model:path}", response_model=ModelCard, responses=openai_errors(404, 422, *READING))
    async def one_model(model: str) -> JsonAnswer:
        """Describe the served model."""
        _check_model(service, model)
        return JsonAnswer(_card(service))

    return routes


def _check_model(service: Service, name: str) -> None:
    if name != service.model_name:
        raise Refusal(
            "model_not_found",
            f"The model {shown(name)} is not served here; {service.model_name!r} is. Start the server with "
            "--served-model-name to give it another name.",
            param="model",
        )


def _card(service: Service) -> dict[str, Any]:
    return {"id": service.model_name, "object": "model", "created": service.started_at, "owned_by": "moee"}


def _items(vectors: Vectors, request: EmbeddingsRequest) -> Iterator[dict[str, Any]]:
    for index, vector in enumerate(vectors.fused):
        item = {"object": "embedding", "index": index, "embedding": wire(vector, request.encoding_format)}
        for name in request.views:
            item[name] = wire(vectors.views[name][index], request.encoding_format)
        yield item
