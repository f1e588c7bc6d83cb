"""The one reader of JSON that others wrote: bounded in size, depth and digits, and strict about double keys.

Python's own reader answers deep nesting with RecursionError, a number of 5,000 digits with a bare ValueError, and takes
the last of two equal keys. Here each is an error that says where and what.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from moee.errors import InputError

MAX_DEPTH = 100
"""Lists and objects inside each other. Python's reader fails near 1,000, sooner the deeper it is called from."""
MAX_DIGITS = 1000
"""Characters of a number. The largest float64 has 309 digits; Python turns no more than 4,300 into an integer."""
MAX_BYTES = 1 << 26
"""Size of a document: the largest that we write, the header of a checkpoint's index, has some megabytes."""

# Strings are stepped over whole: brackets inside them nest nothing. Possessive, so that no long string is tried twice.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


class _RefusedError(ValueError):
    """What is wrong with a value inside of a document."""


def parse_json(text: str, place: str, *, allow_nan: bool = False, allow_double: bool = False) -> Any:
    """Return the value of a JSON document. `Any`: whatever it holds.

    Args:
        text: The document.
        place: Where it is, for the message, as the beginning of a sentence: `"Line 3 of rows.jsonl"`.
        allow_nan: Whether NaN, Infinity and numbers beyond float64 are read as Python reads them, for the caller to
            judge; else they are refused.
        allow_double: Whether the last of two equal keys is taken, as in configurations that others wrote and use so;
            else they are refused.

    Raises:
        InputError: If it is not JSON, nests deeper than `MAX_DEPTH`, has a number of more than `MAX_DIGITS` characters,
            or an object with two equal keys.
    """
    try:
        _check_depth(text)
        # a row's own line end would be counted as a line
        return _decoder(allow_nan, allow_double, len(text) <= MAX_DIGITS).decode(text.rstrip())
    except json.JSONDecodeError as error:
        line = "" if error.lineno == 1 else f"line {error.lineno}, "
        raise InputError(f"{place} is not valid JSON: {error.msg} at {line}column {error.colno}.") from error
    except _RefusedError as error:
        raise InputError(f"{place} is JSON that cannot be used: {error}.") from error


def read_json(path: Path, *, most: int = MAX_BYTES, allow_nan: bool = False, allow_double: bool = False) -> Any:
    """Return the value of a JSON file. `Any`: whatever it holds.

    Args:
        path: The file.
        most: Bytes that it may have.
        allow_nan: As `parse_json`.
        allow_double: As `parse_json`.

    Raises:
        OSError: If the file cannot be read.
        InputError: If it is too large or not UTF-8, or as `parse_json`.
    """
    with path.open("rb") as stream:
        raw = stream.read(most + 1)
    if len(raw) > most:
        raise InputError(f"{str(path)!r} is larger than {most:,} bytes, which no JSON file of its kind is.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8: byte {raw[error.start]:#04x} at {error.start}.") from error
    return parse_json(text, repr(str(path)), allow_nan=allow_nan, allow_double=allow_double)


@cache
def _decoder(allow_nan: bool, allow_double: bool, is_short: bool) -> json.JSONDecoder:
    """Return a reader; a short text has no long number, so that Python's own way with numbers serves it, and faster."""
    number = partial(_number, allow_nan=allow_nan)
    return json.JSONDecoder(
        parse_int=None if is_short else _integer,
        parse_float=None if is_short and allow_nan else number,
        parse_constant=number,
        object_pairs_hook=None if allow_double else _object,
    )


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth > MAX_DEPTH:
            raise _RefusedError(f"it nests more than {MAX_DEPTH} lists and objects inside each other")


def _integer(digits: str) -> int:
    _check_digits(digits)
    return int(digits)


def _number(digits: str, *, allow_nan: bool) -> float:
    _check_digits(digits)
    value = float(digits)
    if not allow_nan and not math.isfinite(value):
        raise _RefusedError(f"{digits} is no finite number")
    return value


def _check_digits(digits: str) -> None:
    if len(digits) > MAX_DIGITS:
        raise _RefusedError(f"the number {digits[:20]}... has {len(digits):,} characters, over {MAX_DIGITS:,}")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in values if keys.count(key) > 1)
        raise _RefusedError(f"the key {double!r} comes twice in one object")
    return values
