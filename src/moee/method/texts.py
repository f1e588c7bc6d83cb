"""Texts to token sequences: checks, prompts, and a cut that spares the template's end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from moee.errors import InputError, TextTypeError, TruncationError
from moee.method.prompts import RenderedPrompts, clean
from moee.types import Cleaning, EmptyText, Truncate

logger = logging.getLogger("moee")

Tokenize = Callable[[Sequence[str]], list[list[int]]]

_CHUNK = 1024
"""Prompts given to the tokenizer at once: enough to keep its threads busy, few enough to bound memory."""
_SHOWN = 40


class TruncationWarning(UserWarning):
    """Some texts were longer than the limit and were cut.

    Attributes:
        num_texts: How many.
    """

    def __init__(self, message: str, *, num_texts: int) -> None:
        super().__init__(message)
        self.num_texts = num_texts


@contextmanager
def counting_cuts(num_texts: int, max_length: int | None, *, advice: str, label: str = "") -> Iterator[None]:
    """Log once how many texts were cut, instead of a warning for every call; show other warnings.

    Args:
        num_texts: Texts that are encoded inside the context.
        max_length: Limit that the caller set, in tokens; None is the model's.
        advice: What to do about it, for the message.
        label: Words before the message, such as the name of a task and a colon.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    cuts = 0
    for each in caught:
        if isinstance(each.message, TruncationWarning):
            cuts += each.message.num_texts
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if cuts:
        limit = f"{max_length} tokens" if max_length else "the model's limit"
        said = "%s%d of %d texts were cut to %s; the prompt's end was kept. %s"
        logger.warning(said, label, cuts, num_texts, limit, advice)


def check_texts(texts: Sequence[str], *, on_empty: EmptyText) -> list[str]:
    """Return `texts` as a list, or say which one cannot be embedded.

    Args:
        texts: Strings.
        on_empty: `"error"` refuses texts without a visible character; `"encode"` embeds the bare template.

    Raises:
        InputError: If there are no texts, or a text is empty.
        TextTypeError: If a text is not a string, or `texts` is a single string.
    """
    if isinstance(texts, (str, bytes)):
        raise TextTypeError(
            f"texts is a single {type(texts).__name__} ({_shorten(texts)}); pass a list of strings, for example [text]."
        )
    checked = list(texts)
    if not checked:
        raise InputError("No texts: got an empty list. Pass at least one string.")
    for index, text in enumerate(checked):
        if not isinstance(text, str):
            raise TextTypeError(
                f"Text {index} is {_shorten(text)}, a {type(text).__name__}; every text must be a string."
            )
        if on_empty == "error" and not text.strip():
            kind = "empty" if not text else f"only whitespace ({_shorten(text)})"
            raise InputError(
                f"Text {index} is {kind}. Drop it, or embed the bare prompt in its place with on_empty='encode'."
            )
    return checked


def _shorten(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


def token_sequences(
    texts: Sequence[str],
    template: str,
    tokenize: Tokenize,
    *,
    cleaning: Cleaning,
    truncate: Truncate,
    max_tokens: int | None,
) -> list[list[int]]:
    """Put every text into the template and turn it into token ids, cut to the limit.

    Args:
        texts: Checked texts.
        template: Holds `{text}` once.
        tokenize: Turns prompts into token ids.
        cleaning: See `prompts.render`.
        truncate: `"warn"` cuts long texts and says how many, `"error"` refuses them, `"end"` cuts them quietly.
        max_tokens: Limit of the whole prompt; None for no limit.

    Returns:
        Token ids, one sequence per text, in order.

    Raises:
        TruncationError: If a text is too long under `"error"`, or the template alone is over the limit.
    """

    def encode(cleaned: Sequence[str]) -> list[list[int]]:
        return tokenize(RenderedPrompts(template, cleaned, cleaning=cleaning))

    first_index: dict[str, int] = {}
    for index, text in enumerate(texts):
        first_index.setdefault(text, index)
    unique = list(first_index)
    tokens: dict[str, list[int]] = {}
    for start in range(0, len(unique), _CHUNK):
        chunk = unique[start : start + _CHUNK]
        tokens.update(zip(chunk, encode([clean(text, cleaning) for text in chunk]), strict=True))
    for text, sequence in tokens.items():
        if not sequence:
            raise InputError(
                f"Text {first_index[text]} ({_shorten(text)}) gives no tokens under the prompt {template!r}. "
                "Choose a prompt that adds words, such as 'prompteol'."
            )
    if max_tokens is not None:
        long = [text for text, sequence in tokens.items() if len(sequence) > max_tokens]
        if long:
            _announce(long, first_index, tokens, truncate, max_tokens)
            tokens.update((text, _cut(clean(text, cleaning), len(tokens[text]), encode, max_tokens)) for text in long)
    return [tokens[text] for text in texts]


def _announce(
    long: Sequence[str], first_index: dict[str, int], tokens: dict[str, list[int]], truncate: Truncate, max_tokens: int
) -> None:
    index, length = first_index[long[0]], len(tokens[long[0]])
    if truncate == "error":
        raise TruncationError(
            f"Text {index} ({_shorten(long[0])}) is {length} tokens with its prompt, over the limit of {max_tokens} "
            f"({len(long)} such texts). Shorten it, raise max_length, or allow a cut with truncate='warn'."
        )
    if truncate == "warn":
        message = (
            f"{len(long)} of {len(first_index)} texts were cut to {max_tokens} tokens; the first is text {index} "
            f"({length} tokens). The prompt's end was kept. "
            "truncate='error' refuses such texts, 'end' cuts without a word."
        )
        warnings.warn(TruncationWarning(message, num_texts=len(long)), stacklevel=5)


def _cut(text: str, length: int, encode: Tokenize, max_tokens: int) -> list[int]:
    """Keep as many leading characters of a cleaned text as fit; the template stays whole."""
    low, best = 0, encode([""])[0]
    if len(best) > max_tokens:
        raise TruncationError(
            f"The prompt alone is {len(best)} tokens, over the limit of {max_tokens}. "
            "Raise max_length or shorten the prompt."
        )
    # characters per token vary along a text: start from the average and widen until the cut no longer fits
    high = max(1, len(text) * max_tokens // length)
    while high < len(text):
        candidate = encode([text[:high]])[0]
        if len(candidate) > max_tokens:
            break
        low, best, high = high, candidate, min(len(text), high * 2)
    while high - low > 1:
        middle = (low + high) // 2
        candidate = encode([text[:middle]])[0]
        if len(candidate) <= max_tokens:
            low, best = middle, candidate
        else:
            high = middle
    return best
