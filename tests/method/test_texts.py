from __future__ import annotations

from collections.abc import Sequence

import pytest

from moee.errors import InputError, TextTypeError, TruncationError
from moee.method.texts import TruncationWarning, check_texts, token_sequences
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


@pytest.mark.parametrize("value", [3, None, b"bytes", ["nested"], 2.5])
def test_a_text_that_is_not_a_string_is_named_with_its_index_and_type(value: object) -> None:
    with pytest.raises(TextTypeError, match=rf"Text 2 is .*a {type(value).__name__}; every text must be a string"):
        check_texts(["a", "b", value], on_empty="error")  # type: ignore[list-item]


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
