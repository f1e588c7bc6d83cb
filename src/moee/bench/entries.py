"""Who takes part: a row for each entry, and ours. The rows of peers are in `benchmarks/rivals` of a checkout."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from moee.bench.weights import Setup, Weights
from moee.bench.workloads import PROMPT
from moee.data import calibration_texts
from moee.errors import InputError, check_choice
from moee.method.prompts import render, resolve_prompt
from moee.types import Array

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from moee.embedder import MoEE

_CALIBRATION_TEXTS = 64
"""Fitting statistics is not timed; applying them is, and costs the same whatever they were fitted on."""


@dataclass(frozen=True, slots=True)
class Computed:
    """What an entry returns for texts, to see that it does the same work as the others.

    Attributes:
        hidden: Hidden state of the last token after the final norm, `(texts, hidden_size)` float32.
        routers: Router logits of the last token, each layer's mean taken off, layers side by side,
            `(texts, sum of num_experts)` float32; None from one that gives no routing weights.
    """

    hidden: Array
    routers: Array | None


class Runner(Protocol):
    """An entry that is built: it turns texts into vectors, its own way."""

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that it runs for each text, prompt included and padding not."""
        ...

    def prepare(self, texts: Sequence[str]) -> None:
        """Settle what depends on the texts and is not timed, such as a batch that fits in memory."""
        ...

    def encode(self, texts: Sequence[str]) -> object:
        """Do the work that is timed: texts in, everything it gives out, in memory of the host."""
        ...

    def vectors(self, texts: Sequence[str]) -> Computed:
        """Return what `encode` computes before statistics and fusion, if it has any."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader must know of how it ran: batch sizes and the like. `Any`: a JSON object."""
        ...

    def take_work(self) -> dict[str, int] | None:
        """Return what was counted since the last call, as `moee.bench.work` reads it; None if it counts nothing."""
        ...

    def passes(self, texts: Sequence[str]) -> int:
        """Return how many forward passes one `encode` of the texts takes."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One that can take part, before it is built.

    Attributes:
        gives: `"HS + RW"` or `"HS"`.
        about: How it works, in a sentence.
        open: Builds it, from what to load and a model to share; without the latter it loads its own.
        lacks: Says why it cannot take part in a setup; None if it can.
        package: Name of a package that must be installed; empty for none.
        is_exact: Whether its vectors must be those of the others, up to rounding.
        same_model: Whether it runs the model that the others run.
    """

    gives: str
    about: str
    open: Callable[[Setup, Weights | None], Runner]
    lacks: Callable[[Setup], str | None] = lambda _setup: None
    package: str = ""
    is_exact: bool = True
    same_model: bool = True

    def why_not(self, setup: Setup) -> str | None:
        """Return why it cannot take part here; None if it can."""
        if self.package and find_spec(self.package) is None:
            return f"{self.package} is not installed"
        return self.lacks(setup)


def prompts_of(texts: Sequence[str]) -> list[str]:
    """Return the prompts that every entry runs."""
    template = resolve_prompt(PROMPT)
    return [render(template, text) for text in texts]


class Ours:
    """`MoEE.encode`."""

    def __init__(self, model: MoEE, *, needs_statistics: bool) -> None:
        self._model = model
        if needs_statistics:
            model.calibrate(calibration_texts()[:_CALIBRATION_TEXTS])
        self._needs_statistics = needs_statistics
        self._backend: Any = model._backend  # its counter and its tokenizer are no part of the public class

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Runner`."""
        ids: list[list[int]] = self._backend.tokenize(prompts_of(texts))
        return ids

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Runner`. Nothing is left to settle."""

    def encode(self, texts: Sequence[str]) -> object:
        """See `Runner`."""
        return self._model.encode(texts)

    def vectors(self, texts: Sequence[str]) -> Computed:
        """See `Runner`."""
        # all routers, and prompts tokenised as the others tokenise them
        same = {"fusion": "sum", "prompt_tokens": "filled", "routing_layers": "all", "scoring": "softmax"}
        views = self._model.with_settings(**same).encode_views(texts)
        # softmax forgets only what a layer's logits have in common
        logits = np.log(np.maximum(views.routing_weights, np.finfo(np.float32).tiny))
        return Computed(views.hidden_states, centred(logits, views.num_experts))

    @property
    def facts(self) -> dict[str, Any]:
        """See `Runner`."""
        found: dict[str, Any] = {"batch_tokens": self._model._batch_tokens}
        if self._needs_statistics:
            found["statistics"] = f"fitted on {_CALIBRATION_TEXTS} sentences: enough for the speed, not for quality"
        return found

    def take_work(self) -> dict[str, int] | None:
        """See `Runner`."""
        work = getattr(self._backend, "work", None)
        if work is None:
            return None
        counted = {name: int(getattr(work, name)) for name in ("sequences", "tokens", "last_layer_rows")}
        self._backend.work = type(work)()
        return counted

    def passes(self, texts: Sequence[str]) -> int:
        """See `Runner`. A lower bound: batches that are full to the last token."""
        tokens = sum(len(ids) for ids in self.token_ids(texts))
        return max(1, -(-tokens // self._model._batch_tokens))


def centred(logits: Array, widths: Sequence[int]) -> Array:
    """Take each layer's mean off router logits, `(texts, sum of widths)`."""
    parts = np.split(logits, np.cumsum(widths)[:-1], axis=1)
    return np.concatenate([part - part.mean(axis=1, keepdims=True) for part in parts], axis=1).astype(np.float32)


