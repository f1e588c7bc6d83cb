"""Prompt templates: the named ones with their sources, the user's own, and how a text is put into one.

A template is a string with exactly one `{text}`. Everything else in it is kept as it is, other braces included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from moee.errors import InputError, UnknownNameError
from moee.types import Cleaning

PLACEHOLDER = "{text}"
"""Where the text goes in a template."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A named template.

    Attributes:
        template: Holds exactly one `{text}`.
        source: Where it was published.
    """

    template: str
    source: str


_MOEE_TABLE_2 = "Li & Zhou 2025, arXiv 2410.10814, Table 2"


def _one_word(task: str) -> Prompt:
    return Prompt(f'In one word, {task} - "{PLACEHOLDER}" :', _MOEE_TABLE_2)


PROMPTS: Mapping[str, Prompt] = MappingProxyType(
    {
        "prompteol": Prompt(
            f'This sentence : "{PLACEHOLDER}" means in one word:"',
            "Jiang et al. 2023, arXiv 2307.16645; the main prompt of arXiv 2410.10814",
        ),
        "none": Prompt(PLACEHOLDER, "the text alone"),
        # The public code's "none" still quotes the text; the golden data of the original shows it.
        "quoted": Prompt(f'"{PLACEHOLDER}"', "the public code of arXiv 2410.10814, where it is called none"),
        "style": _one_word("describe the style of the following sentence"),
        "sentiment": _one_word("describe the sentiment of the following sentence (positive, neutral, or negative)"),
        "tone": Prompt(
            "In one word, describe the tone of the following sentence - "
            f'"{PLACEHOLDER}" (e.g., formal, informal, humorous, serious):',
            _MOEE_TABLE_2,
        ),
        "intent": _one_word("describe the intent behind the following sentence (e.g., request, suggestion, command)"),
        "complexity": _one_word("rate the complexity of the following sentence (simple, moderate, complex)"),
        "subjectivity": _one_word("describe whether the following sentence is subjective or objective"),
        "language_style": _one_word(
            "describe the language style of the following sentence (e.g., academic, conversational, literary)"
        ),
        "grammar": _one_word(
            "describe the grammatical structure of the following sentence (simple, compound, complex)"
        ),
        "cot": Prompt(
            f'After thinking step by step , this sentence : "{PLACEHOLDER}" means in one word:"',
            "Zhang et al. 2024, Pretended Chain of Thought, arXiv 2404.03921",
        ),
        "ke": Prompt(
            "The essence of a sentence is often captured by its main subjects and actions, while descriptive terms "
            "provide additional but less central details. With this in mind , this sentence : "
            f'"{PLACEHOLDER}" means in one word:"',
            "Zhang et al. 2024, Knowledge Enhancement, arXiv 2404.03921",
        ),
    }
)
"""Every named prompt."""

PAPER_PROMPTS = (
    "prompteol",
    "style",
    "sentiment",
    "tone",
    "intent",
    "complexity",
    "subjectivity",
    "language_style",
    "grammar",
    "quoted",
)
"""The paper's nine prompts in the order of its Table 2, then its "none"."""


def resolve_prompt(name_or_template: str) -> str:
    """Return the template behind a name, or check a template and return it.

    Args:
        name_or_template: A key of `PROMPTS`, or a string that holds exactly one `{text}`.

    Returns:
        A template with exactly one `{text}`.

    Raises:
        InputError: If it is not a string, or a template whose number of `{text}` is not one.
        UnknownNameError: If it looks like a name and is none of `PROMPTS`; suggests close matches.
    """
    if not isinstance(name_or_template, str):
        raise InputError(
            f"A prompt must be a string, not {type(name_or_template).__name__}. "
            f"Give one of {', '.join(sorted(PROMPTS))}, or a template that holds {PLACEHOLDER} once."
        )
    if name_or_template in PROMPTS:
        return PROMPTS[name_or_template].template
    count = name_or_template.count(PLACEHOLDER)
    if count == 1:
        return name_or_template
    if count == 0 and name_or_template.replace("-", "_").isidentifier():
        raise UnknownNameError(
            "prompt", name_or_template, PROMPTS, hint=f"Or give a template of your own that holds {PLACEHOLDER} once."
        )
    raise InputError(
        f"The prompt template {name_or_template!r} holds {PLACEHOLDER} {count} times; it must hold it exactly once. "
        f'For example: \'Summarise: "{PLACEHOLDER}" in one word:"\'.'
    )


def clean_paper(text: str) -> str:
    """Clean a text as the original code of arXiv 2410.10814 does before it fills the template.

    A full stop is appended when a non-empty text ends in none of `.?!"'`; nothing is stripped first, so trailing
    spaces stay before it. Then every double quote becomes a single one. An empty text stays empty.
    """
    if text and text[-1] not in ".?!\"'":
        text += "."
    return text.replace('"', "'")


_SPACE_BEFORE_MARK = re.compile(r"\s+([.,!?;:%)\]}]+)(?=\s|$)")
_SPACE_AFTER_OPENING = re.compile(r"([(\[{])\s+")
_SPACE_BEFORE_CLITIC = re.compile(r"\s+(n't|'(?:s|re|ll|ve|d|m))\b", re.IGNORECASE)
_SENTENCE_START = re.compile(r"(^|[.!?]\s+)([a-z])")
_LONE_I = re.compile(r"\bi\b")


