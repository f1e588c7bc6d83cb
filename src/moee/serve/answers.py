"""Answers: JSON built piece by piece, and every error in the shape of its path."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from moee.errors import MoEEError, shown
from moee.serve.errors import INTERNAL, Refusal, body_of, refusal_of, status_of
from moee.serve.limits import ClientGoneError
from moee.serve.logs import log_failure, note
from moee.types import Array

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Encoding = Literal["float", "base64"]

_AT_ONCE = 64
"""Items written between two chances for other requests: about 5 ms of work."""


def wire(vector: Array, encoding: Encoding = "float") -> list[float] | str:
    """Return a vector as JSON carries it: numbers, or the base64 of little-endian float32, as OpenAI writes it."""
    if encoding == "base64":
        return base64.b64encode(np.ascontiguousarray(vector, dtype="<f4").tobytes()).decode("ascii")
    numbers: list[float] = vector.tolist()
    return numbers


async def json_list(items: Iterable[Any]) -> bytes:
    """Return a JSON list of many large items, without keeping other requests waiting until all are written."""
    parts: list[bytes] = []
    for number, item in enumerate(items, start=1):
        parts.append(to_json(item))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return b"[" + b",".join(parts) + b"]"


class JsonAnswer(Response):
    """A JSON answer, of whatever JSON can hold; bytes are JSON already."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return content if isinstance(content, bytes) else to_json(content)


def refuse(path: str, refusal: Refusal) -> JsonAnswer:
    """Return the answer to a refusal on a path."""
    note(error=refusal.kind)
    return JsonAnswer(body_of(path, refusal), status_of(path, refusal), refusal.headers)


class AnswerErrors:
    """Turn every exception of the application into an answer; none reaches the web server, none shows its traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or answer the exception."""
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientGoneError:
            note(error="client_gone")
        except Exception as error:
            refusal = _refusal(error)
            if has_begun:  # too late to answer anything else
                raise
            await refuse(scope["path"], refusal)(scope, receive, send)


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    refusal = refusal_of(error) if isinstance(error, MoEEError) else Refusal("internal", INTERNAL)
    if refusal.kind in ("internal", "backend", "unhealthy"):
        log_failure(error)
    return refusal


def handle_errors(app: FastAPI) -> None:
    """Give the errors that FastAPI answers itself the shape of all others."""
    from fastapi.exceptions import RequestValidationError

    async def unfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError), "registered for it"
        return refuse(request.url.path, _unfit(error.errors()))

    async def unrouted(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "registered for it"
        return refuse(request.url.path, _unrouted(request, error))

    app.add_exception_handler(RequestValidationError, unfit)
    app.add_exception_handler(HTTPException, unrouted)


def _unrouted(request: Request, error: HTTPException) -> Refusal:
    path = shown(request.url.path)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{path} does not take {shown(request.method)}; it takes {allowed}."
        return Refusal("method_not_allowed", message, headers=error.headers)
    if error.status_code == 400:
        return Refusal("invalid_json", "The body cannot be read as JSON. Send a JSON object in UTF-8.")
    return Refusal("not_found", f"There is nothing at {shown}. /openapi.json lists what there is.")


def _unfit(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """Say what is wrong with a body that does not fit, its first fault if there are several."""
    fault = errors[0]
    place = [str(each) for each in fault["loc"] if each != "body"]
    name = ".".join(place) or "The body"
    more = f" ({len(errors) - 1} more faults.)" if len(errors) > 1 else ""
    kind = {"json_invalid": "invalid_json", "empty": "empty"}.get(fault["type"], "validation")
    if fault["type"] == "json_invalid":
        message = f"The body is not valid JSON: {fault['ctx']['error']}, at character {fault['loc'][-1]}."
    elif fault["type"] == "missing" and place:
        message = f"{name} is missing."
    elif not place and not isinstance(fault.get("input"), (dict, list, str, int, float)):
        message = "The body is no JSON object. Send one, with the header `Content-Type: application/json`."
    elif fault["type"] in OWN_FAULTS:
        message = f"{name}: {fault['msg']}" if place else str(fault["msg"])
    else:
        message = f"{name} is {shown(fault['input'])}. {fault['msg']}."
    return Refusal(kind, message + more, param=place[0] if place else None)


OWN_FAULTS = ("empty", "text", "tokens", "unknown_field", "weights")
"""Types of the faults that `schemas` finds itself; their messages are whole."""
