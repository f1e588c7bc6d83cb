"""The explorer page and its files, and the headers that keep a browser from loading anything else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = Path(__file__).with_name("explorer")
"""The page as it is shipped."""

HEADERS = {
    # everything comes from this server; pictures may also be drawn by the page itself
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    # a browser asks each time and gets 304 where its copy is still right; texts stay in no cache
    "cache-control": "no-cache",
}


class SecurityHeaders:
    """Add `HEADERS` to every answer that does not say otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the headers."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message.get("headers", ())}
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [
                    *message.get("headers", ()),
                    *(each for each in added if each[0] not in present),
                ]
            await send(message)

        await self._app(scope, receive, sending)


def page() -> APIRouter:
    """Return the page at `/` and its files under `/static/`."""
    routes = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=FOLDER)

    @routes.head("/", response_class=Response)
    @routes.get("/", response_class=Response)
    async def index(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    routes.mount("/static", files, name="static")
    return routes
