"""Siblings: how documents are cut, which pairs are left out, and what is said where there are too few."""

from __future__ import annotations

import pytest

from moee.errors import InputError, UnknownNameError
from moee.evaluate.tune.siblings import find_siblings, halves, neighbours

DOCUMENTS = [
    f"Part {n} begins here. It goes on a little. Then comes number {n}. That is the end of {n}." for n in range(30)
]


def test_halves_meet_at_the_sentence_end_nearest_to_the_middle() -> None:
    text = "One. A much longer sentence stands here in the middle. Three."
    assert halves(text) == ("One. A much longer sentence stands here in the middle.", "Three.")
    assert halves("First half here. Second half here.") == ("First half here.", "Second half here.")
    assert halves("No end but its own.") is None


def test_neighbours_are_the_two_sentences_in_the_middle() -> None:
    assert neighbours("One is here. Two is here. Three is here. Four is here.") == ("Two is here.", "Three is here.")
    assert neighbours("One is here. Two is here.") == ("One is here.", "Two is here.")
    assert neighbours("Alone.") is None


def test_every_document_gives_one_pair_and_twins_none() -> None:
    found = find_siblings([*DOCUMENTS, DOCUMENTS[3], "Alone.", "Same. Same."])
    assert (found.kind, len(found)) == ("halves", 30)
    assert found.left[3] == "Part 3 begins here. It goes on a little."
    assert found.right[3] == "Then comes number 3. That is the end of 3."


def test_sentences_that_stand_in_several_documents_are_no_siblings() -> None:
    """Another document's twin would be a right answer too."""
    with pytest.raises(InputError, match="There are 1 usable pairs of the kind 'sentences' in 30 texts; 20 are needed"):
        find_siblings(DOCUMENTS, kind="sentences")


def test_titles_stand_beside_their_bodies_and_are_taken_where_they_are() -> None:
    titles = [f"Title {n}" for n in range(30)]
    found = find_siblings(DOCUMENTS, [*titles[:29], " "])
    assert (found.kind, found.left, found.right) == ("title", tuple(titles[:29]), tuple(DOCUMENTS[:29]))
    with pytest.raises(InputError, match="need the titles: name their field with --title-column"):
        find_siblings(DOCUMENTS, kind="title")


def test_a_sample_is_drawn_by_its_seed_and_keeps_the_order() -> None:
    one, again, other = (find_siblings(DOCUMENTS, sample=22, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    places = [DOCUMENTS.index(f"{left} {right}") for left, right in zip(one.left, one.right, strict=True)]
    assert places == sorted(places)
    assert len(places) == 22


def test_an_unknown_kind_is_answered_with_close_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown kind of siblings 'half'.*Did you mean 'halves'"):
        find_siblings(DOCUMENTS, kind="half")  # type: ignore[arg-type]
