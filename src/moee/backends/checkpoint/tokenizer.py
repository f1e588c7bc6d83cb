"""The tokenizer of a checkpoint: loaded and tried before any weight is read, and how prompts become token ids."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.backends.checkpoint.headers import refuse_placeholder
from moee.backends.checkpoint.plain_text import Encoded, PlainText, whole, writes_opening
from moee.errors import CheckpointError, InputError, MoEEError, first_line, shown
from moee.method.prompts import RenderedPrompts, TemplateParts, TextParts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FILES = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json", "*.model", "*.tiktoken")
_COPY = "Copy tokenizer.json and tokenizer_config.json beside the weights, from where the model was published."
_PROBES = ("The quick brown fox jumps over a lazy dog.", "Thequickbrownfoxjumpsoveralazydog.", "Seven words say more")
"""Texts that any usable tokenizer tells apart: the second has the letters of the first without its spaces."""
_OWN_PROBES = 3
_BEFORE = (":", '"', "\n", "a", "1")
"""What is put before a part of a prompt to see its tokens without the space that begins a string: the first one that
the tokenizer does not merge with it."""


def load_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder and try it.

    Args:
        folder: Folder of the checkpoint.
        name: Name of the model, for messages.

    Raises:
        CheckpointError: If there is none, its files are damaged, or it does not tell texts apart.
    """
    from transformers import AutoTokenizer

    found = sorted({path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()})
    for path in found:
        refuse_placeholder(path)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except MoEEError:
        raise
    except Exception as error:  # the tokenizers library raises bare exceptions for damaged files
        has_vocabulary = any(path.name not in ("tokenizer_config.json", "special_tokens_map.json") for path in found)
        reason = first_line(error) if has_vocabulary else "the folder has no tokenizer.json."
        raise CheckpointError(f"{name!r} has no usable tokenizer: {reason} {_COPY}") from error
    check_tokenizer(tokenizer, name)
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Try a tokenizer on a few texts.

    transformers builds an empty tokenizer for a folder without a vocabulary, and for some models a wrong one beside a
    vocabulary of another kind. Every text would then give the same ids, and so the same vector.

    Raises:
        CheckpointError: If different texts give the same ids, or ids lead back to another text.
    """
    ids = _plain_ids(tokenizer, _PROBES)
    if not _are_different(ids):
        own = _own_probes(tokenizer)
        if len(own) < _OWN_PROBES or not _are_different(_plain_ids(tokenizer, own)):
            raise CheckpointError(
                f"{name!r} has no usable tokenizer: {_PROBES[0]!r} and {_PROBES[2]!r} give the ids "
                f"{shown(ids[0])} and {shown(ids[2])}, so different texts would get one vector. {_COPY}"
            )
    for text, each in zip(_PROBES, ids, strict=True):
        back = str(tokenizer.decode(each))
        if each and tokenizer.unk_token_id not in each and not _is_kept(text, back):
            raise CheckpointError(
                f"{name!r} has no usable tokenizer: {text!r} comes back from its ids as {shown(back)}. {_COPY}"
            )


def _plain_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _are_different(ids: Sequence[Sequence[int]]) -> bool:
    return all(ids) and len({tuple(each) for each in ids}) == len(ids)


def _own_probes(tokenizer: Any) -> list[str]:
    """Return a few texts of the tokenizer's own vocabulary, for one that knows no English words."""
    special = set(tokenizer.all_special_ids)
    ordinary = sorted(number for number in tokenizer.get_vocab().values() if number not in special)
    texts = (str(tokenizer.decode([number])) for number in ordinary[: 16 * _OWN_PROBES])
    return list(dict.fromkeys(text for text in texts if text.strip()))[:_OWN_PROBES]


def _is_kept(text: str, back: str) -> bool:
    """Whether a text came back: tokenizers may drop capitals and add or drop a space, but not all of them."""
    letters, found = ("".join(each.split()).casefold() for each in (text, back))
    return letters == found and (" " in back.strip()) >= (" " in text)


