"""A user's text as text, whatever it spells: a copy of a fast tokenizer that knows no special tokens in it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from typing import Any

Encoded = tuple[list[int], list[tuple[int, int]]]
"""Ids of a text, and of each token the place of its first character and of the one behind its last."""


class PlainText:
    """A copy of a fast tokenizer to which special tokens are text like any other, except where a template means them.

    The template's control tokens are written as words that no text holds. The copy knows these words as tokens, so it
    treats what stands around them as the original does around its control tokens.

    Args:
        tokenizer: The original.
        special: Its special tokens, by what spells them.
        goes_on: Whether strings go on from what stands before them, so that none gets a space of the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, special: dict[str, int], *, goes_on: bool) -> None:
        from tokenizers import AddedToken, Tokenizer

        self._goes_on = goes_on
        settings = json.loads(tokenizer.backend_tokenizer.to_str())
        if goes_on:
            settings |= {name: _without_opening(settings[name]) for name in ("normalizer", "pre_tokenizer")}
        self._copy: Any = Tokenizer.from_str(json.dumps(settings))
        self._copy.no_truncation()
        self._copy.no_padding()
        self._copy.encode_special_tokens = True
        mark = secrets.token_hex(8)  # no text can be written to hold these words
        self._words = {spelling: f"\ue000{mark}{number}\ue001" for number, spelling in enumerate(special)}
        self._cut = f"\ue000{mark}cut\ue001"
        known = {str(token): token for token in tokenizer.added_tokens_decoder.values()}
        words = []
        for spelling, word in self._words.items():
            like = known.get(spelling)
            sides = {side: bool(getattr(like, side, False)) for side in ("lstrip", "rstrip", "single_word")}
            words.append(AddedToken(word, special=False, normalized=False, **sides))
        self._copy.add_tokens([*words, AddedToken(self._cut, special=False, normalized=False)])
        self._meant = {self._copy.token_to_id(word): special[spelling] for spelling, word in self._words.items()}
        self._spaces = [spelling for spelling in self._words if not spelling.strip()]

    def ids(self, before: str, text: str, after: str, cuts: Iterable[str] = ()) -> list[int]:
        """Return the ids of a prompt; `cuts` are spellings that are kept from becoming one token."""
        parts = (self._marked(before, self._words), self._plain(text, cuts), self._marked(after, self._words))
        found = self._copy.encode("".join(parts), add_special_tokens=not self._goes_on).ids
        return self._of_original(found)

    def of_texts(self, texts: Sequence[str], *, with_places: bool, cuts: Sequence[str] = ()) -> list[Encoded]:
        """Return the ids of texts alone, without special tokens.

        Args:
            texts: Texts.
            with_places: Whether the places of the tokens are wanted; they cost time.
            cuts: Spellings that are kept from becoming one token.
        """
        plain = [self._plain(text, cuts) for text in texts]
        if not with_places:
            found = self._copy.encode_batch_fast(plain, add_special_tokens=False)
            return [(self._of_original(each.ids), []) for each in found]
        cut = self._copy.token_to_id(self._cut)
        encoded = []
        for each in self._copy.encode_batch(plain, add_special_tokens=False):
            places = [place for token, place in zip(each.ids, each.offsets, strict=True) if token != cut]
            encoded.append((self._of_original(each.ids), places))
        return encoded

    def _of_original(self, ids: list[int]) -> list[int]:
        cut = self._copy.token_to_id(self._cut)
        return [self._meant.get(token, token) for token in ids if token != cut]

    def _plain(self, text: str, cuts: Iterable[str]) -> str:
        for spelling in cuts:
            text = text.replace(spelling, spelling[:1] + self._cut + spelling[1:])
        return self._marked(text, self._spaces)

    def _marked(self, part: str, spellings: Collection[str]) -> str:
        """Write special tokens in a part of a prompt as the words that stand for them."""
        if not part or not spellings:
            return part
        return re.sub("|".join(map(re.escape, spellings)), lambda found: self._words[found[0]], part)


def writes_opening(tokenizer: Any) -> bool:
    """Whether a fast tokenizer puts something before every string, which a part of a prompt must not get."""
    backend = tokenizer.backend_tokenizer
    steps = [json.loads(step.__getstate__()) for step in (backend.normalizer, backend.pre_tokenizer) if step]
    return any(_without_opening(step) != step for step in steps)


def _without_opening(step: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a normalizer or pre-tokenizer, as tokenizer.json has it, that puts nothing before a string."""
    if step is None or step["type"] == "Prepend":
        return None
    step = dict(step)
    for name in ("normalizers", "pretokenizers"):
        if name in step:
            step[name] = [kept for each in step[name] if (kept := _without_opening(each)) is not None]
    if step["type"] == "Metaspace":
        step["prepend_scheme"] = "never"
    for name in ("add_prefix_space", "strip_left"):
        if name in step:
            step[name] = False
    return step


def whole(places: Sequence[tuple[int, int]], limit: int) -> int:
    """Return how many tokens of a text to keep: `limit`, or a few less so that the last character keeps all of its own.

    Args:
        places: First character and the one behind the last of every token.
        limit: The most to keep.
    """
    end = min(limit, len(places))
    while 0 < end < len(places) and places[end][0] < places[end - 1][1]:
        end -= 1
    return end or min(limit, len(places))
