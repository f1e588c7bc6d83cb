"""Template and text tokenised apart, by tokenizers of every kind that adds something to a string."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from moee.method.prompt_tokens import Apart
from moee.method.prompts import PROMPTS, RenderedPrompts
from tests.backends.checkpoint.test_tokenizer import (
    ATTACKS,
    CHAT,
    ORDINARY,
    SPECIAL,
    byte_level,
    metaspace,
    metaspace_always,
    spaced,
    stripping,
    trained,
    unigram,
    wrapped,
)

PROMPTEOL = PROMPTS["prompteol"].template
TEMPLATES = [PROMPTEOL, "Passage: {text}", "{text}", " {text}\n", CHAT, "<s>{text}"]
TEXTS = [*ORDINARY, *ATTACKS, "where is it?", "?", " ", '?!"', "ends in a space "]


def legacy() -> Any:
    """Llama's first kind: a normalizer writes a space before every string, and behind a control token."""
    settings = json.loads(metaspace().backend_tokenizer.to_str())
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    settings["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}
    settings["pre_tokenizer"] = None
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(settings)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )


def prefixed() -> Any:
    """Bytes with a space before every string, as RoBERTa can have it."""
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def word_pieces() -> Any:
    """BERT's kind: words and marks stand alone, capitals are lost, and a token is put at both ends."""
    special = [*SPECIAL, "[CLS]", "[SEP]"]
    tokenizer = trained(
        models.WordPiece(unk_token="<unk>"),
        trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False),
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(),
        normalizers.BertNormalizer(),
    )
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.BertProcessing(
        ("[SEP]", backend.token_to_id("[SEP]")), ("[CLS]", backend.token_to_id("[CLS]"))
    )
    return tokenizer


made = cache(lambda make: make())
"""Trains each kind once."""
KINDS = pytest.mark.parametrize(
    "make",
    [byte_level, prefixed, metaspace, metaspace_always, legacy, unigram, word_pieces, stripping, spaced],
)


def split(tokenizer: Any, template: str, texts: list[str]) -> tuple[list[int], list[list[int]], list[int]]:
    """Return the tokens before every text, those of every text, and those behind."""
    way = Apart(template, wrapped(tokenizer).ids, "none")
    (bare,) = way.encode([""])
    before, after = way.span
    assert before + after == len(bare)
    joined = way.encode(texts)
    assert all(ids[:before] == bare[:before] and ids[len(ids) - after :] == bare[before:] for ids in joined)
    return bare[:before], [ids[before : len(ids) - after] for ids in joined], bare[before:]


@KINDS
def test_the_templates_tokens_are_the_same_for_every_text_and_an_empty_one_adds_none(make: Any) -> None:
    tokenizer = made(make)
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    control = {number for token, number in special if token.strip() and token != "<unk>"}
    for template in TEMPLATES:
        before, own, after = split(tokenizer, template, TEXTS)
        assert own[TEXTS.index("")] == []
        assert not any(control & set(ids) for ids in own), template
        # what the tokenizer puts first is there once, and what it appends is left out
        filled = wrapped(tokenizer).ids(RenderedPrompts(template, ["a"], cleaning="none"))[0]
        meant = [token for token in filled if token in control]
        assert [token for token in before + after if token in control] == meant, template


@KINDS
def test_joined_tokens_spell_what_the_filled_template_spells(make: Any) -> None:
    """No part gets a space of its own, loses one, or begins a second time."""
    tokenizer = made(make)
    texts = ["a cat sat", " two  spaces ", "where is it?", "One. Two"]
    for template in (PROMPTEOL, "Passage: {text}", "say({text}) :"):
        before, own, after = split(tokenizer, template, texts)
        filled = wrapped(tokenizer).ids(RenderedPrompts(template, texts, cleaning="none"))
        for ids, whole in zip(own, filled, strict=True):
            found, wanted = (
                tokenizer.decode(each, skip_special_tokens=make is not spaced, clean_up_tokenization_spaces=False)
                for each in ([*before, *ids, *after], whole)
            )
            assert found == wanted, (template, found, wanted)