class TextTokenizer:
    """Turns prompts into token ids and ids into texts; several threads may ask at once.

    Args:
        tokenizer: The model's own.
        name: Name of the model, for messages.
        rows: Rows of the model's embedding: the ids that it knows are those below.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, name: str, rows: int) -> None:
        self._tokenizer: Any = tokenizer  # untyped upstream
        self._name = name
        self._rows = rows
        # a fast tokenizer that changes its settings fails while another thread uses it ("Already borrowed")
        self._lock = threading.RLock()
        self._allowed: dict[tuple[str, str], int] = {}
        self._templates: dict[tuple[str, ...], list[list[int]]] = {}

    def ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of every prompt, with the tokenizer's own special tokens and no truncation.

        In rendered prompts, what a user's text spells stays text: only the template may name a control token. A token
        that the tokenizer appends is left out, unless the prompts keep it.

        In the parts of a template, the one before the text has the special tokens that the tokenizer puts first, and
        no other has any of its own. A part that does not begin a prompt goes without the space that some tokenizers put
        before a string.

        Raises:
            InputError: If an id has no row in the model's embedding.
        """
        if not prompts:
            return []
        with self._lock:
            if isinstance(prompts, TemplateParts):
                key = tuple(prompts)
                if key not in self._templates:
                    self._templates[key] = self._ids_of_template(prompts)
                ids = [list(each) for each in self._templates[key]]
            elif isinstance(prompts, TextParts):
                ids = self._ids_apart(prompts)
            else:
                ids = self._ids_of_prompts(prompts)
            self._check_rows(prompts, ids)
        return ids

    def _ids_of_prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        ids = self._call(list(prompts))
        if isinstance(prompts, RenderedPrompts):
            allowed = self._count_control(prompts)
            for number, prompt in enumerate(prompts):
                if self._spells_control(prompt, ids[number], allowed):
                    ids[number] = self._ids_of_text(prompts, number, allowed)
            if not prompts.keeps_end and self._added[1]:
                ids = [_without_end(each, self._added[1]) for each in ids]
        return ids

    def _ids_of_template(self, parts: TemplateParts) -> list[list[int]]:
        before = self._call([parts.before], add_special_tokens=False)[0] if parts.before else []
        if not parts.after:
            after = []
        elif not self._tokenizer.is_fast:
            after = self._ids_going_on(parts.after)
        elif self._writes_opening:
            after = self._going_on.ids("", "", parts.after)
        else:
            after = self._call([parts.after], add_special_tokens=False)[0]
        return [[*self._added[0], *before], after]

    def _ids_apart(self, texts: TextParts) -> list[list[int]]:
        """Tokenize texts that stand apart from their template, all of them at once."""
        if not self._tokenizer.is_fast:
            options = {"add_special_tokens": False, "split_special_tokens": True}
            slow = (self._call([text], **options)[0] if texts.is_first else self._ids_going_on(text) for text in texts)
            return [ids[: texts.limit] for ids in slow]
        with_places = texts.limit is not None
        is_usual = texts.is_first or not self._writes_opening
        encoded = (
            self._usual(texts, with_places) if is_usual else self._going_on.of_texts(texts, with_places=with_places)
        )
        # as text; if the vocabulary itself holds the spelling as a piece (Unigram), cut where no other text is touched
        for cuts in ([], [*self._control, str(self._tokenizer.unk_token)]):
            spelling = [number for number, text in enumerate(texts) if self._is_spelt(text, encoded[number][0])]
            if spelling:
                plain = self._plain_text if is_usual else self._going_on
                again = plain.of_texts([texts[number] for number in spelling], with_places=with_places, cuts=cuts)
                for number, each in zip(spelling, again, strict=True):
                    encoded[number] = each
        if texts.limit is None:
            return [ids for ids, _ in encoded]
        return [ids[: whole(places, texts.limit)] for ids, places in encoded]

    def _usual(self, texts: Sequence[str], with_places: bool) -> list[Encoded]:
        """Ask the tokenizer itself; a large vocabulary takes seconds to copy."""
        options = {"padding": False, "truncation": False, "add_special_tokens": False, "verbose": False}
        found = self._tokenizer(list(texts), **options, return_offsets_mapping=with_places)
        places = found["offset_mapping"] if with_places else [[]] * len(texts)
        return list(zip(found["input_ids"], places, strict=True))

    def _is_spelt(self, text: str, ids: Sequence[int]) -> bool:
        """Whether a text alone has the id of a control token, or of the unknown one that it spells."""
        if not self._control_ids.isdisjoint(ids):
            return True
        return str(self._tokenizer.unk_token) in text and self._tokenizer.unk_token_id in ids

    def _ids_going_on(self, part: str) -> list[int]:
        """Return the ids that a slow tokenizer gives a part of a prompt when something stands before it."""
        options = {"add_special_tokens": False, "split_special_tokens": True}
        for before in _BEFORE:
            alone, both = self._call([before, before + part], **options)
            if alone and both[: len(alone)] == alone:
                return both[len(alone) :]
        return self._call([part], **options)[0]

    def texts(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of every sequence of token ids, without special tokens.

        Raises:
            InputError: If an id is not in the vocabulary.
        """
        size = len(self._tokenizer)
        for number, sequence in enumerate(sequences):
            for token in sequence:
                if not 0 <= token < size:
                    raise InputError(
                        f"Sequence {number} holds the token id {token}; the tokenizer of {self._name!r} has ids 0 to "
                        f"{size - 1}. Token ids of another model's tokenizer mean other words here: send texts."
                    )
        with self._lock:
            # nothing is cleaned up: what was tokenized comes back as it was
            return [
                str(self._tokenizer.decode(list(each), skip_special_tokens=True, clean_up_tokenization_spaces=False))
                for each in sequences
            ]

    def _call(self, texts: list[str], **options: Any) -> list[list[int]]:
        # verbose=False: prompts over the model's limit are measured and dealt with in `method.texts`, in one place
        ids: list[list[int]] = self._tokenizer(texts, padding=False, truncation=False, verbose=False, **options)[
            "input_ids"
        ]
        return ids

    @cached_property
    def _added(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and behind every text."""
        for probe in ("a", "1", *_own_probes(self._tokenizer)):
            (inner,), (outer,) = self._call([probe], add_special_tokens=False), self._call([probe])
            for start in range(len(outer) - len(inner) + 1):
                if inner and outer[start : start + len(inner)] == inner:
                    return outer[:start], outer[start + len(inner) :]
        return [], []

    @cached_property
    def _special(self) -> dict[str, int]:
        """Special tokens by what spells them, longest first, without the one for what is unknown."""
        added = self._tokenizer.added_tokens_decoder
        special = {str(token): number for number, token in added.items() if token.special}
        special |= zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True)
        special.pop(str(self._tokenizer.unk_token), None)
        return dict(sorted(special.items(), key=lambda each: -len(each[0])))

    @cached_property
    def _control(self) -> dict[str, int]:
        """Those that no text may spell: some vocabularies mark runs of spaces as special, which every text may have."""
        return {spelling: number for spelling, number in self._special.items() if spelling.strip()}

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        return frozenset(self._control.values())

    def _count_control(self, prompts: RenderedPrompts) -> int:
        """Return how many control tokens a prompt has whose text spells none; a template is counted once."""
        template = (prompts.before, prompts.after)
        if template not in self._allowed:
            parts = [part for part in template if part]
            own = self._call(parts, add_special_tokens=False) if parts else []
            self._allowed[template] = self._num_control(
                [*self._added[0], *self._added[1], *(i for p in own for i in p)]
            )
        return self._allowed[template]

    def _num_control(self, ids: Sequence[int]) -> int:
        return sum(map(self._control_ids.__contains__, ids))

    def _spells_control(self, prompt: str, ids: Sequence[int], allowed: int) -> bool:
        unknown = self._tokenizer.unk_token
        # the unknown token is also what characters become that the vocabulary lacks, so its id tells nothing
        if unknown and str(unknown) in prompt:
            return True
        return self._num_control(ids) > allowed if allowed else not self._control_ids.isdisjoint(ids)

    def _ids_of_text(self, prompts: RenderedPrompts, number: int, allowed: int) -> list[int]:
        """Tokenize a prompt whose text spells control tokens as a template around plain text."""
        before, text, after = prompts.parts(number)
        if not self._tokenizer.is_fast:
            parts = (
                self._call([part], add_special_tokens=False, split_special_tokens=part is text)[0] if part else []
                for part in (before, text, after)
            )
            return [*self._added[0], *(token for part in parts for token in part), *self._added[1]]
        ids = self._plain_text.ids(before, text, after)
        if self._spells_control("", ids, allowed):
            # the vocabulary itself holds the spelling as a piece (Unigram): it is cut where no other text is touched
            ids = self._plain_text.ids(before, text, after, cuts=[*self._control, str(self._tokenizer.unk_token)])
        return ids

    @cached_property
    def _plain_text(self) -> PlainText:
        return PlainText(self._tokenizer, self._special, goes_on=False)

    @cached_property
    def _writes_opening(self) -> bool:
        return writes_opening(self._tokenizer)

    @cached_property
    def _going_on(self) -> PlainText:
        return PlainText(self._tokenizer, self._special, goes_on=True)

    def _check_rows(self, prompts: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
        if len(self._tokenizer) <= self._rows:
            return
        for number, sequence in enumerate(ids):
            token = max(sequence, default=0)
            if token >= self._rows:
                text = prompts.parts(number)[1] if isinstance(prompts, RenderedPrompts) else prompts[number]
                raise InputError(
                    f"The text {shown(text)} has the token {self._tokenizer.convert_ids_to_tokens(token)!r} with "
                    f"id {token}, but the embedding of {self._name!r} has {self._rows} rows, for ids 0 to "
                    f"{self._rows - 1}, while its tokenizer has {len(self._tokenizer)} tokens. Use the tokenizer that "
                    "was published with these weights, or leave such texts out."
                )


def _without_end(ids: list[int], end: Sequence[int]) -> list[int]:
    return ids[: -len(end)] if ids[-len(end) :] == end and len(ids) > len(end) else ids
