"""Pairs of texts that belong together, from the structure of documents and without labels.

What is found among such pairs is text on the same topic in the same words: siblings share words by their nature. They
so measure search, and say little of classes, of paraphrases or of questions and their kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from moee.errors import InputError, check_choice
from moee.method.sentences import sentence_ends

Kind = Literal["halves", "sentences", "title"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MIN_SIBLINGS = 20
"""Below, the rank of a sibling among the others is mostly luck."""


@dataclass(frozen=True, slots=True)
class Siblings:
    """Pairs of different texts; no text occurs twice on a side.

    Attributes:
        kind: Where they come from.
        left: One text of each pair.
        right: The other.
    """

    kind: Kind
    left: tuple[str, ...]
    right: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.left)


def halves(text: str) -> tuple[str, str] | None:
    """Return the two halves of a text, cut at the sentence end nearest to its middle; None for a single sentence."""
    ends = sentence_ends(text)[:-1]
    if not ends:
        return None
    cut = min(ends, key=lambda end: abs(end - len(text) / 2))
    return text[:cut].strip(), text[cut:].strip()


def neighbours(text: str) -> tuple[str, str] | None:
    """Return the two neighbouring sentences in the middle of a text; None for a single sentence."""
    ends = [0, *sentence_ends(text)]
    if len(ends) < 3:
        return None
    middle = len(ends) // 2
    return text[ends[middle - 1] : ends[middle]].strip(), text[ends[middle] : ends[middle + 1]].strip()


_FROM_TEXT: Mapping[str, Callable[[str], tuple[str, str] | None]] = MappingProxyType(
    {"halves": halves, "sentences": neighbours}
)


def find_siblings(
    texts: Sequence[str],
    titles: Sequence[str] | None = None,
    *,
    kind: Kind | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Siblings:
    """Return the siblings in documents.

    Args:
        texts: Documents, or their bodies.
        titles: The title of each, for `"title"`.
        kind: `"halves"` of a document, two neighbouring `"sentences"`, or its `"title"` and its body; None takes titles
            where there are any, else halves.
        sample: At most so many pairs, drawn at random.
        seed: Seed of that draw.

    Raises:
        InputError: If there are too few; says what is missing.
    """
    chosen: Kind = kind or ("title" if titles is not None else "halves")
    check_choice("kind of siblings", chosen, KINDS)
    if chosen == "title":
        if titles is None:
            raise InputError("Siblings of the kind 'title' need the titles: name their field with --title-column.")
        pairs: Iterable[tuple[str, str] | None] = zip(titles, texts, strict=True)
    else:
        pairs = map(_FROM_TEXT[chosen], texts)
    kept = _different(pairs)
    if len(kept) < MIN_SIBLINGS:
        raise InputError(
            f"There are {len(kept)} usable pairs of the kind {chosen!r} in {len(texts)} texts; {MIN_SIBLINGS} are "
            "needed, and some hundreds are better. Halves and sentences need documents of two sentences or more. Give "
            "longer documents (with --text-column), titles (--title-column), or a few labelled pairs (--pairs)."
        )
    places = np.sort(np.random.default_rng(seed).permutation(len(kept))[:sample])
    left, right = zip(*(kept[place] for place in places), strict=True)
    return Siblings(chosen, left, right)


def _different(pairs: Iterable[tuple[str, str] | None]) -> list[tuple[str, str]]:
    """Return the pairs of two visible texts whose sides were not seen before: a twin would be a right answer too."""
    kept, seen = [], set[str]()
    for pair in pairs:
        if pair is None or not all(side.strip() for side in pair) or not seen.isdisjoint(pair) or pair[0] == pair[1]:
            continue
        seen.update(pair)
        kept.append(pair)
    return kept
