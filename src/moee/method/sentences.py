"""Where the sentences, lines and words of a text end, by rules: no model, no language to be named.

The rules are those that most scripts share, with the abbreviations of a few languages. A wrong end costs little where
they are used: chunks hold many sentences, and only the last of each matters.
"""

from __future__ import annotations

import re
import unicodedata

_CLOSING = "\"'”’»›)\\]}」』】〉》）］｝"
_BOUNDARY = re.compile(
    # possessive, and only where a run of marks begins: a page of dots must not cost the square of its length
    rf"(?P<mark>(?<![.!?…])[.!?…]++[{_CLOSING}]*+)\s+"
    # scripts that write no space behind a sentence, or whose mark means nothing else
    rf"|[。！？｡．।॥؟۔։።។။]++[{_CLOSING}]*+\s*+"
    # an empty line ends a paragraph, whatever stands before it
    r"|\n[^\S\n]*+\n\s*+"
)
_LINE = re.compile(r"\n\s*+")
_SPACE = re.compile(r"\s++")
_LAST_WORD = re.compile(r"(?:^|[\s(\[\"'“‘«„])([^\s(\[\"'“‘«„]+)$")
_LONGEST_ABBREVIATION = 24

_WORDS = """
dr mr mrs ms prof rev hon gen col capt lt sgt st sr jr messrs
vs etc cf al viz ca approx est dept univ inc ltd co corp bros assn
fig figs eq eqs sec sect ch chap vol vols no nos art arts p pp para ref refs tab ed eds ver min max
jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun
bzw usw nr abb ggf evtl inkl zzgl str hr fr bd aufl hrsg vgl sog
mme mlle m mgr env av bd ex sra srta ud uds núm pág págs dott sig sigg ecc pag dhr mevr blz
т г гг стр рис см напр ул др
"""
ABBREVIATIONS = frozenset(_WORDS.split())
"""Words before a full stop that seldom end a sentence: English, German, French, Spanish, Italian, Dutch, Russian."""


def sentence_ends(text: str) -> list[int]:
    """Return where the sentences of a text end, space behind them included; the last one is the text's length.

    Args:
        text: Any text. Sentences end at the marks of the common scripts and at empty lines; not at the full stop of an
            abbreviation, an initial (`J. Smith`) or a number, and not before a small letter.
    """
    ends = [match.end() for match in _BOUNDARY.finditer(text) if match["mark"] is None or _is_end(text, match)]
    return _closed(text, ends)


def line_ends(text: str) -> list[int]:
    """Return where the lines of a text end, as `sentence_ends` does."""
    return _closed(text, [match.end() for match in _LINE.finditer(text)])


def cut_before(text: str, place: int, after: int) -> int:
    """Return the best place to cut a text that must be cut at `place` or a little before it.

    Args:
        text: The text.
        place: The last place allowed, more than `after`.
        after: What is before this place stays whole, so the result is larger.

    Returns:
        The place behind the last white space, in the second half of what lies between; if there is none, one that
        leaves accents and joined signs together; else `place`.
    """
    half = after + (place - after) // 2
    spaces = [match.end() for match in _SPACE.finditer(text, half, place)]
    if spaces and text[after : spaces[-1]].strip():
        return spaces[-1]
    whole = (each for each in range(place, max(half, after + 1) - 1, -1) if not _joins(text, each))
    return next(whole, place)


def _is_end(text: str, match: re.Match[str]) -> bool:
    following = text[match.end() : match.end() + 1]
    if following.islower():
        return False
    mark = match["mark"]
    if mark[:1] != "." or mark[1:2] in (".", "!", "?"):
        return True
    found = _LAST_WORD.search(text[max(0, match.start() - _LONGEST_ABBREVIATION) : match.start()])
    if found is None:
        return True
    word = found[1]
    is_initial = len(word) == 1 and word.isalpha()
    is_dotted = word[-2:-1] == "." and word[-1].isalpha()  # U.S, e.g, p.m
    return not (is_initial or is_dotted or word.lower() in ABBREVIATIONS)


def _closed(text: str, ends: list[int]) -> list[int]:
    """Return the ends between which something can be seen, and the text's own end."""
    kept, start = [], 0
    for end in [*ends, len(text)]:
        if text[start:end].strip():
            kept.append(end)
            start = end
    return [*kept[:-1], len(text)] if kept else [len(text)]


def _joins(text: str, place: int) -> bool:
    """Return whether the characters on both sides of a place are one sign: an accent, a joined emoji."""
    if place >= len(text):
        return False
    before, behind = text[place - 1], text[place]
    return unicodedata.category(behind) in ("Mn", "Me", "Mc") or "\u200d" in (before, behind)
