"""The application: routes, and what stands before them. Wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from moee.embedder import MoEE
from moee.index.searcher import Searcher
from moee.serve.answers import AnswerErrors, handle_errors
from moee.serve.auth import RequireKey
from moee.serve.limits import Limits
from moee.serve.logs import RequestLog
from moee.serve.page import SecurityHeaders, page
from moee.serve.routes import openai, search, tei
from moee.serve.service import Service
from moee.serve.settings import Settings

DESCRIPTION = """Texts to vectors through a Mixture-of-Experts LLM: hidden states, routing weights, or both in one.

Under `/v1/` requests, answers and errors are OpenAI's; elsewhere they are those of text-embeddings-inference (TEI)."""


def create_app(embedder: MoEE, settings: Settings, searcher: Searcher | None = None) -> FastAPI:
    """Build the application around an embedder.

    Args:
        embedder: Turns texts into vectors.
        settings: Limits, names and keys.
        searcher: Searcher over an index of the same model, for `/search` and `/map`.

    Returns:
        An ASGI application; `app.state.service` is what it serves.

    Raises:
        InputError: If the embedder's vectors depend on what shares their batch, or a prompt is unknown.
    """
    service = Service(embedder, settings, searcher)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="moee",
        version=version("moee"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # the pages that FastAPI brings load their scripts from a CDN
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # names of functions in clients that are generated
    )
    app.state.service = service
    routers = (openai.router(service), tei.router(service), search.router(service), tei.public_router(service), page())
    for routes in routers:
        app.include_router(routes)
    handle_errors(app)
    _put_before(app, service)
    return app


def _put_before(app: FastAPI, service: Service) -> None:
    """Put what every request passes before the routes. The last one that is added is the first that is passed."""
    settings = service.settings
    app.add_middleware(Limits, settings=settings, admission=service.admission)
    if settings.api_key is not None:
        app.add_middleware(RequireKey, key=settings.api_key)
    app.add_middleware(AnswerErrors)
    if settings.cors_allow_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_allow_origin,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog, metrics=service.metrics)
