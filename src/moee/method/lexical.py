"""The lexical view: the words of a text as a vector, which needs no model.

A word weighs `(1 + log tf) * log((N + 1) / (df + 1))^0.75`, tf being how often it stands in the text and df in how
many of N reference texts it stands. Words are hashed to coordinates with a sign (Weinberger et al. 2009, "Feature
hashing for large scale multitask learning"), so that a vector has a fixed width and no vocabulary: words that share a
coordinate cancel as often as they add.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import chain, pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import regex

from moee.data import document_frequencies
from moee.errors import CalibrationError, InputError
from moee.types import Array

Wide = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]
"""64-bit hashes of words, see `word_hash`."""

MIN_DIM = 16
"""Least width of a lexical vector. Below, most words of a sentence would share a coordinate with another."""

_LEAST_WEIGHT = 1e-2
"""Least log((N + 1) / (df + 1)), so that a text keeps a direction though all of its words stand in every text."""
_RARITY = 0.75
"""Power of the logarithm. General texts know a domain's common words as rare ones, and its plain form so gives them too
much: with built-in frequencies, words alone gain 4.0 points on TwitterSemEval, 0.7 on SciFact and Cranfield, and 0.4 in
the mean of five STS sets over a power of 1; 0.5 takes 1 to 4 from STS and SciFact."""
_CACHED_WORDS = 1 << 18
"""Forms whose stem and hash are remembered: about 60 MiB when full."""
_CHUNK_CELLS = 1 << 24
"""Cells of float64 that are summed at once: 128 MiB, whatever the number of texts."""

_ASCII_WORD = re.compile(r"[a-z0-9]+")
# Scripts that put no spaces between words. Script extensions count in the prolonged sound mark of Japanese; the
# intersection leaves out punctuation that belongs to such a script.
_UNSPACED = r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]&&[\p{L}\p{M}\p{N}]]"
_WORD_OR_RUN = regex.compile(rf"(?V1)({_UNSPACED}+)|[[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}]+")
_CHARACTER = regex.compile(r"\X")
_HAN = regex.compile(r"\p{Han}")
_VOWEL = re.compile("[aeiouy]")
_DERIVED = ("ibl", "abl", "anc", "enc", "iti", "er", "or", "iv", "al", "ic", "ous", "ful", "ist", "ism")
"""Endings of nouns and adjectives, as they are once a final e is gone and a final y is an i."""


def words(text: str) -> list[str]:
    """Return the terms of a text, in order, repeats included.

    A word is a run of letters, marks and digits of any script, in compatibility form (NFKC) and folded case; English
    words are stemmed (`stem`). A run of a script without spaces (Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar)
    gives its pairs of neighbouring characters, and each Han character; a run of one character gives that one.

    Args:
        text: Any string.
    """
    if text.isascii():
        return [stem(word) for word in _ASCII_WORD.findall(text.lower())]
    return [term for match in _WORD_OR_RUN.finditer(_folded(text)) for term in _terms(match)]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _terms(match: Any) -> list[str]:
    # `Any`: the match of a package without types
    if match[1] is None:
        return [stem(match[0])]
    characters = _CHARACTER.findall(match[1])
    if len(characters) == 1:
        return list(characters)
    pairs = [left + right for left, right in pairwise(characters)]
    return pairs + [each for each in characters if _HAN.match(each)]


@lru_cache(maxsize=_CACHED_WORDS)
def stem(word: str) -> str:
    """Return an English word without its ending; words of other scripts, or with digits or accents, as given.

    Endings go in this order: plural, -ing or -ed, final e, -ly, one of those that make nouns and adjectives, -ion,
    -ness or -ment. On the development sets this is as good as Snowball's English stemmer (59.3 and 59.4 points in the
    mean of six task types, against 58.0 without stemming), and it stays the same while a package may change.

    Args:
        word: A word in lower case.
    """
    if len(word) < 4 or not (word.isascii() and word.isalpha()):
        return word
    word = _without_form(_singular(word))
    word = word[:-1] if len(word) > 3 and word.endswith("e") else word
    return _without_derivation(f"{word[:-1]}i" if len(word) > 3 and word.endswith("y") else word)


def _singular(word: str) -> str:
    if not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "zes")) else word[:-1]


def _without_form(word: str) -> str:
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        # "sing" and "red" are words, not forms
        if rest != word and len(rest) >= 3 and _VOWEL.search(rest):
            is_doubled = rest[-1] == rest[-2] and rest[-1] not in "lsz"
            return rest[:-1] if is_doubled else rest
    return word


def _without_derivation(word: str) -> str:
    word = word[:-2] if word.endswith("li") and len(word) > 5 else word
    word = _without_any(word, _DERIVED)
    word = word[:-3] if word.endswith(("sion", "tion")) and len(word) > 5 else word
    return _without_any(word, ("ness", "ment"))


def _without_any(word: str, endings: tuple[str, ...]) -> str:
    """Remove the first of the endings that leaves four letters."""
    for ending in endings:
        if word.endswith(ending) and len(word) >= len(ending) + 4:
            return word.removesuffix(ending)
    return word


@lru_cache(maxsize=_CACHED_WORDS)
def word_hash(term: str) -> int:
    """Return the 64-bit hash of a term: BLAKE2b of its UTF-8, the same on every machine and in every version."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True, eq=False)
