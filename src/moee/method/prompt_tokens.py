"""Template and text to token ids, as one filled string or apart and joined, and what is left of a long text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from moee.errors import TruncationError
from moee.method.prompts import RenderedPrompts, TemplateParts
from moee.types import Cleaning

Tokenize = Callable[[Sequence[str]], list[list[int]]]
"""Turns prompts, or the parts of them, into token ids; see `backends.base.Backend.tokenize`."""


class Apart:
    """Template and text tokenised apart and joined: the template's tokens are the same for every text.

    Args:
        template: Holds `{text}` once, or the name of a prompt.
        tokenize: Turns parts into token ids.
        cleaning: See `prompts.render`.
    """

    def __init__(self, template: str, tokenize: Tokenize, cleaning: Cleaning) -> None:
        self._parts = TemplateParts(template, cleaning=cleaning)
        self._tokenize = tokenize

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        before, after = self._tokenize(self._parts)
        return before, after

    @property
    def span(self) -> tuple[int, int]:
        """Tokens of the template before and behind every text."""
        before, after = self._around
        return len(before), len(after)

    def encode(self, cleaned: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts that were cleaned before, with the template's around them."""
        return self._joined(self._tokenize(self._parts.texts(cleaned)))

    def cut(self, cleaned: Sequence[str], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Return the token ids of texts that are too long: the template whole, and their first tokens.

        Args:
            cleaned: Texts that were cleaned before.
            lengths: Tokens of each with the template; not needed here.
            max_tokens: The most that each may have.

        Raises:
            TruncationError: If the template alone has more.
        """
        room = max_tokens - _checked(sum(self.span), max_tokens)
        return self._joined(self._tokenize(self._parts.texts(cleaned, limit=room)))

    def _joined(self, own: Sequence[list[int]]) -> list[list[int]]:
        before, after = self._around
        return [[*before, *each, *after] for each in own]


class Filled:
    """Texts put into the template before anything is tokenised: characters at the seams may become one token.

    Args:
        template: Holds `{text}` once, or the name of a prompt.
        tokenize: Turns prompts into token ids.
        cleaning: See `prompts.render`.
    """

    def __init__(self, template: str, tokenize: Tokenize, cleaning: Cleaning) -> None:
        self._template = template
        self._tokenize = tokenize
        self._cleaning = cleaning

    def encode(self, cleaned: Sequence[str]) -> list[list[int]]:
        """Return the token ids of the template filled with texts that were cleaned before."""
        return self._tokenize(RenderedPrompts(self._template, cleaned, cleaning=self._cleaning))

    def cut(self, cleaned: Sequence[str], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Return the token ids of texts that are too long: the template, and as many leading characters as fit.

        Args:
            cleaned: Texts that were cleaned before.
            lengths: Tokens of each with the template.
            max_tokens: The most that each may have.

        Raises:
            TruncationError: If the template alone has more.
        """
        bare = self.encode([""])[0]
        _checked(len(bare), max_tokens)
        return [self._cut(text, length, bare, max_tokens) for text, length in zip(cleaned, lengths, strict=True)]

    def _cut(self, text: str, length: int, bare: list[int], max_tokens: int) -> list[int]:
        low, best = 0, bare
        # characters per token vary along a text: start from the average and widen until the cut no longer fits
        high = max(1, len(text) * max_tokens // length)
        while high < len(text):
            candidate = self.encode([text[:high]])[0]
            if len(candidate) > max_tokens:
                break
            low, best, high = high, candidate, min(len(text), high * 2)
        while high - low > 1:
            middle = (low + high) // 2
            candidate = self.encode([text[:middle]])[0]
            if len(candidate) <= max_tokens:
                low, best = middle, candidate
            else:
                high = middle
        return best


def _checked(length: int, max_tokens: int) -> int:
    if length > max_tokens:
        raise TruncationError(
            f"The prompt alone is {length} tokens, over the limit of {max_tokens}. "
            "Raise max_length or shorten the prompt."
        )
    return length