def clean_tidy(text: str) -> str:
    """Undo what tokenised and lowercased corpora do to a sentence; leave ordinary text as it is.

    Spaces before punctuation and clitics go (`do n't , he said` becomes `don't, he said`). A text without any capital
    letter gets one at the start of each sentence and for a lone `i`. A text that ends in a letter or digit gets a full
    stop. Language models saw little text of the other kind: on STSBenchmark dev, lowercased and tokenised, hidden
    states of the dense SmolLM2-135M gain 3.6 points raw and 1 to 2 calibrated.
    """
    tidy = _SPACE_BEFORE_CLITIC.sub(r"\1", _SPACE_BEFORE_MARK.sub(r"\1", text.strip()))
    tidy = _SPACE_AFTER_OPENING.sub(r"\1", tidy)
    if not any(character.isupper() for character in tidy):
        tidy = _SENTENCE_START.sub(lambda start: start[1] + start[2].upper(), _LONE_I.sub("I", tidy))
    return f"{tidy}." if tidy and tidy[-1].isalnum() else tidy


def render(template: str, text: str, *, cleaning: Cleaning = "none") -> str:
    """Put a text into a template.

    Args:
        template: A template, or the name of one.
        text: Any string, the empty one included. Braces in it mean nothing.
        cleaning: `"none"` puts the text in as it is. `"tidy"` is `clean_tidy`. `"paper"` is `clean_paper`, and
            afterwards turns every `_` of the whole prompt into a space and strips it, as the original code does.

    Returns:
        The prompt that is given to the tokenizer.
    """
    return fill(template, clean(text, cleaning), cleaning=cleaning)


def clean(text: str, cleaning: Cleaning) -> str:
    """Do to a text what `cleaning` does before it is put into a template."""
    if cleaning == "none":
        return text
    return clean_tidy(text) if cleaning == "tidy" else clean_paper(text)


def fill(template: str, cleaned: str, *, cleaning: Cleaning) -> str:
    """Put a text that was cleaned before into a template, and do to the whole prompt what `cleaning` does to that.

    A text that is cut is cut between the two steps: cleaning the rest again would change its end.
    """
    prompt = resolve_prompt(template).replace(PLACEHOLDER, cleaned)
    return prompt.replace("_", " ").strip() if cleaning == "paper" else prompt


class RenderedPrompts(list[str]):
    """Prompts of one template that remember what the template wrote: the rest is a user's text, whatever it spells.

    Attributes:
        before: What stands before every text.
        after: What stands behind every text.
        keeps_end: Whether a token that the tokenizer appends stays, as in the original code. Else the last token is
            that of the template.
    """

    def __init__(self, template: str, cleaned: Iterable[str], *, cleaning: Cleaning) -> None:
        """Fill `template` with texts that were cleaned before; see `fill`."""
        super().__init__(fill(template, text, cleaning=cleaning) for text in cleaned)
        self.before, self.after = _around(template, cleaning)
        self.keeps_end = cleaning == "paper"

    def parts(self, number: int) -> tuple[str, str, str]:
        """Return what stands before the text of one prompt, the text, and what stands behind it."""
        text = self[number].removeprefix(self.before).removesuffix(self.after)
        return self.before, text, self.after


def _around(template: str, cleaning: Cleaning) -> tuple[str, str]:
    """Return what a template writes before and behind a text, as `fill` leaves it."""
    before, _, after = resolve_prompt(template).partition(PLACEHOLDER)
    if cleaning == "paper":
        return before.replace("_", " ").lstrip(), after.replace("_", " ").rstrip()
    return before, after


class TemplateParts(list[str]):
    """What a template writes before and behind a text, to be tokenised apart from it: always these two strings.

    A single space right before the text is not among them: tokenizers make it part of the word that follows, and models
    have seldom seen one that stands alone. `texts` gives it to the text.
    """

    def __init__(self, template: str, *, cleaning: Cleaning) -> None:
        """Take a template, or the name of one, apart."""
        before, after = _around(template, cleaning)
        self._cleaning = cleaning
        self._space = " " if before.endswith(" ") else ""
        super().__init__([before.removesuffix(self._space), after])

    @property
    def before(self) -> str:
        """What stands before every text."""
        return self[0]

    @property
    def after(self) -> str:
        """What stands behind every text."""
        return self[1]

    def texts(self, cleaned: Iterable[str], *, limit: int | None = None) -> TextParts:
        """Return texts that were cleaned before as parts of a prompt.

        Args:
            cleaned: Texts.
            limit: The most tokens that each may keep; None for no limit.
        """
        return TextParts(map(self._part, cleaned), is_first=not self.before, limit=limit)

    def _part(self, text: str) -> str:
        if self._cleaning == "paper":
            text = text.replace("_", " ")
            text = text if self.before or self._space else text.lstrip()
            text = text if self.after else text.rstrip()
        return f"{self._space}{text}" if text else ""


class TextParts(list[str]):
    """Texts of one template that are tokenised apart from it: whatever they spell is text.

    Attributes:
        is_first: Whether the texts begin their prompts. Otherwise they go on from what stands before them, and get no
            space that a tokenizer puts before a string.
        limit: The most tokens that are kept of each; None for all.
    """

    def __init__(self, texts: Iterable[str], *, is_first: bool, limit: int | None = None) -> None:
        """Take texts as `TemplateParts.texts` gives them."""
        super().__init__(texts)
        self.is_first = is_first
        self.limit = limit
