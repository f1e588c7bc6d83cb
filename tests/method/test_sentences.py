"""Where sentences, lines and words end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from moee.method.sentences import cut_before, line_ends, sentence_ends


def parts(text: str, ends: list[int]) -> list[str]:
    return [text[start:end] for start, end in pairwise([0, *ends])]


@pytest.mark.parametrize(
    "expected",
    [
        ["Dr. Smith met Prof. Jones on Jan. 3. ", "They spoke for 3.5 hours, e.g. about U.S. policy. ", "Yes!"],
        ["See Fig. 3 and Eq. 4. ", "Miller et al. Agree, cf. Sect. 2.1. ", "J. R. Smith left? ", "So... ", "And so."],
        ['"Really?" she asked. ', '"Yes." ', "(He nodded.) ", "Done"],
        ["今日は天気がいい。", "散歩に行こう！", "「本当？」", "と彼は言った。"],
        ["他说：“你好。”", "然后走了。\n", "我们去吧！"],
        ["नमस्ते। ", "आप कैसे हैं? ", "ठीक।"],
        ["هل أنت بخير؟ ", "نعم."],
        ["Das kostet ca. 5 Euro, z.B. hier. ", "Mme. Curie dit oui. ", "Fin."],
        ["A heading without a stop\n\n", "A first line\nthat goes on. ", "Next.\r\n\r\n", "End"],
        ["   Space before. ", "Space behind.   "],
        ["version 2.0.1 of a.b.c stays"],
        ["wait... ", "What?! ", "Oh"],
    ],
)
def test_sentences_end_where_people_see_them_end(expected: list[str]) -> None:
    text = "".join(expected)
    assert parts(text, sentence_ends(text)) == expected


@pytest.mark.parametrize("text", ["", " \n ", "\n\n\n", "a", "\n\na"])
def test_no_part_is_white_space_alone(text: str) -> None:
    assert sentence_ends(text) == [len(text)]
    assert line_ends(text) == [len(text)]


def test_lines_end_behind_their_line_ends() -> None:
    assert parts("a\nb\n\n  c", line_ends("a\nb\n\n  c")) == ["a\n", "b\n\n  ", "c"]


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("one two three", 9, "one two "),
        ("onetwothree", 5, "onetw"),
        ("a onetwothree", 9, "a onetwot"),  # white space in the first half would leave too little
        ("caf\u0065\u0301s", 4, "caf"),  # the accent stays with its letter
        ("ab👩\u200d👧cd", 4, "ab"),
        ("a\u0301\u0301\u0301", 2, "a\u0301"),  # nothing but accents: cut all the same
    ],
)
def test_a_cut_is_between_words_or_between_signs(text: str, place: int, expected: str) -> None:
    assert text[: cut_before(text, place, 0)] == expected
