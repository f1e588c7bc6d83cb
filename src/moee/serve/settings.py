"""What can be chosen about the server: one frozen value, under TEI's names, each with a twin in the environment.

Nothing here says how texts become vectors; that is `EmbedderConfig`. FastAPI is not imported: the command line reads
the defaults from here for its help.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from moee.errors import InputError

ANY_ORIGIN = "*"


def _setting(default: Any, says: str, *names: str, is_shown: bool = True) -> Any:
    """Return a field that is also an option of `moee serve`, under these names if its own is not enough."""
    return field(default=default, repr=is_shown, metadata={"help": says, "names": names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits, names and keys of a server. What a field is for is said once, where `moee serve --help` shows it too.

    Attributes:
        api_key: None asks for no key.
        prompts: Names of further prompts that requests may choose. Their statistics are fitted before the server
            listens, so that no request waits for it.
        cors_allow_origin: Origins whose pages may call the server from a browser; `"*"` for all.
    """

    hostname: str = _setting("127.0.0.1", "Address to listen on; 0.0.0.0 is every one of this machine.")
    port: int = _setting(3000, "Port to listen on; 0 takes a free one and prints it.", "--port", "-p")
    api_key: str | None = _setting(
        None,
        "Key that requests must bring. Others on this machine can read the command line: use the environment.",
        is_shown=False,  # never in a log or a traceback
    )
    served_model_name: str | None = _setting(None, "Name of the model for clients.")
    auto_truncate: bool = _setting(False, "Cut texts over the model's limit; else they get 413.", "--auto-truncate")
    max_concurrent_requests: int = _setting(512, "Requests accepted at once; more get 429.")
    max_client_batch_size: int = _setting(2048, "Texts in one request; more get 413.")
    max_batch_tokens: int = _setting(
        16384, "Tokens in one turn of the model, from as many requests as fit. Smaller answers sooner under load."
    )
    max_batch_requests: int | None = _setting(None, "Requests in one turn of the model.")
    max_queue_tokens: int = _setting(1_048_576, "Tokens that wait for the model; more get 429.")
    payload_limit: int = _setting(2_000_000, "Bytes of a body; more get 413.")
    request_timeout: float = _setting(60.0, "Seconds until a request is answered 504.")
    json_output: bool = _setting(False, "Logs as one JSON object a line.", "--json-output")
    prompts: tuple[str, ...] = ()
    cors_allow_origin: tuple[str, ...] = ()

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