class DocumentFrequencies:
    """In how many reference texts each word stands.

    Attributes:
        num_documents: Reference texts.
        hashes: `(num_words,)` uint64, `word_hash` of each word, ascending.
        counts: `(num_words,)` int64, 1 or larger.
    """

    num_documents: int
    hashes: Hashes
    counts: npt.NDArray[np.int64]

    @classmethod
    @cache
    def builtin(cls) -> Self:
        """Return the frequencies that ship with the package, counted over 40,000 general English sentences."""
        num_documents, counts = document_frequencies()
        return cls._of(num_documents, {word_hash(term): count for term, count in counts.items()})

    @classmethod
    def fit(cls, texts: Iterable[str]) -> Self:
        """Count over texts of one's own; repeats count as often as they come.

        Raises:
            InputError: If there is no text.
        """
        counts, num_documents = count_documents(texts)
        if not num_documents:
            raise InputError("Document frequencies need at least one text; got none.")
        return cls._of(num_documents, {word_hash(term): count for term, count in counts.items()})

    @classmethod
    def _of(cls, num_documents: int, by_hash: Mapping[int, int]) -> Self:
        hashes = np.array(sorted(by_hash), dtype=np.uint64)
        counts = np.array([by_hash[each] for each in hashes.tolist()], dtype=np.int64)
        return cls(num_documents, hashes, counts)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return what `arrays` gave.

        Raises:
            CalibrationError: If the arrays are none of `arrays`.
        """
        missing = [name for name in FREQUENCY_ARRAYS if name not in arrays]
        if missing:
            raise CalibrationError(f"The document frequencies lack {', '.join(missing)}. Fit them again.")
        documents, hashes, counts = (arrays[name] for name in FREQUENCY_ARRAYS)
        if documents.size != 1 or hashes.shape != counts.shape or hashes.ndim != 1:
            raise CalibrationError(
                f"The document frequencies have shapes {documents.shape}, {hashes.shape} and {counts.shape}; they must "
                "be one number, and two lists of the same length. Fit them again."
            )
        return cls(int(documents.item()), hashes.astype(np.uint64), counts.astype(np.int64))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the frequencies as arrays for a file; their names begin with `lexical_`."""
        return dict(zip(FREQUENCY_ARRAYS, (np.array([self.num_documents]), self.hashes, self.counts), strict=True))

    def idf(self, hashes: Hashes) -> Wide:
        """Return `log((N + 1) / (df + 1))` of words by their hashes, `(num_hashes,)`; 0.01 at least."""
        frequency = np.zeros(len(hashes), dtype=np.int64)
        if len(self.hashes):
            places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
            frequency = np.where(self.hashes[places] == hashes, self.counts[places], 0)
        return np.maximum(np.log((self.num_documents + 1) / (frequency + 1)), _LEAST_WEIGHT)


FREQUENCY_ARRAYS = ("lexical_num_documents", "lexical_hashes", "lexical_counts")


def count_documents(texts: Iterable[str]) -> tuple[Counter[str], int]:
    """Return in how many texts each term stands, and the number of texts."""
    counts, num_texts = Counter[str](), 0
    for text in texts:
        counts.update(set(words(text)))
        num_texts += 1
    return counts, num_texts


@dataclass(frozen=True, slots=True)
class _Weighted:
    """The different words of texts with their weights, text after text, each text's in order of first occurrence."""

    rows: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    weights: Wide


