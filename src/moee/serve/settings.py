"""What can be chosen about the server: one frozen value, under TEI's names, each with a twin in the environment.

Nothing here says how texts become vectors; that is `EmbedderConfig`. FastAPI is not imported: the command line reads
the defaults from here for its help.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from urllib.parse import urlsplit

from moee.errors import InputError

ANY_ORIGIN = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits, names and keys of a server.

    Attributes:
        hostname: Address to listen on. Reachable from this machine alone unless changed.
        port: To listen on; 0 takes a free one.
        max_concurrent_requests: Requests that are accepted at once; more get 429.
        max_batch_tokens: Tokens, prompts counted, that go to the model in one turn, from as many requests as fit.
        max_batch_requests: Requests in one turn; None for no limit.
        max_queue_tokens: Tokens that may wait for the model; more get 429.
        max_client_batch_size: Texts in one request; more get 413.
        auto_truncate: Cut texts over the model's limit where a request does not say; else they get 413.
        payload_limit: Bytes of a request's body; more get 413.
        request_timeout: Seconds until a request is answered 504 and leaves the queue.
        api_key: That requests must bring as `Authorization: Bearer`; None asks for none.
        served_model_name: Name of the model for clients; None is the model's own.
        prompts: Names of further prompts that requests may choose. Their statistics are fitted before the server
            listens, so that no request waits for it.
        cors_allow_origin: Origins whose pages may call the server from a browser; `"*"` for all.
        json_output: Logs as one JSON object a line.
    """

    hostname: str = "127.0.0.1"
    port: int = 3000
    max_concurrent_requests: int = 512
    max_batch_tokens: int = 16384
    max_batch_requests: int | None = None
    max_queue_tokens: int = 1_048_576
    max_client_batch_size: int = 2048
    auto_truncate: bool = False
    payload_limit: int = 2_000_000
    request_timeout: float = 60.0
    api_key: str | None = field(default=None, repr=False)  # never in a log or a traceback
    served_model_name: str | None = None
    prompts: tuple[str, ...] = ()
    cors_allow_origin: tuple[str, ...] = ()
    json_output: bool = False

    def __post_init__(self) -> None:
        """Check every value."""
        for name in (
            "max_concurrent_requests",
            "max_batch_tokens",
            "max_batch_requests",
            "max_queue_tokens",
            "max_client_batch_size",
            "payload_limit",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{flag(name)} is {value}; it must be 1 or larger.")
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port is {self.port}; it must lie between 0 (take a free one) and 65535.")
        if not 0 < self.request_timeout < float("inf"):
            raise InputError(f"--request-timeout is {self.request_timeout}; it must be a number of seconds above 0.")
        if self.api_key is not None and (not self.api_key or not self.api_key.isascii() or " " in self.api_key):
            raise InputError(
                "The API key is empty, or holds a blank or a character outside ASCII, which a header cannot carry. "
                "Choose another, or leave it out to ask for none."
            )
        for origin in self.cors_allow_origin:
            _check_origin(origin)


def _check_origin(origin: str) -> None:
    parts = urlsplit(origin)
    if origin != ANY_ORIGIN and (not parts.scheme or not parts.netloc or parts.path or parts.query):
        raise InputError(
            f"--cors-allow-origin is {origin!r}; an origin has a scheme and a host and no path, "
            "for example https://example.org or http://localhost:8080; * allows all."
        )


def flag(name: str) -> str:
    """Return the command-line option of a setting, for example `--max-batch-tokens`."""
    return f"--{name.replace('_', '-')}"


def twin(name: str) -> str:
    """Return the environment variable of a setting or of another option of `moee serve`."""
    return f"MOEE_{name.upper()}"


DEFAULTS = Settings()
"""For the command line's help."""

NAMES = tuple(each.name for each in fields(Settings))
"""Every setting."""
