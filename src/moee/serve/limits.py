"""How much the server takes on: requests at once, bytes of a body, seconds of a request; and how it stops.

A body is read here, up to its limit, so that what is too large is refused before all of it has arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moee.serve.errors import Refusal, overloaded
from moee.serve.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HELD_BODIES = 32
"""Bodies of full size that may be in memory at once; small ones are many more."""
DRAINING = {"Retry-After": "5", "Connection": "close"}
"""Headers of answers after SIGTERM: another server may be there soon, this one will not."""


class ClientGoneError(Exception):
    """The client closed the connection before it was answered."""


class AdmissionControl:
    """What the server is working on, and whether it takes more."""

    def __init__(self, settings: Settings, waiting_s: Callable[[], float]) -> None:
        self._settings = settings
        self._waiting_s = waiting_s
        self._is_draining = False
        self._in_flight = 0
        self._working = 0
        self._held_bytes = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def is_draining(self) -> bool:
        """Whether the server is about to stop and takes nothing new."""
        return self._is_draining

    def drain(self) -> None:
        """Take nothing new; what was accepted is finished."""
        self._is_draining = True

    async def wait_empty(self) -> None:
        """Wait until every accepted request is answered."""
        await self._empty.wait()

    @contextmanager
    def admitted(self, *, works: bool) -> Iterator[None]:
        """Accept a request, and count it until it is answered.

        Args:
            works: Whether it may need the model; only those are limited in number.

        Raises:
            Refusal: If the server is draining or full.
        """
        if self._is_draining:
            raise Refusal("unhealthy", "The server is stopping and takes no new requests.", headers=DRAINING)
        limit = self._settings.max_concurrent_requests
        if works and self._working >= limit:
            raise overloaded(f"{limit} requests are being worked on, the limit.", retry_after_s=self._waiting_s())
        self._in_flight += 1
        self._working += works
        self._empty.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            self._working -= works
            if not self._in_flight:
                self._empty.set()

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that counts bytes of a body; they are given back at the end.

        Raises:
            Refusal: From that function, if the body or all bodies together are too large.
        """
        held = 0
        limit = self._settings.payload_limit

        def hold(count: int) -> None:
            nonlocal held
            if held + count > limit:
                raise _body_too_large(limit)
            if self._held_bytes + count > HELD_BODIES * limit:
                raise overloaded("The bodies of other requests fill the memory.", retry_after_s=self._waiting_s())
            held += count
            self._held_bytes += count

        try:
            yield hold
        finally:
            self._held_bytes -= held


def _body_too_large(limit: int) -> Refusal:
    return Refusal(
        "too_large",
        f"The body is larger than {limit} bytes, the limit of this server. Send fewer texts in one request, or start "
        "the server with a larger --payload-limit.",
    )


class Limits:
    """Accept requests one by one, read their bodies, and end those that take too long or whose client has gone."""

    def __init__(self, app: ASGIApp, *, settings: Settings, admission: AdmissionControl) -> None:
        self._app = app
        self._settings = settings
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it at once where the server is full."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seconds = self._settings.request_timeout
        with self._admission.admitted(works=scope["method"] == "POST"), self._admission.holding() as hold:
            deadline = asyncio.timeout(seconds)
            try:
                async with deadline:
                    await self._answer(scope, await self._body(scope, receive, hold), receive, send)
            except TimeoutError:
                if not deadline.expired():
                    raise
                raise Refusal(
                    "timeout",
                    f"The request took longer than {seconds:g} s, the limit of this server. Send fewer or shorter "
                    "texts, or start the server with a larger --request-timeout.",
                ) from None

    async def _body(self, scope: Scope, receive: Receive, hold: Callable[[int], None]) -> bytes:
        """Read a body, and stop at the limit."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._settings.payload_limit:
            raise _body_too_large(self._settings.payload_limit)
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            hold(len(chunk))
            body += chunk
            if not message.get("more_body", False):
                return bytes(body)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the application until it has answered or nobody waits for the answer."""
        gone = asyncio.ensure_future(_until_gone(receive))
        work = asyncio.ensure_future(self._app(scope, _replay(body, gone), send))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGoneError
            work.result()
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _replay(body: bytes, gone: asyncio.Future[None]) -> Receive:
    """Give the application the whole body in one message, and after it nothing but the end of the connection."""
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if not is_read:
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}

    return receive
