"""Full text in a store: what is kept of a text, what a query asks for, and the search that joins words and vectors.

A hybrid store keeps the terms of `moee.method.lexical.words`, so that all stores mean the same by a word, and finds and
scores texts by BM25 (Robertson and Zaragoza 2009). A text's lexical score is its BM25 over that of the best text of the
whole index: between 0 and 1, as the cosines beside it, and the same whatever the filter. Other scales were
tried on SciFact and Cranfield, the highest score that a text could reach, that of the query as a text of its own, and
TF-IDF cosines: this one ranks best at equal weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moee.errors import InputError
from moee.method.lexical import words
from moee.stores.store import Candidates

TERMS_VERSION = 1
"""Version of the terms that a store keeps. It rises whenever `words` gives others."""
K1 = 1.2
"""How soon more of the same word stops counting, in every store: what SQLite and LanceDB have built in."""
B = 0.75
"""How much long texts are discounted."""


@dataclass(frozen=True, slots=True)
class Found:
    """Records found by their words.

    Attributes:
        candidates: The records with their vectors, best first.
        scores: BM25 of each, larger than 0.
    """

    candidates: Candidates
    scores: Sequence[float]


def query_terms(text: str) -> tuple[str, ...]:
    """Return the different terms of a query, in order of first occurrence; each counts once."""
    return tuple(dict.fromkeys(words(text)))


def stored_terms(text: str) -> str:
    """Return the terms of a text with blanks between, for an index that splits at blanks."""
    return " ".join(words(text))


def term_counts(text: str) -> Mapping[str, int]:
    """Return how often each term stands in a text."""
    return Counter(words(text))


def no_full_text() -> InputError:
    """Return the error for a search by words in an index without them."""
    return InputError(
        "The index keeps no words, so that it cannot be searched by them. Build one that does: moee index build "
        "FILE --out DIR --hybrid"
    )
