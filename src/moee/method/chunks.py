"""Long texts as chunks of whole sentences, and the chunks' blocks as one.

Chunks are places in the text and follow each other without a gap, so that joined they give the text back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from moee.method.fusion import unit
from moee.method.sentences import cut_before, line_ends, sentence_ends
from moee.types import Array, View

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Returns the tokens of each of some texts."""

LEAST_ROOM = 8
"""Tokens that a chunk must at least hold: to some tokenizers each of the four bytes of a character is one."""

Span = tuple[int, int]

_FILL = 0.9
"""How full a portion of a sentence is made at the first try: tokens are not spread evenly over characters."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a text.

    Attributes:
        start: Place of its first character in the text.
        end: Place behind its last character.
        text: What is embedded for it: the characters from `start` to `end`, without white space at their ends unless
            they are the whole text.
        tokens: Tokens of `text`, without those of a prompt.
    """

    start: int
    end: int
    text: str
    tokens: int


def split_texts(texts: Sequence[str], limit: int, count: CountTokens) -> list[list[Chunk]]:
    """Split texts into chunks of whole sentences.

    A text over the limit is cut where sentences end, into as few chunks as hold it and of about the same length. A
    sentence over the limit is cut where lines end, then between words, then within a word.

    Args:
        texts: Any texts.
        limit: The most tokens of a chunk, at least `LEAST_ROOM`.
        count: Counts tokens; called with many texts at once, a few times in all.

    Returns:
        The chunks of every text in order, at least one each. The end of one is the start of the next, from 0 to the
        text's length.
    """
    counted = count(texts)
    return [
        [Chunk(0, len(text), text, tokens)] if tokens <= limit else _split(text, tokens, limit, count)
        for text, tokens in zip(texts, counted, strict=True)
    ]


def pool(blocks: Mapping[View, Array], chunks: Sequence[Sequence[Chunk]]) -> dict[View, Array]:
    """Return one block for each text, from those of its chunks: their directions' mean, weighted by tokens.

    Args:
        blocks: By name `(num_chunks, dim of the block)`, the chunks of all texts behind each other.
        chunks: The chunks of every text.

    Returns:
        By name `(num_texts, dim of the block)` float32, as long as the chunks' blocks are in the mean; a text of one
        chunk keeps its own. A zero block (a chunk without a word, in the lexical view) has no say; it stays zero where
        all are.
    """
    numbers = [len(own) for own in chunks]
    starts = np.concatenate([[0], np.cumsum(numbers)[:-1]]).astype(np.int64)
    tokens = np.array([max(chunk.tokens, 1) for own in chunks for chunk in own], dtype=np.float64)
    alone = np.flatnonzero(np.array(numbers) == 1)
    pooled: dict[View, Array] = {}
    for view, block in blocks.items():
        wide = np.asarray(block, dtype=np.float64)
        lengths = np.linalg.norm(wide, axis=1)
        said = tokens * (lengths > 0)
        total = np.add.reduceat(said, starts)
        total[total == 0] = 1.0
        directions = wide / np.where(lengths == 0, 1.0, lengths)[:, None]
        length = np.add.reduceat(said * lengths, starts) / total
        mean = np.add.reduceat(said[:, None] * directions, starts)
        pooled[view] = np.asarray(unit(mean) * length[:, None], dtype=np.float32)
        pooled[view][alone] = block[starts[alone]]
    return pooled


def _split(text: str, tokens: int, limit: int, count: CountTokens) -> list[Chunk]:
    own = text.strip()
    pieces = [Chunk(0, len(text), own, tokens if own == text else count([own])[0])]
    for ends in (sentence_ends, line_ends):
        pieces = _finer(text, pieces, limit, count, ends)
    while any(piece.tokens > limit and piece.end - piece.start > 1 for piece in pieces):
        pieces = _in_portions(text, pieces, limit, count)
    return list(_joined(text, _packed(pieces, limit), limit, count))


def _finer(
    text: str, pieces: Sequence[Chunk], limit: int, count: CountTokens, ends: Callable[[str], list[int]]
) -> list[Chunk]:
    """Return the pieces with those over the limit cut at some ends."""
    spans: list[Span] = []
    for piece in pieces:
        found = ends(text[piece.start : piece.end])[:-1] if piece.tokens > limit else []
        spans += pairwise([piece.start, *(piece.start + end for end in found), piece.end])
    return _counted(text, spans, pieces, count)


def _in_portions(text: str, pieces: Sequence[Chunk], limit: int, count: CountTokens) -> list[Chunk]:
    """Return the pieces with those over the limit cut between words, into about as many as it takes."""
    spans: list[Span] = []
    for piece in pieces:
        cuts = _cuts(text, piece, math.ceil(piece.tokens / (_FILL * limit))) if piece.tokens > limit else []
        spans += pairwise([piece.start, *cuts, piece.end])
    return _counted(text, spans, pieces, count)


def _cuts(text: str, piece: Chunk, number: int) -> list[int]:
    """Return where to cut a piece into about `number` parts, each of which holds something visible."""
    whole = text[piece.start : piece.end]
    # space at the ends stays with the first and the last part, so that both are shorter than the piece, counted
    start = piece.start + len(whole) - len(whole.lstrip())
    end = piece.start + len(whole.rstrip())
    step = max(1, math.ceil((end - start) / number))
    cuts: list[int] = []
    last = start
    while end - start > step:
        start = cut_before(text, start + step, start)
        if text[last:start].strip():
            cuts.append(start)
            last = start
    return cuts


def _counted(text: str, spans: Sequence[Span], known: Sequence[Chunk], count: CountTokens) -> list[Chunk]:
    found = {(piece.start, piece.end): piece for piece in known}
    new = {(start, end): text[start:end].strip() for start, end in spans if (start, end) not in found}
    counted = zip(new.items(), count(list(new.values())), strict=True) if new else ()
    found.update({span: Chunk(*span, own, tokens) for (span, own), tokens in counted})
    return [found[span] for span in spans]


def _packed(pieces: Sequence[Chunk], limit: int) -> list[list[Chunk]]:
    """Put neighbours together up to the limit, and evenly: a last chunk of three words is a poor passage."""
    total = sum(piece.tokens for piece in pieces)
    even = total / math.ceil(total / limit)
    groups: list[list[Chunk]] = []
    filled = math.inf
    for piece in pieces:
        if filled >= even or filled + piece.tokens > limit:
            groups.append([])
            filled = 0
        groups[-1].append(piece)
        filled += piece.tokens
    return groups


def _joined(text: str, groups: Sequence[Sequence[Chunk]], limit: int, count: CountTokens) -> Iterator[Chunk]:
    """Yield each group as one chunk, or in halves if the pieces have more tokens together than apart."""
    spans = [(group[0].start, group[-1].end) for group in groups]
    known = [group[0] for group in groups if len(group) == 1]
    for group, chunk in zip(groups, _counted(text, spans, known, count), strict=True):
        if chunk.tokens <= limit or len(group) == 1:
            yield chunk
        else:
            half = len(group) // 2
            yield from _joined(text, [group[:half], group[half:]], limit, count)