def lexical_block(texts: Sequence[str], dim: int, frequencies: DocumentFrequencies | None = None) -> Array:
    """Return the lexical view of texts: `(num_texts, dim)` float32, rows of length 1, zero for a text without a word.

    A row depends on its text alone, whatever the other texts are.

    Args:
        texts: Any strings.
        dim: Width; more means fewer words that share a coordinate. 2,048 costs nothing that was measurable.
        frequencies: What common words weigh less by; None for the built-in ones.

    Raises:
        InputError: If `dim` is below 16.
    """
    check_dim(dim)
    step = max(1, _CHUNK_CELLS // dim)
    block: Array = np.zeros((len(texts), dim), dtype=np.float32)
    for start in range(0, len(texts), step):
        chunk = texts[start : start + step]
        found = _weigh(chunk, dim, frequencies or DocumentFrequencies.builtin())
        # bincount adds in the order of the words, so that no sum depends on other texts
        places = found.rows * dim + found.slots
        cells = np.bincount(places, found.weights, minlength=len(chunk) * dim).astype(np.float64, copy=False)
        block[start : start + step] = _units(cells.reshape(len(chunk), dim))
    return block


def lexical_matrix(texts: Sequence[str], dim: int, frequencies: DocumentFrequencies | None = None) -> Any:
    """Return what `lexical_block` does as a `scipy.sparse` matrix in row form, float32; for large widths.

    `Any`: scipy ships no types.

    Raises:
        InputError: If `dim` is below 16.
    """
    from scipy import sparse

    check_dim(dim)
    found = _weigh(texts, dim, frequencies or DocumentFrequencies.builtin())
    # the conversion adds up words of one slot
    matrix = sparse.coo_matrix((found.weights, (found.rows, found.slots)), shape=(len(texts), dim)).tocsr()
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags(1 / np.where(lengths > 0, lengths, 1.0)) @ matrix).astype(np.float32)


def check_dim(dim: int) -> None:
    """Refuse a width that cannot tell words apart.

    Raises:
        InputError: If `dim` is below 16.
    """
    if dim < MIN_DIM:
        raise InputError(
            f"The lexical view cannot be {dim} wide; it must be {MIN_DIM} or more. 1,024 or 2,048 are usual."
        )


def _weigh(texts: Sequence[str], dim: int, frequencies: DocumentFrequencies) -> _Weighted:
    counted = [Counter(words(text)) for text in texts]
    lengths = np.array([len(each) for each in counted], dtype=np.int64)
    hashes = np.fromiter(map(word_hash, chain.from_iterable(counted)), np.uint64, int(lengths.sum()))
    tf = np.fromiter(_counts(counted), np.float64, len(hashes))
    distinct, places = np.unique(hashes, return_inverse=True)
    signs = np.where(hashes & np.uint64(1), 1.0, -1.0)
    slots = ((hashes >> np.uint64(1)) % np.uint64(dim)).astype(np.int64)
    weights = signs * (1 + np.log(tf)) * (frequencies.idf(distinct) ** _RARITY)[places]
    return _Weighted(np.repeat(np.arange(len(texts)), lengths), slots, weights)


def _counts(counted: Iterable[Counter[str]]) -> Iterator[int]:
    return chain.from_iterable(each.values() for each in counted)


def _units(rows: Wide) -> Wide:
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows / np.where(lengths > 0, lengths, 1.0)


@dataclass(frozen=True, slots=True)
class SharedWord:
    """A word of two texts and what it adds to their similarity.

    Attributes:
        word: The term that both texts hold, see `words`.
        forms: How it is written where it first stands in each text, in folded case.
        part: Added to the similarity, more than 0.
    """

    word: str
    forms: tuple[str, str]
    part: float


def shared_words(
    texts: tuple[str, str],
    dim: int,
    frequencies: tuple[DocumentFrequencies | None, DocumentFrequencies | None] = (None, None),
    *,
    share: float = 1.0,
) -> tuple[SharedWord, ...]:
    """Return the words that two texts share, those with the largest part first.

    Args:
        texts: Any two strings.
        dim: Width of the lexical vectors.
        frequencies: What common words of each text weigh less by; None for the built-in ones.
        share: What the cosine of the two lexical vectors counts.

    Returns:
        Words whose parts add up to the cosine times its share, but for pairs of different words that share a
        coordinate: those products belong to no word, and are left out.

    Raises:
        InputError: If `dim` is below 16.
    """
    check_dim(dim)
    (one, forms), (other, forms_of_other) = (
        (_word_weights(text, dim, counts), _forms(text)) for text, counts in zip(texts, frequencies, strict=True)
    )
    # a word's two signs are the same, so that its product is positive
    found = [
        SharedWord(word, (forms[word], forms_of_other[word]), share * weight * other[word])
        for word, weight in one.items()
        if word in other
    ]
    return tuple(sorted(found, key=lambda each: (-each.part, each.word)))


def _word_weights(text: str, dim: int, frequencies: DocumentFrequencies | None) -> dict[str, float]:
    """Return what each word of a text adds to its coordinate of the unit vector."""
    found = _weigh([text], dim, frequencies or DocumentFrequencies.builtin())
    length = float(np.linalg.norm(np.bincount(found.slots, found.weights, minlength=dim))) or 1.0
    return dict(zip(dict.fromkeys(words(text)), (found.weights / length).tolist(), strict=True))


def _forms(text: str) -> dict[str, str]:
    """Return how each term is written where it first stands."""
    found: dict[str, str] = {}
    for match in _WORD_OR_RUN.finditer(_folded(text)):
        for term in _terms(match):
            found.setdefault(term, term if match[1] else match[0])
    return found
