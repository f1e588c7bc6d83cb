"""uvicorn, with limits on connections, a free port on request, and a stop that finishes what was accepted."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from moee.errors import InputError
from moee.serve.limits import AdmissionControl
from moee.serve.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

HEADER_SECONDS = 10
"""Wait for the headers of a request, from its first byte or from the connection's begin."""
KEEP_ALIVE_SECONDS = 75
"""Wait for the next request on a connection; longer than the minute after which load balancers let go."""
HEADER_BYTES = 32 * 1024
"""Most bytes of a request's line and headers."""
CONNECTIONS_PER_REQUEST = 4
"""Open connections for each request that may be worked on; most are idle between two requests."""


def listen(settings: Settings) -> socket.socket:
    """Take the address before a model is loaded, so that a port in use is reported at once."""
    try:
        found = socket.getaddrinfo(settings.hostname, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":  # there it means that two servers may share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise InputError(
            f"Cannot listen on {settings.hostname!r}, port {settings.port}: {error.strerror or error}. Choose another "
            "with --hostname and --port; --port 0 takes a free one."
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address of a listener as a browser takes it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - shown, not bound
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which ends a connection on which the headers of a request do not arrive in time.

    uvicorn itself waits for ever, so that a few hundred sleepy clients would take all connections.
    """

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Start the clock."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when the headers are there; start it when a further request begins."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def _watch(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting or self.transport.is_closing():
            self._stop_clock()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_clock(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class Server(uvicorn.Server):
    """uvicorn's server, which on SIGTERM or SIGINT answers 503 to what is new, finishes the rest, and returns.

    A second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, admission: AdmissionControl, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._admission = admission
        self._on_ready = on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; called by a signal, between any two instructions."""
        if self._loop is None or self._admission.is_draining:
            self.force_exit = self.should_exit = True
            return
        self._admission.drain()
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._draining = asyncio.create_task(self._exit_when_empty())

    async def _exit_when_empty(self) -> None:
        await self._admission.wait_empty()
        self.should_exit = True


def build_server(app: FastAPI, settings: Settings, on_ready: Callable[[], None]) -> Server:
    """Return a server that is not running yet; `run(sockets=[listener])` serves until a signal comes."""
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,  # `logs.configure_logs` has done it
        access_log=False,  # it would log query strings
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_PER_REQUEST * settings.max_concurrent_requests + 100,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    return Server(config, app.state.service.admission, on_ready)
