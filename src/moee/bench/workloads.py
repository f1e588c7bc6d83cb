"""The texts that are timed: short sentences, mixed lengths, one at a time."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moee.data import calibration_texts
from moee.errors import InputError, check_choice

WORKLOADS = {"short": 256, "mixed": 64, "single": 20}
"""Every workload, and how many texts it has unless told otherwise."""
PROMPT = "prompteol"
MIXED_TOKENS = (8, 512)
_SETS = ("STSBenchmark", "SICK-R", "STS16")
_SEED = 2410

Tokenize = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True, slots=True)
class Workload:
    """Texts to time.

    Attributes:
        name: A key of `WORKLOADS`.
        texts: All different, without the prompt.
        origin: Where they are from.
        one_by_one: Each is a call of its own, and its latency counts.
    """

    name: str
    texts: tuple[str, ...]
    origin: str
    one_by_one: bool = False


def make_workload(name: str, count: int | None, tokenize: Tokenize) -> Workload:
    """Return a workload; the same arguments give the same texts.

    Args:
        name: `"short"`, `"mixed"` or `"single"`.
        count: How many texts; None for the default.
        tokenize: Turns texts into token ids.

    Raises:
        UnknownNameError: If there is no such workload.
        InputError: If there are not that many different texts.
    """
    check_choice("workload", name, WORKLOADS)
    wanted = WORKLOADS[name] if count is None else count
    if wanted < 1:
        raise InputError(f"--texts is {wanted}; it must be 1 or larger.")
    if name == "mixed":
        low, high = MIXED_TOKENS
        texts = mixed_texts(wanted, tokenize)
        return Workload(name, tuple(texts), f"built-in sentences joined, {low} to {high} tokens, log-uniform, seeded")
    texts, origin = sentences(wanted)
    if len(texts) < wanted:
        raise InputError(f"--texts is {wanted}, but {origin} has {len(texts)} different sentences.")
    return Workload(name, tuple(texts), origin, one_by_one=name == "single")


def sentences(count: int) -> tuple[list[str], str]:
    """Return `count` different sentences and where they are from: STS sets in MOEE_DATA, else built in."""
    data = os.environ.get("MOEE_DATA")
    files = [Path(data) / name / "test.jsonl.gz" for name in _SETS] if data else []
    texts: dict[str, None] = {}
    names: list[str] = []
    for path in files:
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    texts.update({row["sentence1"]: None, row["sentence2"]: None})
            names.append(path.parent.name)
    origin = f"sentences of {' and '.join(names)}" if texts else "built-in calibration sentences"
    found = list(texts) or list(dict.fromkeys(calibration_texts()))
    # at equal distances: the sets are sorted by source, and the first hundreds are captions of one length
    if count >= len(found):
        return found, origin
    return [found[place * len(found) // count] for place in range(count)], origin


def mixed_texts(count: int, tokenize: Tokenize) -> list[str]:
    """Return texts of log-uniform lengths between `MIXED_TOKENS`, each of other sentences than the one before."""
    low, high = MIXED_TOKENS
    draw = random.Random(_SEED)  # noqa: S311 - lengths, not secrets
    lengths = [round(low * (high / low) ** draw.random()) for _ in range(count)]
    return texts_of_lengths(lengths, tokenize)


def texts_of_lengths(lengths: Sequence[int], tokenize: Tokenize) -> list[str]:
    """Join built-in sentences to different texts of about the given numbers of tokens, cut at a word.

    Args:
        lengths: Tokens of each text, without a prompt.
        tokenize: Turns texts into token ids.
    """
    source = calibration_texts()
    words = [word for text in source for word in text.split()]
    counts = [len(ids) for ids in tokenize(source)]
    per_word = sum(counts) / len(words)
    texts, start = [], 0
    for length in lengths:
        size = max(1, round(length / per_word))
        text = _joined(words, start, size)
        # one correction: words differ in length, and the second guess is within a token or two
        found = len(tokenize([text])[0])
        size = max(1, round(size * length / found))
        texts.append(_joined(words, start, size))
        start = (start + size) % len(words)
    return texts


def _joined(words: Sequence[str], start: int, size: int) -> str:
    return " ".join(words[(start + place) % len(words)] for place in range(size))
