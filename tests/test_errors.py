"""How values and names are shown in messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import moee
from moee import errors
from moee.errors import NonFiniteActivationsError, first_line, listed, shown


@pytest.mark.parametrize(
    ("value", "most", "said"),
    [
        ("short", 60, "'short'"),
        (b"ab", 60, "b'ab'"),
        (12.5, 60, "12.5"),
        ("x" * 58, 60, "'" + "x" * 58 + "'"),
        ("x" * 59, 60, "'" + "x" * 56 + "..."),
        ([1] * 100, 10, "[1, 1, ..."),
        ("\n" * 10**6, 10, "'\\n\\n\\n..."),
    ],
)
def test_a_value_is_shown_in_at_most_so_many_characters(value: object, most: int, said: str) -> None:
    assert shown(value, most) == said


@pytest.mark.parametrize(
    ("message", "said"),
    [("", "ValueError"), (" \n", "ValueError"), ("a\nb", "a"), ("\na:\n  b\nc", "a: b"), ("a:", "a:")],
)
def test_the_first_line_of_a_message_says_something(message: str, said: str) -> None:
    assert first_line(ValueError(message)) == said


def test_the_first_names_stand_for_all() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d"]) == "a, b, c, ..."
    assert listed([]) == ""


def test_the_text_of_a_broken_activation_is_shown_by_its_beginning() -> None:
    error = NonFiniteActivationsError(row=3, what="hidden state", text="word " * 1000)
    assert str(error).startswith("Text 3 ('word word")
    assert len(str(error).split(")")[0]) < 80


def test_the_tree_names_every_error_of_the_package() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in Path(moee.__file__).parent.rglob("*.py"))
    classes = re.findall(r"^class (\w+)\((.*?)\)", sources, re.MULTILINE)
    ours, before = {"MoEEError"}, 0
    while len(ours) > before:
        before = len(ours)
        ours |= {name for name, bases in classes if ours & set(re.split(r"\W+", bases))}
    assert {"InputError", "OutOfMemoryError", "DataError"} < ours
    assert [name for name in sorted(ours) if not re.search(rf"\b{name}\b", str(errors.__doc__))] == []
