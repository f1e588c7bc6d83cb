"""Template and text apart: what the tokenizer is asked for, how the parts are joined, and what a limit leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from moee.errors import InputError, TruncationError
from moee.method.prompts import TemplateParts, TextParts
from moee.method.texts import TruncationWarning, token_sequences
from moee.types import Cleaning, Truncate


class Letters:
    """A tokenizer of one token a letter that keeps what it is asked."""

    def __init__(self) -> None:
        self.calls: list[Sequence[str]] = []

    def __call__(self, prompts: Sequence[str]) -> list[list[int]]:
        self.calls.append(prompts)
        limit = prompts.limit if isinstance(prompts, TextParts) else None
        return [[ord(letter) for letter in prompt][:limit] for prompt in prompts]


def apart(
    texts: list[str],
    template: str,
    tokenizer: Letters | None = None,
    *,
    limit: int | None = None,
    truncate: Truncate = "end",
    cleaning: Cleaning = "none",
    known: list[list[int]] | None = None,
) -> list[str]:
    found = token_sequences(
        texts,
        template,
        tokenizer or Letters(),
        cleaning=cleaning,
        truncate=truncate,
        max_tokens=limit,
        known=known,
        prompt_tokens="apart",
    )
    return ["".join(map(chr, ids)) for ids in found]


def test_the_template_is_tokenised_once_and_texts_in_batches() -> None:
    tokenizer = Letters()
    texts = [f"text {number}" for number in range(2000)]
    assert apart([*texts, *texts], "<{text}>", tokenizer) == [f"<{text}>" for text in texts] * 2
    assert [type(call) for call in tokenizer.calls].count(TemplateParts) == 1
    assert [len(call) for call in tokenizer.calls if isinstance(call, TextParts)] == [1024, 976]


def test_a_space_before_the_text_belongs_to_it_and_an_empty_text_is_the_template_alone() -> None:
    tokenizer = Letters()
    assert apart(["a", ""], "query:  {text}?", tokenizer) == ["query:  a?", "query: ?"]
    (texts,) = (call for call in tokenizer.calls if isinstance(call, TextParts))
    assert (list(texts), texts.is_first) == ([" a", ""], False)


@pytest.mark.parametrize(("template", "is_first"), [("{text}!", True), (" {text}", True), (". {text}", False)])
def test_a_text_with_nothing_before_it_begins_the_prompt(template: str, is_first: bool) -> None:
    tokenizer = Letters()
    apart(["a"], template, tokenizer)
    assert [call.is_first for call in tokenizer.calls if isinstance(call, TextParts)] == [is_first]


def test_the_cut_of_all_long_texts_takes_one_call_and_spares_the_template() -> None:
    tokenizer = Letters()
    with pytest.warns(TruncationWarning, match="2 of 3 texts were cut to 8 tokens; the first is text 1"):
        found = apart(["one", "seven letters", "some more"], "<< {text}>>", tokenizer, limit=8, truncate="warn")
    assert found == ["<< one>>", "<< sev>>", "<< som>>"]
    assert len(tokenizer.calls) == 3


def test_known_ids_are_cut_as_unknown_ones_are() -> None:
    known = [[ord(letter) for letter in f"<{text}>"] for text in ("abcdef", "a")]
    assert apart(["abcdef", "a"], "<{text}>", limit=5, known=known) == ["<abc>", "<a>"]


def test_a_text_is_cut_to_nothing_before_the_template_is() -> None:
    assert apart(["abc"], "<{text}>", limit=2) == ["<>"]
    with pytest.raises(TruncationError, match="The prompt alone is 2 tokens, over the limit of 1"):
        apart(["abc"], "<{text}>", limit=1)
    with pytest.raises(TruncationError, match=r"Text 0 .* is 5 tokens with its prompt, over the limit of 4"):
        apart(["abc"], "<{text}>", limit=4, truncate="error")


def test_nothing_around_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match=r"Text 0 \(''\) gives no tokens"):
        apart([""], "{text}")


def test_cleaning_comes_before_the_parts_are_made() -> None:
    assert apart(['say_"x"'], " a_b : {text}_", cleaning="paper") == ["a b : say 'x'"]
    assert apart(["he did n't"], "<{text}>", cleaning="tidy") == ["<He didn't.>"]
