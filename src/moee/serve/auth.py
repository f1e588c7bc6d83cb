"""The API key: who has none, or a wrong one, gets no further than here."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from moee.serve.errors import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PUBLIC_PATHS = frozenset({"/", "/health", "/ping", "/metrics", "/openapi.json"})
"""Paths that are open without a key: what a load balancer, Prometheus and a browser's first look need, as in TEI, and
the schema, which is the same on every server and has no word on the model or the texts."""
STATIC_PREFIX = "/static/"
"""Path of the page's own files; the page asks for the key itself."""


def is_public(path: str) -> bool:
    """Return whether a path is open without a key."""
    return path in PUBLIC_PATHS or path.startswith(STATIC_PREFIX)


class RequireKey:
    """Refuse requests without the key before anything of their body is read."""

    def __init__(self, app: ASGIApp, *, key: str) -> None:
        self._app = app
        self._digest = _digest(key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the key, and go on."""
        if scope["type"] == "http" and not is_public(scope["path"]):
            self._check(dict(scope["headers"]).get(b"authorization"))
        await self._app(scope, receive, send)

    def _check(self, header: bytes | None) -> None:
        challenge = {"WWW-Authenticate": "Bearer"}
        if header is None:
            raise Refusal(
                "unauthorized",
                "This server asks for an API key. Send it as the header `Authorization: Bearer KEY`.",
                headers=challenge,
            )
        scheme, _, key = header.partition(b" ")
        # digests have one length, so that neither the time nor an early end tells how much of a guess is right
        is_right = hmac.compare_digest(_digest(key.strip()), self._digest)
        if scheme.lower() != b"bearer" or not is_right:
            raise Refusal(
                "unauthorized",
                "The API key is wrong. Send the key that the server was started with as `Authorization: Bearer KEY`.",
                headers=challenge,
            )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
