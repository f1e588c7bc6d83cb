"""What counts as a text: one rule for the Python API, files, the command line, the server and stores."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Literal

from moee.errors import InputError, TextTypeError, shown
from moee.types import EmptyText

_SHOWN = 40
_ADVICE = {
    "type": "Every text must be a string.",
    "unicode": "Write the character itself, or both halves.",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a value cannot be used as a text.

    Attributes:
        kind: `"type"` for what is no string, `"unicode"` for what no encoding can hold, `"empty"` for no content.
        says: The reason, as the end of a sentence that begins with the value's place.
    """

    kind: Literal["type", "unicode", "empty"]
    says: str

    def error(self, place: str, *, if_empty: str = "") -> InputError | TextTypeError:
        """Return the error to be raised.

        Args:
            place: Where the value is, as the beginning of a sentence: `"Text 3"`.
            if_empty: What to do about a text without content.
        """
        message = f"{place} {self.says}. {_ADVICE.get(self.kind, if_empty)}".rstrip()
        return TextTypeError(message) if self.kind == "type" else InputError(message)


def find_fault(value: object, *, on_empty: EmptyText = "encode") -> Fault | None:
    """Return why a value cannot be used as a text; None if it can.

    Args:
        value: Whatever was given.
        on_empty: `"error"` refuses strings without a visible character.
    """
    if not isinstance(value, str):
        return Fault("type", f"is no string but {kind_of(value)} ({shown(value, _SHOWN)})")
    if on_empty == "error" and not value.strip():
        return Fault("empty", "is empty" if not value else f"is only whitespace ({shown(value, _SHOWN)})")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        return Fault(
            "unicode", f"holds half of a surrogate pair at character {error.start}, which no encoding can hold"
        )
    return None


def check_text(value: object, place: str) -> str:
    """Return a value that is a text; it may be empty.

    Args:
        value: A value from a file or the command line.
        place: Where it came from, for the message: `"'text' on line 2 of a.csv"`.

    Raises:
        TextTypeError: If it is no string.
        InputError: If it holds half of a surrogate pair, as broken JSON escapes and undecodable arguments do.
    """
    fault = find_fault(value)
    if fault is not None:
        raise fault.error(f"The value of {place}")
    assert isinstance(value, str)
    return value


def kind_of(value: object) -> str:
    """Return what a value is, in words that fit JSON, tables and Python alike."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Real):
        return "a number"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else f"of type {type(value).__name__}"
