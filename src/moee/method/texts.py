"""Texts to token sequences: checks, prompts, and a cut that spares the template's end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

from moee.errors import InputError, TextTypeError, TruncationError, shown
from moee.files.text import find_fault
from moee.method.prompt_tokens import Apart, Filled, Tokenize
from moee.method.prompts import clean
from moee.types import Cleaning, EmptyText, PromptTokens, Truncate

logger = logging.getLogger("moee")

_CHUNK = 1024
"""Prompts given to the tokenizer at once: enough to keep its threads busy, few enough to bound memory."""
_SHOWN = 40
_IF_EMPTY = "Drop it, or embed the bare prompt in its place with on_empty='encode'."


FEW_TEXTS = 100
"""Different texts below which statistics are rough: a mean of as many is off by a tenth of the spread."""


class FewTextsWarning(UserWarning):
    """Statistics are fitted on few texts."""


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


def check_texts(texts: Iterable[str], *, on_empty: EmptyText) -> list[str]:
    """Return `texts` as a list, or say which one cannot be embedded.

    Args:
        texts: Strings in an order: a list, a generator, a Series, a one-dimensional array of strings. It is gone
            through once.
        on_empty: `"error"` refuses texts without a visible character; `"encode"` embeds the bare template.

    Raises:
        InputError: If there are no texts, a text is empty, or one holds half of a surrogate pair; names its index.
        TextTypeError: If a text is no string (names its index), or `texts` is a single string, a table, a mapping, a
            set, or anything else whose elements are not texts in an order; says what to pass.
    """
    _check_container(texts)
    # numpy's strings are a class of their own, which tokenizers need not know
    checked = [str(text) if isinstance(text, str) else text for text in texts]
    if not checked:
        raise InputError("No texts: got an empty list. Pass at least one string.")
    for index, text in enumerate(checked):
        fault = find_fault(text, on_empty=on_empty)
        if fault is not None:
            raise fault.error(f"Text {index}", if_empty=_IF_EMPTY)
    return checked


def check_sample(texts: Iterable[str], *, on_empty: EmptyText) -> list[str]:
    """Return the different texts among those that statistics are to be fitted on, in order.

    A text that comes again tells nothing new of how texts differ, and its weight would be an accident of the file.

    Args:
        texts: As `check_texts`.
        on_empty: As `check_texts`.

    Raises:
        InputError: If fewer than two differ; as `check_texts`.
        TextTypeError: As `check_texts`.
    """
    checked = check_texts(texts, on_empty=on_empty)
    different = list(dict.fromkeys(checked))
    if len(different) < 2:
        raise InputError(
            f"Calibration needs at least 2 different texts, and all {len(checked)} are {shown(different[0], _SHOWN)}. "
            "Give some hundreds like those to be embedded."
        )
    if len(different) < FEW_TEXTS:
        warnings.warn(
            FewTextsWarning(
                f"Only {len(different)} different texts to calibrate on: statistics of fewer than {FEW_TEXTS} are "
                "rough. Give some hundreds like those to be embedded, or use the built-in ones."
            ),
            stacklevel=3,
        )
    return different


def _check_container(texts: object) -> None:
    """Refuse what iterates over something else than texts in the order in which they were given.

    Tables are known by what they have, not by their class: none of their packages need be installed.
    """
    kind = type(texts)
    if isinstance(texts, (str, bytes)):
        raise TextTypeError(
            f"texts is a single {kind.__name__} ({shown(texts, _SHOWN)}); pass a list of strings, for example [text]."
        )
    if isinstance(texts, Mapping):
        what, advice = "whose keys would be embedded", "its texts in an order, for example list(texts.values())"
    elif isinstance(texts, Set):
        what, advice = "which has no order, so that no vector could be told apart", "a list, for example sorted(texts)"
    elif hasattr(kind, "columns") or hasattr(kind, "column_names"):
        what, advice = "a table", "the column that holds the texts as a list, for example list(table['text'])"
    elif hasattr(kind, "to_pylist"):
        what, advice = "whose elements are no strings of Python", "texts.to_pylist()"
    elif getattr(texts, "ndim", 1) != 1:
        what, advice = f"of {getattr(texts, 'ndim', 0)} dimensions", "one dimension of strings, for example texts[:, 0]"
    elif not (hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")):
        what, advice = "which holds no texts", "a list of strings"
    else:
        return
    raise TextTypeError(f"texts is of type {kind.__name__}, {what}. Pass {advice}.")


def token_sequences(  # noqa: PLR0913 - the choices of one call
    texts: Sequence[str],
    template: str,
    tokenize: Tokenize,
    *,
    cleaning: Cleaning,
    truncate: Truncate,
    max_tokens: int | None,
    known: Sequence[list[int]] | None = None,
    prompt_tokens: PromptTokens = "filled",
) -> list[list[int]]:
    """Put every text into the template and turn it into token ids, cut to the limit.

    Args:
        texts: Checked texts.
        template: Holds `{text}` once.
        tokenize: Turns prompts into token ids.
        cleaning: See `prompts.render`.
        truncate: `"warn"` cuts long texts and says how many, `"error"` refuses them, `"end"` cuts them quietly.
        max_tokens: Limit of the whole prompt; None for no limit.
        known: Token ids of every text in the template, before a cut; None if they are not known yet.
        prompt_tokens: Whether template and text are tokenised `"apart"` or as one `"filled"` string.

    Returns:
        Token ids, one sequence per text, in order.

    Raises:
        TruncationError: If a text is too long under `"error"`, or the template alone is over the limit.
    """
    way = (Apart if prompt_tokens == "apart" else Filled)(template, tokenize, cleaning)
    first_index: dict[str, int] = {}
    for index, text in enumerate(texts):
        first_index.setdefault(text, index)
    tokens = dict(zip(texts, known, strict=True)) if known is not None else dict[str, list[int]]()
    unique = list(first_index) if known is None else []
    for start in range(0, len(unique), _CHUNK):
        chunk = unique[start : start + _CHUNK]
        tokens.update(zip(chunk, way.encode([clean(text, cleaning) for text in chunk]), strict=True))
    for text, sequence in tokens.items():
        if not sequence:
            raise InputError(
                f"Text {first_index[text]} ({shown(text, _SHOWN)}) gives no tokens under the prompt {template!r}. "
                "Choose a prompt that adds words, such as 'prompteol'."
            )
    if max_tokens is not None:
        long = [text for text, sequence in tokens.items() if len(sequence) > max_tokens]
        if long:
            _announce(long, first_index, tokens, truncate, max_tokens)
            lengths = [len(tokens[text]) for text in long]
            tokens.update(
                zip(long, way.cut([clean(text, cleaning) for text in long], lengths, max_tokens), strict=True)
            )
    return [tokens[text] for text in texts]


def _announce(
    long: Sequence[str], first_index: dict[str, int], tokens: dict[str, list[int]], truncate: Truncate, max_tokens: int
) -> None:
    index, length = first_index[long[0]], len(tokens[long[0]])
    if truncate == "error":
        raise TruncationError(
            f"Text {index} ({shown(long[0], _SHOWN)}) is {length} tokens with its prompt, over the limit of "
            f"{max_tokens} ({len(long)} such texts). Split such texts with chunk=256 (--chunk 256), raise max_length, "
            "or allow a cut with truncate='warn'."
        )
    if truncate == "warn":
        message = (
            f"{len(long)} of {len(first_index)} texts were cut to {max_tokens} tokens; the first is text {index} "
            f"({length} tokens). The prompt's end was kept. chunk=256 (--chunk 256) splits such texts and loses "
            "nothing, truncate='error' refuses them, 'end' cuts without a word."
        )
        warnings.warn(TruncationWarning(message, num_texts=len(long)), stacklevel=5)
