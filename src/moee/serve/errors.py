"""What a refused or failed request is told: one exception, its kinds, and its two shapes.

Under `/v1/` an error has OpenAI's shape, elsewhere TEI's. The message is for the client alone: it may quote the
client's own text, so it is never logged, and what went wrong inside the server is never in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from moee.errors import (
    InputError,
    MoEEError,
    NonFiniteActivationsError,
    OutOfMemoryError,
    StoreError,
    TextTypeError,
    TruncationError,
)

OPENAI_PREFIX = "/v1/"
"""Below this path, requests, answers and errors are OpenAI's."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of error.

    Attributes:
        status: Status under TEI's routes and our own.
        openai_status: Status under `/v1/`.
        error_type: TEI's word.
        openai_type: OpenAI's.
        code: OpenAI's, finer than its type; clients branch on it.
    """

    status: int
    openai_status: int
    error_type: str
    openai_type: str
    code: str


def _request(status: int, error_type: str, code: str, *, openai_status: int | None = None) -> Kind:
    return Kind(status, openai_status or status, error_type, "invalid_request_error", code)


def _server(status: int, error_type: str, *, openai_status: int | None = None) -> Kind:
    return Kind(status, openai_status or status, error_type, "server_error", error_type)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "empty": _request(400, "empty", "empty_input"),
        "dimensions": _request(400, "validation", "invalid_value"),
        "invalid_json": _request(400, "validation", "invalid_json"),
        "unauthorized": Kind(401, 401, "unauthorized", "authentication_error", "invalid_api_key"),
        "not_found": _request(404, "not_found", "not_found"),
        "model_not_found": _request(404, "model_not_found", "model_not_found"),
        "no_index": _request(404, "no_index", "no_index"),
        "no_map": _request(404, "no_map", "no_map"),
        "method_not_allowed": _request(405, "method_not_allowed", "method_not_allowed"),
        "too_large": _request(413, "validation", "request_too_large"),
        "too_long": _request(413, "validation", "context_length_exceeded"),
        "validation": _request(422, "validation", "invalid_value", openai_status=400),
        "tokenizer": _request(422, "tokenizer", "invalid_token"),
        "overloaded": Kind(429, 429, "overloaded", "rate_limit_error", "rate_limit_exceeded"),
        "backend": _server(424, "backend", openai_status=500),
        "internal": _server(500, "internal"),
        "unhealthy": _server(503, "unhealthy"),
        "timeout": _server(504, "timeout"),
    }
)
"""TEI answers 422 to a body that does not fit and 424 to a model that fails; OpenAI 400 and 500."""


class Refusal(Exception):
    """A request that is answered with an error.

    Attributes:
        kind: A key of `KINDS`.
        message: What is wrong, what is allowed, what to do next.
        param: The field of the request that is wrong.
        headers: Added to the answer.
    """

    def __init__(
        self, kind: str, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        self.headers = dict(headers or {})


def refusal_of(error: MoEEError) -> Refusal:
    """Return the answer to an error of the package."""
    if isinstance(error, TruncationError):
        return Refusal("too_long", str(error))
    if isinstance(error, (InputError, TextTypeError)):
        return Refusal("validation", str(error))
    if isinstance(error, (NonFiniteActivationsError, OutOfMemoryError)):
        return Refusal("backend", str(error))
    if isinstance(error, StoreError):
        return Refusal("unhealthy", "The index cannot be read now; the log of the server says where it failed.")
    return Refusal("internal", INTERNAL)


INTERNAL = "The server failed at this request, and its log says where. The same request may work later."


def overloaded(message: str, *, retry_after_s: float) -> Refusal:
    """Return the refusal of a request that the server has no capacity for."""
    seconds = min(60, max(1, round(retry_after_s)))
    return Refusal("overloaded", f"{message} Try again in {seconds} s.", headers={"Retry-After": str(seconds)})


def is_openai(path: str) -> bool:
    """Return whether a path has OpenAI's shapes."""
    return path.startswith(OPENAI_PREFIX) or path == OPENAI_PREFIX.rstrip("/")


def status_of(path: str, refusal: Refusal) -> int:
    """Return the status that answers a refusal on a path."""
    kind = KINDS[refusal.kind]
    return kind.openai_status if is_openai(path) else kind.status


def body_of(path: str, refusal: Refusal) -> dict[str, Any]:
    """Return the JSON that answers a refusal on a path."""
    kind = KINDS[refusal.kind]
    if is_openai(path):
        return {
            "error": {
                "message": refusal.message,
                "type": kind.openai_type,
                "param": refusal.param,
                "code": kind.code,
            }
        }
    return {"error": refusal.message, "error_type": kind.error_type}