@KINDS
def test_a_text_that_begins_the_prompt_is_tokenised_as_ever(make: Any) -> None:
    tokenizer = made(make)
    # the unknown token that a text spells may be a piece of the vocabulary, which filled prompts let pass
    texts = [text for text in TEXTS if "<unk>" not in text]
    _, own, _ = split(tokenizer, "{text}", texts)
    filled = wrapped(tokenizer).ids(RenderedPrompts("{text}", texts, cleaning="none"))
    (empty,) = wrapped(tokenizer).ids(RenderedPrompts("{text}", [""], cleaning="none"))
    assert own == [ids[len(empty) :] for ids in filled]


def test_a_mark_at_the_end_of_a_text_keeps_the_token_it_has_elsewhere() -> None:
    """Filled first, it becomes one token with the template's quote, of another id for each mark."""
    corpus = [f'This sentence : "{word}?" means' for word in ("a", "b")] * 20
    tokenizer = byte_level()
    backend = tokenizer.backend_tokenizer
    backend.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    (filled,) = wrapped(tokenizer).ids(RenderedPrompts(PROMPTEOL, ["a?"], cleaning="none"))
    assert '?"' in tokenizer.convert_ids_to_tokens(filled)
    _, (own,), after = split(tokenizer, PROMPTEOL, ["a?"])
    assert tokenizer.convert_ids_to_tokens([own[-1], after[0]]) == ["?", '"']


@KINDS
def test_a_cut_text_is_its_own_first_tokens_in_the_whole_template(make: Any) -> None:
    tokenizer = made(make)
    texts = ["a cat <|im_end|> sat down and was content", "many  spaces   in here", "x"]
    way = Apart(PROMPTEOL, wrapped(tokenizer).ids, "none")
    before, after = way.span
    whole = way.encode(texts)
    for room in (0, 1, 2, 5):
        cut = way.cut(texts, [0] * len(texts), before + room + after)
        for ids, full in zip(cut, whole, strict=True):
            own = full[before : len(full) - after]
            assert ids == [*full[:before], *own[: len(ids) - before - after], *full[len(full) - after :]]
            assert len(ids) == min(len(full), before + room + after)


def test_a_cut_leaves_no_part_of_a_character() -> None:
    tokenizer = byte_level()
    text = "a東京🙂b"
    way = Apart(PROMPTEOL, wrapped(tokenizer).ids, "none")
    before, after = way.span
    kept = []
    for room in range(1, 13):
        (ids,) = way.cut([text], [0], before + room + after)
        own = ids[before : len(ids) - after]
        assert len(own) <= room
        kept.append(tokenizer.decode(own))
    assert kept == ["a"] * 3 + ["a東"] * 3 + ["a東京"] * 4 + ["a東京🙂", text]
    # one character is more than the limit: some of it is better than nothing
    (ids,) = way.cut(["東"], [0], before + 2 + after)
    assert len(ids) == before + 2 + after


@pytest.mark.parametrize("template", ["</s>{text} :", "say: {text} end", "{text}"])
def test_a_slow_tokenizer_is_asked_in_the_same_way(template: str) -> None:
    tokenizer: Any = ByT5Tokenizer()
    before, own, after = split(tokenizer, template, ["a</s>b", "ab", ""])
    assert [tokenizer.decode(ids) for ids in own if ids] == [
        f"{' ' * ('say' in template)}{text}" for text in ("a</s>b", "ab")
    ]
    assert (before + after).count(tokenizer.eos_token_id) == ("</s>" in template)
    way = Apart(template, wrapped(tokenizer).ids, "none")
    (cut,) = way.cut(["abcdef"], [0], sum(way.span) + 3)
    assert len(cut) == sum(way.span) + 3


def test_a_vocabulary_is_copied_only_where_the_tokenizer_itself_would_not_do() -> None:
    """A copy of some hundred thousand tokens takes seconds."""
    for make, texts, copies in (
        (byte_level, ["a cat"], 0),
        (byte_level, ["a <|im_end|> cat"], 1),
        (metaspace, ["a cat"], 1),
    ):
        ours = wrapped(made(make))
        Apart(PROMPTEOL, ours.ids, "none").encode(texts)
        assert len({"_plain_text", "_going_on"} & set(vars(ours))) == copies
