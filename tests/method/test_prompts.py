"""Templates, and the original code's cleaning against its own rendered prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moee.errors import InputError, UnknownNameError
from moee.method.prompts import (
    PAPER_PROMPTS,
    PLACEHOLDER,
    PROMPTS,
    clean_paper,
    clean_tidy,
    render,
    resolve_prompt,
)

# the golden data's "none" puts quotes around the text
GOLDEN_NAMES = {"prompteol": "prompteol", "none": "quoted", "sentiment": "sentiment"}


def test_prompteol_is_the_published_template() -> None:
    assert render("prompteol", "A cat sat.") == 'This sentence : "A cat sat." means in one word:"'


def test_none_is_the_text_alone() -> None:
    assert render("none", ' a "b"_c ') == ' a "b"_c '


@pytest.mark.parametrize("name", PROMPTS)
def test_every_named_template_holds_the_text_once_and_names_its_source(name: str) -> None:
    assert PROMPTS[name].template.count(PLACEHOLDER) == 1
    assert PROMPTS[name].source


def test_the_paper_has_nine_prompts_and_none() -> None:
    assert len(set(PAPER_PROMPTS)) == 10
    assert set(PAPER_PROMPTS) <= set(PROMPTS)


def test_other_braces_survive_in_template_and_text() -> None:
    assert render("{0} {text} {x}", "{text} {y} %s") == "{0} {text} {y} %s {x}"


def test_a_template_is_returned_as_it_is() -> None:
    assert resolve_prompt("Q: {text}\nA:") == "Q: {text}\nA:"


def test_unknown_name_suggests_close_matches() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown prompt 'promteol'.*Did you mean 'prompteol'"):
        resolve_prompt("promteol")


@pytest.mark.parametrize(("template", "count"), [("{text} and {text}", 2), ("In one word: {sentence}", 0), ("", 0)])
def test_a_template_must_hold_the_text_exactly_once(template: str, count: int) -> None:
    with pytest.raises(InputError, match=f"holds {{text}} {count} times"):
        resolve_prompt(template)


def test_a_prompt_that_is_not_a_string_is_refused() -> None:
    with pytest.raises(InputError, match="must be a string, not int"):
        resolve_prompt(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("no stop", "no stop."),
        ("two spaces  ", "two spaces  ."),
        ('He said "no"', "He said 'no'"),
        ("It's", "It's."),
        ("why?", "why?"),
        ("a,", "a,."),
    ],
)
def test_paper_cleaning_adds_a_full_stop_and_turns_quotes(text: str, cleaned: str) -> None:
    assert clean_paper(text) == cleaned


def test_paper_cleaning_strips_the_prompt_and_replaces_underscores_after_filling() -> None:
    assert render(" my_task: {text} ", " snake_case ", cleaning="paper") == "my task:  snake case ."


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("  ", ""),
        ("A cat sat.", "A cat sat."),
        ("two men ( and a dog ) are n't here , he 's sure", "Two men (and a dog) aren't here, he's sure."),
        ("it rains . i think so !", "It rains. I think so!"),
        ("the index .ixic rose 5 %", "The index .ixic rose 5%"),
        ("IBM , i said", "IBM, i said."),
        ('"quoted"', '"quoted"'),
    ],
)
def test_tidy_undoes_tokenised_lowercased_text_and_leaves_the_rest(text: str, cleaned: str) -> None:
    assert clean_tidy(text) == cleaned
    assert clean_tidy(cleaned) == cleaned
    assert render("prompteol", text, cleaning="tidy") == f'This sentence : "{cleaned}" means in one word:"'


@pytest.mark.parametrize("golden", GOLDEN_NAMES)
def test_paper_cleaning_gives_every_prompt_of_the_original(golden: str) -> None:
    inputs = json.loads((Path(__file__).parents[1] / "golden" / "inputs.json").read_text(encoding="utf-8"))
    rendered = [render(GOLDEN_NAMES[golden], text, cleaning="paper") for text in inputs["texts"]]
    assert rendered == inputs["rendered_prompts"][golden]