def open_ours(setup: Setup, weights: Weights | None, *, int8: bool = False) -> Ours:
    """Build one of ours.

    Args:
        setup: What to load.
        weights: A model to share; None loads its own, as a user would.
        int8: Whether it multiplies in 8 bits.
    """
    from moee.embedder import MoEE

    if weights is not None:
        base = int8_twin(weights.base) if int8 else weights.base
        model = MoEE.from_model(base, setup.tokenizer(), batch_tokens=setup.batch_tokens)
        return Ours(model, needs_statistics=True)
    model = MoEE.from_pretrained(
        "demo" if setup.model == "demo" else setup.folder,
        dtype=setup.dtype,
        device=setup.device,
        batch_tokens=setup.batch_tokens,
        precision="int8" if int8 else "exact",
    )
    return Ours(model, needs_statistics=setup.model != "demo")


def int8_twin(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model that multiplies in 8 bits and shares all other weights with `model`, which stays as it is.

    Raises:
        InputError: If 8-bit products cannot be computed here.
    """
    from moee.architectures import architecture_for
    from moee.backends.forward.routers import find_routers
    from moee.backends.int8 import quantize

    # a copy of the modules, not of the tensors in them
    tensors = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    sites = find_routers(twin, architecture_for(str(model.config.model_type)), include_attention_routers=True)
    quantize(twin, keep=[site.module for site in sites])
    return twin


def _lacks_int8(setup: Setup) -> str | None:
    from moee.backends.int8 import is_available

    return f"8 bits are for the CPU, not {setup.device}" if setup.device != "cpu" else is_available()


OURS: Mapping[str, Entry] = MappingProxyType(
    {
        "moee": Entry("HS + RW", "MoEE.encode, default recipe: calibrated and fused", open_ours),
        "moee-int8": Entry(
            "HS + RW",
            "the same with precision='int8'",
            partial(open_ours, int8=True),
            _lacks_int8,
            is_exact=False,
        ),
    }
)
"""Ours, in the order of the tables."""
PRECISIONS = ("exact", "int8")


def choose_ours(precision: str) -> list[str]:
    """Return the names of ours that `--precision` asks for.

    Args:
        precision: `"exact"`, `"int8"`, or both with a comma.

    Raises:
        UnknownNameError: If a name is not one of them; suggests close matches.
    """
    named = [each.strip() for each in precision.split(",") if each.strip()]
    for each in named:
        check_choice("precision", each, PRECISIONS)
    if not named:
        raise InputError(f"--precision is {precision!r}; choose from: {', '.join(PRECISIONS)}.")
    return [name for name, each in zip(OURS, PRECISIONS, strict=True) if each in named]


def choose_peers(peers: str, known: Sequence[str]) -> list[str]:
    """Return the names of peers that `--peers` asks for.

    Args:
        peers: Names with commas, `"all"` or `"none"`.
        known: Names that there are, in the order of the tables.

    Raises:
        UnknownNameError: If a name is not one of them; suggests close matches.
    """
    if peers in ("all", "none"):
        return list(known) if peers == "all" else []
    wanted = [each.strip() for each in peers.split(",") if each.strip()]
    for each in wanted:
        check_choice("peer", each, (*known, "all", "none"))
    return [name for name in known if name in wanted]
