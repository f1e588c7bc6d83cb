from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from moee.errors import InputError, TextTypeError, TruncationError
from moee.method.texts import FewTextsWarning, TruncationWarning, check_sample, check_texts, token_sequences
from moee.types import Truncate

TEMPLATE = 'Say "{text}" in one word:'


def words(prompts: Sequence[str]) -> list[list[int]]:
    """One token a word; the token is the word's length, the last word's is negative."""
    return [[*(len(word) for word in prompt.split()[:-1]), -1] if prompt.split() else [] for prompt in prompts]


def run(texts: list[str], *, limit: int | None = None, truncate: Truncate = "warn") -> list[list[int]]:
    return token_sequences(texts, TEMPLATE, words, cleaning="none", truncate=truncate, max_tokens=limit)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(InputError, match="No texts: got an empty list"):
        check_texts([], on_empty="error")


@pytest.mark.parametrize(("text", "said"), [("", "Text 1 is empty"), (" \t\n", "Text 1 is only whitespace")])
def test_a_text_without_content_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_texts(["fine", text], on_empty="error")
    assert check_texts(["fine", text], on_empty="encode") == ["fine", text]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (3, "a number"),
        (np.int64(3), "a number"),
        (math.nan, "a number"),
        (True, "a boolean"),
        (None, "null"),
        (["nested"], "a list"),
        ({"text": "a"}, "an object"),
        (b"bytes", "of type bytes"),
    ],
)
def test_a_text_that_is_not_a_string_is_named_with_its_index_and_kind(value: object, kind: str) -> None:
    with pytest.raises(TextTypeError, match=rf"Text 2 is no string but {kind} \(.*\). Every text must be a string"):
        check_texts(["a", "b", value], on_empty="error")  # type: ignore[list-item]


def test_half_of_a_surrogate_pair_is_named_with_its_index() -> None:
    with pytest.raises(InputError, match="Text 1 holds half of a surrogate pair at character 2"):
        check_texts(["fine", "ab\ud83d", "fine"], on_empty="encode")


TEXTS = ["a cat", "a dog"]


@pytest.mark.parametrize(
    "given",
    [
        tuple(TEXTS),
        iter(TEXTS),
        (text for text in TEXTS),
        dict(enumerate(TEXTS)).values(),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        pd.Series(TEXTS, index=[7, 3]),
        pd.Series(TEXTS, dtype="category"),
        pl.Series(TEXTS),
    ],
)
def test_whatever_holds_strings_in_an_order_is_taken(given: Iterable[str]) -> None:
    checked = check_texts(given, on_empty="error")
    assert checked == TEXTS
    assert {type(text) for text in checked} == {str}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pd.DataFrame({"text": TEXTS}), "of type DataFrame, a table. Pass the column that holds the texts"),
        (pl.DataFrame({"text": TEXTS}), "of type DataFrame, a table"),
        (pl.LazyFrame({"text": TEXTS}), "of type LazyFrame, a table"),
        (pa.table({"text": TEXTS}), "of type Table, a table"),
        (pa.array(TEXTS), r"of type StringArray, .* Pass texts.to_pylist\(\)"),
        (pa.chunked_array([TEXTS]), r"of type ChunkedArray, .* Pass texts.to_pylist\(\)"),
        ({"a cat": 1}, r"of type dict, whose keys would be embedded. .*list\(texts.values\(\)\)"),
        (set(TEXTS), "of type set, which has no order"),
        (frozenset(TEXTS), "of type frozenset, which has no order"),
        ({"a cat": 1}.keys(), "of type dict_keys, which has no order"),
        (np.array([TEXTS]), "of type ndarray, of 2 dimensions"),
        (np.array("a cat"), "of type ndarray, of 0 dimensions"),
        (np.array([1, 2]), "Text 0 is no string but a number"),
        (np.array([None, 1], dtype=object), "Text 0 is no string but null"),
        (pd.Series(["a", None]), "Text 1 is no string"),
        (None, "of type NoneType, which holds no texts. Pass a list of strings"),
        (5, "of type int, which holds no texts"),
        (b"bytes", "a single bytes"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_with_what_to_pass(given: Any, message: str) -> None:
    with pytest.raises(TextTypeError, match=message):
        check_texts(given, on_empty="error")


def test_a_sample_holds_each_text_once_and_at_least_two() -> None:
    with pytest.warns(FewTextsWarning, match="Only 2 different texts to calibrate on: statistics of fewer than 100"):
        assert check_sample(["b", "a", "b"], on_empty="error") == ["b", "a"]
    with pytest.raises(InputError, match=r"at least 2 different texts, and all 300 are 'The same line.'"):
        check_sample(["The same line."] * 300, on_empty="error")


def test_a_sample_of_enough_texts_is_taken_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(check_sample((f"text {number}" for number in range(100)), on_empty="error")) == 100


def test_a_single_string_is_not_a_list_of_letters() -> None:
    with pytest.raises(TextTypeError, match="pass a list of strings"):
        check_texts("word", on_empty="error")


def test_long_texts_are_cut_and_the_end_of_the_template_stays() -> None:
    with pytest.warns(TruncationWarning, match="1 of 2 texts were cut to 12 tokens; the first is text 1"):
        short, long = run(["a b", "w " * 500], limit=12)
    whole = words([TEMPLATE.replace("{text}", "")])[0]
    assert len(long) == 12
    assert long[-3:] == whole[-3:]
    assert len(short) < 12


def test_a_cut_keeps_as_much_as_fits() -> None:
    text = " ".join(f"w{number}" for number in range(300))
    for limit in (7, 40, 200):
        (sequence,) = run([text], limit=limit, truncate="end")
        assert len(sequence) == limit


def test_the_error_policy_names_the_text_and_both_lengths() -> None:
    with pytest.raises(TruncationError, match=r"Text 1 .* is 55 tokens with its prompt, over the limit of 10"):
        run(["a", "b " * 50], limit=10, truncate="error")


def test_a_template_over_the_limit_is_an_error() -> None:
    with pytest.raises(TruncationError, match="The prompt alone is 5 tokens, over the limit of 3"):
        run(["a b c"], limit=3, truncate="end")


def test_a_text_without_tokens_is_an_error() -> None:
    with pytest.raises(InputError, match=r"Text 0 \(' '\) gives no tokens"):
        token_sequences([" "], "{text}", words, cleaning="none", truncate="end", max_tokens=None)


def test_texts_within_the_limit_are_left_alone(recwarn: pytest.WarningsRecorder) -> None:
    assert run(["a b c"], limit=8) == run(["a b c"])
    assert not recwarn.list


def test_a_cut_text_is_cleaned_once() -> None:
    def tokenize(prompts: Sequence[str]) -> list[list[int]]:
        return [[ord(letter) for letter in prompt] for prompt in prompts]

    cut = {
        cleaning: token_sequences(
            ["One two three."], "<{text}>", tokenize, cleaning=cleaning, truncate="end", max_tokens=8
        )
        for cleaning in ("none", "paper")
    }
    assert "".join(map(chr, cut["paper"][0])) == "<One tw>"  # no full stop after what was cut
    assert cut["paper"] == cut["none"]
