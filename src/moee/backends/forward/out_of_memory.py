"""Out-of-memory translation: torch reports it as an error like any other; here it gets its name and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moee.errors import OutOfMemoryError

_SIGNS = ("can't allocate memory", "not enough memory", "out of memory")
"""Words in the messages of torch's allocators on a CPU (Linux, Windows) and on a GPU."""


@contextmanager
def translating_out_of_memory(doing: str) -> Iterator[None]:
    """Turn running out of memory inside the context into an `OutOfMemoryError`.

    Args:
        doing: What was going on, for the message.
    """
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(doing) from error
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in _SIGNS):
            raise OutOfMemoryError(doing) from error
        raise
