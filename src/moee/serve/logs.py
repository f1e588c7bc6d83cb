"""One line for each request, and never a text in any: ids, counts, times and kinds of errors.

What an error says may quote what a client sent, so only its class and where it arose are logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
import uuid
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from moee.serve.metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("moee.serve")

CLIENT_GONE = 499
"""Status logged where the client closed the connection and nothing could be answered; nginx's number."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_UNKNOWN = "unknown"
_FRAMES = 12
"""Innermost places of a failure that are logged; further out is the web framework."""

_facts: ContextVar[dict[str, Any]] = ContextVar("facts")

_HEADERS = {
    "tokens": b"x-compute-tokens",
    "truncated": b"x-truncated-inputs",
    "tokenization_ms": b"x-tokenization-time",
    "queue_ms": b"x-queue-time",
    "inference_ms": b"x-inference-time",
}
"""Headers of the facts that clients get too: TEI's names, times in milliseconds."""


def note(**facts: float | str) -> None:
    """Remember facts about the request in hand, for its log line and its headers; numbers add up. Never a text."""
    known = _facts.get({})
    for name, value in facts.items():
        before = known.get(name, 0)
        known[name] = round(before + value, 1) if isinstance(value, (int, float)) else value


class RequestLog:
    """Give every request an id, and log and count it when it is answered."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        facts: dict[str, Any] = {"request_id": _request_id(scope)}
        _facts.set(facts)
        started = time.perf_counter()
        status = CLIENT_GONE

        is_finished = False

        def finish() -> None:
            nonlocal is_finished
            if not is_finished:
                is_finished = True
                self._finish(scope, facts, status, time.perf_counter() - started)

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_headers(facts, time.perf_counter() - started)]
            elif not message.get("more_body", False):
                finish()  # who has the whole answer finds it counted
            await send(message)

        try:
            await self._app(scope, receive, answering)
        finally:
            finish()

    def _finish(self, scope: Scope, facts: dict[str, Any], status: int, seconds: float) -> None:
        route = _route(scope)
        self._metrics.requests.labels(route).inc()
        self._metrics.duration.labels(route).observe(seconds)
        if status < 400:
            self._metrics.success.labels(route).inc()
        else:
            self._metrics.failure.labels(str(facts.get("error", status))).inc()
        level = logging.WARNING if status >= 500 else logging.INFO
        if status < 400 and scope["method"] == "GET":
            level = logging.DEBUG  # load balancers ask every second
        line = {"method": _method(scope), "path": route, "status": status, "duration_ms": round(seconds * 1e3, 1)}
        logger.log(level, "request", extra={"facts": {**line, **facts}})


def _request_id(scope: Scope) -> str:
    """Return the client's id if it can be logged as it is, else a new one."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _headers(facts: dict[str, Any], seconds: float) -> list[tuple[bytes, bytes]]:
    shown = [(name, str(facts[fact]).encode()) for fact, name in _HEADERS.items() if fact in facts]
    return [
        (b"x-request-id", facts["request_id"].encode()),
        *shown,
        *([(b"x-total-time", str(round(seconds * 1e3, 1)).encode())] if shown else []),
    ]


def _route(scope: Scope) -> str:
    """Return the template of the path; a path that is no route may hold anything and is not named."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else _UNKNOWN


def _method(scope: Scope) -> str:
    known = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE")
    return scope["method"] if scope["method"] in known else _UNKNOWN


def log_failure(error: BaseException) -> None:
    """Log what went wrong inside the server: the class of the error and the places it came through, not its words."""
    facts = {"request_id": _facts.get({}).get("request_id", "")}
    logger.error("failure", extra={"facts": {**facts, **_describe(error)}})


def _describe(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return {
        "exception": type(error).__name__,
        "where": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= _describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


class _PlainLines(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        facts = dict(getattr(record, "facts", {}))
        if record.exc_info and record.exc_info[1] is not None:
            facts |= _describe(record.exc_info[1])
        shown = " ".join(f"{name}={value}" for name, value in facts.items())
        return (
            f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()} {record.getMessage()} {shown}".rstrip()
        )


def configure_logs(*, as_json: bool, quiet: bool) -> None:
    """Send the logs of the package, of uvicorn and of asyncio to standard error, in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json else _PlainLines())
    logging.captureWarnings(True)
    for name in ("moee", "uvicorn", "asyncio", "py.warnings"):
        named = logging.getLogger(name)
        named.handlers = [handler]
        named.propagate = False
        named.setLevel(logging.WARNING if quiet or name != "moee" else logging.INFO)
