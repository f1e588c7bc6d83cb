"""Many clients at once, good and bad, in one light process; everything that they were sent is kept to be checked.

No text is sent twice, so that nothing is saved by computing one for two.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moee.data import calibration_texts

JSON = "content-type: application/json\r\n"


@dataclass
class Outcome:
    """What a run brought.

    Attributes:
        texts: Every text that was embedded.
        vectors: As they came, one for each of `texts`.
        statuses: How often each came.
        wrong: Answers that should not have come.
        seconds: From the first request to the last answer.
        requests: Good ones that were answered with vectors.
    """

    texts: list[str] = field(default_factory=list)
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    requests: int = 0


class Connection:
    """A client's connection, kept open between requests."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, path: str, body: bytes, headers: str = JSON) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return the status, the headers and the body of the answer."""
        reader, writer = await self._open()
        head = f"{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}content-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        answer = await reader.readexactly(int(found.get("content-length", "0")))
        if found.get("connection", "").lower() == "close":
            await self.close()
        return int(lines[0].split()[1]), found, answer

    async def abandon(self, body: bytes) -> None:
        """Send a request, and go away before the answer."""
        _, writer = await self._open()
        writer.write(f"POST /embed HTTP/1.1\r\nhost: test\r\n{JSON}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        await self.close()

    async def close(self) -> None:
        """Close it; the next request opens it again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=2**20)
        return self._streams


def unique_texts(seed: int, longest: int) -> Iterator[str]:
    """Yield texts of one to `longest` sentences, most of them short, no two alike."""
    generator = random.Random(seed)
    sentences = calibration_texts()
    number = 0
    while True:
        count = min(longest, 1 + int(generator.expovariate(0.9)))
        number += 1
        yield f"{number}. {' '.join(generator.sample(sentences, count))}"


BAD: Sequence[tuple[str, str, bytes, int]] = (
    ("POST", "/embed", b'{"inputs": ', 400),
    ("POST", "/embed", b'{"inputs": ""}', 400),
    ("POST", "/embed", b'{"inputs": [1, "a"]}', 422),
    ("POST", "/embed", b'{"input": "a"}', 422),
    ("POST", "/v1/embeddings", b'{"input": "a", "model": "another"}', 404),
    ("POST", "/v1/embeddings", b'{"input": "a", "model": "served", "dimensions": 5}', 400),
    ("POST", "/v1/embeddings", b'{"input": ["a", "\\ud800"], "model": "served"}', 400),
    ("POST", "/v1/embeddings", b'{"input": "a", "model": "served", "alpha": NaN}', 400),
    ("POST", "/embed", b'{"inputs": "' + b"word " * 20_000 + b'"}', 413),
    ("POST", "/embed", b" " * 300_000, 413),
    ("GET", "/nothing", b"", 404),
    ("DELETE", "/embed", b"", 405),
)
"""Requests that are wrong, with the status that says so; the payload limit must be between the last two bodies."""
PAYLOAD_LIMIT = 200_000


async def _client(number: int, address: tuple[str, int], texts: Iterator[str], end: float, outcome: Outcome) -> None:
    generator = random.Random(number)
    connection = Connection(*address)
    # each once for certain, however few requests a slow machine answers
    while await _bad(connection, BAD[number % len(BAD)], outcome) == 429:
        await asyncio.sleep(0.5)
    while time.perf_counter() < end:
        chance = generator.random()
        if chance < 0.1:
            await _bad(connection, generator.choice(BAD), outcome)
        elif chance < 0.12:
            await connection.abandon(json.dumps({"inputs": "gone before the answer"}).encode())
        else:
            await _good(connection, [next(texts) for _ in range(generator.choice((1, 1, 1, 2, 4, 12)))], outcome)
    await connection.close()


async def _bad(connection: Connection, request: tuple[str, str, bytes, int], outcome: Outcome) -> int:
    """Send a wrong request, and return the status."""
    method, path, body, expected = request
    status, _, answer = await connection.send(method, path, body)
    _count(outcome, status, (expected, 429), answer)
    return status


async def _good(connection: Connection, texts: list[str], outcome: Outcome) -> None:
    """Embed texts, after a wait wherever the server is full."""
    is_openai = len(texts) % 2 == 0
    if is_openai:
        path, body = "/v1/embeddings", {"input": texts, "model": "served", "encoding_format": "base64"}
    else:
        path, body = "/embed", {"inputs": texts}
    while True:
        status, headers, answer = await connection.send("POST", path, json.dumps(body).encode())
        _count(outcome, status, (200, 429), answer)
        if status == 429:
            wait = int(headers.get("retry-after", "0"))
            if not 1 <= wait <= 60:
                outcome.wrong.append(f"429 with Retry-After {wait}")
            await asyncio.sleep(min(wait, 2))
            continue
        if status == 200:
            document = json.loads(answer)
            vectors = (
                [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in document["data"]]
                if is_openai
                else list(np.float32(document))
            )
            outcome.texts += texts
            outcome.vectors += vectors
            outcome.requests += 1
        return


def _count(outcome: Outcome, status: int, expected: tuple[int, int], answer: bytes) -> None:
    outcome.statuses[status] += 1
    if status not in expected:
        outcome.wrong.append(f"{status} instead of {expected}: {answer[:200]!r}")


async def _run(address: tuple[str, int], clients: int, seconds: float, longest: int) -> Outcome:
    outcome = Outcome()
    texts = unique_texts(7, longest)
    begun = time.perf_counter()
    end = begun + seconds
    await asyncio.gather(*(_client(number, address, texts, end, outcome) for number in range(clients)))
    outcome.seconds = time.perf_counter() - begun
    return outcome


def put_under_load(url: str, *, clients: int, seconds: float, longest: int) -> Outcome:
    """Let clients loose on a server, and return what it made of them.

    Args:
        url: Address of the server, whose model is served as `served`.
        clients: At once.
        seconds: Until they begin nothing more.
        longest: Sentences of a text, at most.
    """
    host, port = url.removeprefix("http://").rsplit(":", 1)
    return asyncio.run(_run((host, int(port)), clients, seconds, longest))
