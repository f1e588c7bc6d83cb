"""Our own API: `/search`, `/explain` and `/map`."""

from __future__ import annotations

import time

from fastapi import APIRouter

from moee.serve.answers import JsonAnswer
from moee.serve.routes.described import EMBEDDING, KEY, READING, tei_errors
from moee.serve.schemas import ExplainRequest, ExplanationAnswer, MapAnswer, SearchAnswer, SearchRequest
from moee.serve.service import Service


def router(service: Service) -> APIRouter:
    """Return the routes of search and of the explorer page."""
    routes = APIRouter(tags=["Search"], dependencies=[KEY])

    @routes.post("/search", response_model=SearchAnswer, responses=tei_errors(404, 424, *EMBEDDING))
    async def search(request: SearchRequest) -> JsonAnswer:
        """Find the texts of the index that are most like a query.

        Alpha and fusion are chosen here: nothing is embedded again for another weight.
        """
        started = time.perf_counter()
        found = await service.search(request)
        return JsonAnswer({**found, "took_ms": round((time.perf_counter() - started) * 1e3, 2)})

    @routes.post("/explain", response_model=ExplanationAnswer, responses=tei_errors(424, *EMBEDDING))
    async def explain(request: ExplainRequest) -> JsonAnswer:
        """Split the similarity of two texts into the parts that views, layers and experts add to it."""
        explanation = await service.explain(request)
        return JsonAnswer({**explanation.to_dict(), "model": service.model_id})

    @routes.get("/map", response_model=MapAnswer, responses=tei_errors(404, *READING))
    async def corpus_map() -> JsonAnswer:
        """Show the texts of the index as points, near where they are alike. `moee map` makes it."""
        return JsonAnswer(await service.finder.map_json())

    return routes
