"""What routes declare to `/openapi.json` beside their requests: the errors they answer with, and the key."""

from __future__ import annotations

from typing import Any

from fastapi import Security
from fastapi.security import HTTPBearer

from moee.serve.schemas import OpenAIError, TEIError

_ERRORS = {
    400: "The body is not valid JSON, or a text is empty.",
    401: "The API key is missing or wrong.",
    404: "There is no such model, index or map.",
    413: "The body, a text or the number of texts is over a limit.",
    422: "The body does not fit this schema, or a token id is unknown.",
    424: "The model failed.",
    429: "Too much is waiting already; Retry-After says when to try again.",
    500: "The server failed.",
    503: "The server is stopping.",
    504: "The request took longer than the server allows.",
}

KEY = Security(
    HTTPBearer(auto_error=False, scheme_name="key", description="Only if the server was started with --api-key.")
)
"""Declares the key; `auth.RequireKey` checks it before any route is reached."""


def tei_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's description of errors in TEI's shape."""
    return {status: {"model": TEIError, "description": _ERRORS[status]} for status in (*statuses, *_ANYWHERE)}


def openai_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's description of errors in OpenAI's shape."""
    return {status: {"model": OpenAIError, "description": _ERRORS[status]} for status in (*statuses, *_ANYWHERE)}


_ANYWHERE = (500, 503, 504)
EMBEDDING = (400, 401, 413, 422, 429)
"""Statuses of errors that a request with texts can be answered with."""
READING = (401, 413)
"""Statuses of errors of a request without a body; a client may send a body all the same."""
