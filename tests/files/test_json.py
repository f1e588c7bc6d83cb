from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from moee.errors import InputError
from moee.files.json import MAX_DEPTH, MAX_DIGITS, parse_json, read_json


def test_values_come_as_python_reads_them() -> None:
    text = '{"a": [1, -2.5, 1e3, true, null], "b": {"c": "d\\u00e9"}}'
    assert parse_json(text, "It") == json.loads(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "It is not valid JSON: Expecting value at column 1"),
        ('{"a": 1,\n"b"}', "It is not valid JSON: Expecting ':' delimiter at line 2, column 4"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nests more than 100 lists and objects"),
        ("[" * 100_000, "nests more than 100 lists and objects"),
        ('{"a":' * 100_000, "nests more than 100 lists and objects"),
        ("1" * (MAX_DIGITS + 1), r"the number 11111111111111111111\.\.\. has 1,001 characters"),
        ("-0." + "1" * MAX_DIGITS, "has 1,003 characters, over 1,000"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' comes twice in one object"),
        ("[NaN]", "NaN is no finite number"),
        ("-Infinity", "-Infinity is no finite number"),
        ("1e999", "1e999 is no finite number"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_json(text, "It")


def test_the_bounds_themselves_are_allowed() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "It") is not None
    assert parse_json("1" * MAX_DIGITS, "It") == int("1" * MAX_DIGITS)
    assert parse_json('"' + "[{" * 1000 + '\\"["', "It") == "[{" * 1000 + '"['


def test_what_others_wrote_may_hold_more() -> None:
    values = parse_json('{"a": NaN, "b": 1e999, "b": Infinity}', "It", allow_nan=True, allow_double=True)
    assert math.isnan(values["a"])
    assert values["b"] == math.inf


def test_a_file_is_bounded_and_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path) == [1]
    with pytest.raises(InputError, match=r"a.json' is larger than 5 bytes"):
        read_json(path, most=5)
    path.write_bytes(b'"\xff"')
    with pytest.raises(InputError, match=r"a.json' is not UTF-8: byte 0xff at 1"):
        read_json(path)
    path.write_bytes(b"{}}")
    with pytest.raises(InputError, match=r"a.json' is not valid JSON: Extra data at column 3"):
        read_json(path)
