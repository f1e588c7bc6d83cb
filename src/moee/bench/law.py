"""The law of cost: time against one quantity at a time, with a straight line through the medians.

A forward pass has no generation in it, so its time should be proportional to the tokens, hardly depend on how they are
spread over texts, and grow with a token's experts by the same amount for each. This measures whether it is so.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.bench import machine
from moee.bench.contestants import prompts_of
from moee.bench.figures import summary
from moee.bench.rounds import fit as fit_memory
from moee.bench.seats import use_threads
from moee.bench.weights import Setup, Weights, quiet
from moee.bench.workloads import sentences, texts_of_lengths
from moee.errors import InputError, check_choice

if TYPE_CHECKING:
    from moee.embedder import MoEE

logger = logging.getLogger("moee")

TOKENS = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
LENGTHS = (8, 16, 32, 64, 128, 256, 512)
LENGTHS_TOKENS = 8192
EXPERTS = (1, 2, 4, 6, 8, 12, 16)
EXPERTS_TOKENS = 4096
_EXPERTS_LAYERS = 2
"""Not one: of the last layer only the last tokens are computed in full."""
_MOST_SENTENCES = 4096

Case = tuple[float, int, Callable[[], object]]
"""What is varied, tokens in all, and the work that is timed."""


@dataclass(frozen=True, slots=True)
class Law:
    """One quantity that time is measured against.

    Attributes:
        title: Of the panel.
        axis: The quantity, with its unit.
        says: What was kept the same.
    """

    title: str
    axis: str
    says: str


LAWS: Mapping[str, Law] = MappingProxyType(
    {
        "tokens": Law("Total tokens", "tokens in all texts", "short sentences under the default prompt, more of them"),
        "length": Law("Length of a text", "tokens in a text", "no prompt, the same number of tokens in all"),
        "experts": Law("Active experts", "experts a token uses", "the widths of OLMoE, random weights, the same texts"),
    }
)
"""By the name that `--law` takes."""


def choose_laws(names: str) -> list[str]:
    """Return the laws of an option: names with commas, or `"all"`.

    Raises:
        UnknownNameError: If a name is not one of them; suggests close matches.
    """
    if names == "all":
        return list(LAWS)
    wanted = [each.strip() for each in names.split(",") if each.strip()]
    for each in wanted:
        check_choice("law", each, (*LAWS, "all"))
    if not wanted:
        raise InputError(f"--law is {names!r}; choose from: {', '.join(LAWS)}, all.")
    return wanted


def run_laws(names: Sequence[str], setup: Setup, rounds: int) -> dict[str, Any]:
    """Measure laws.

    Args:
        names: Keys of `LAWS`.
        setup: The model of `tokens` and `length`; `experts` has a model of its own.
        rounds: Turns of each point.

    Returns:
        A JSON object: machine, and for each law its points, the line through them, and R^2.
    """
    if rounds < 1:
        raise InputError(f"--rounds is {rounds}; it must be 1 or larger.")
    use_threads(setup)
    measured: dict[str, Any] = {}
    for name in names:
        if name == "experts":
            measured[name] = measure_experts(setup, rounds)
        else:
            fitted, _ = fit_memory(setup)
            model = _open(fitted)
            cases = token_cases(model, fitted) if name == "tokens" else length_cases(model, fitted)
            measured[name] = measure(name, cases, rounds, fitted)
    return {
        "kind": "law",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(setup.device, setup.threads),
        "rounds": rounds,
        "laws": measured,
    }


def _open(setup: Setup) -> MoEE:
    from moee.embedder import MoEE

    with quiet():
        model = Weights(setup, with_head=False).base
    return MoEE.from_model(model, setup.tokenizer(), batch_tokens=setup.batch_tokens, calibration="none")


def token_cases(model: MoEE, setup: Setup, sizes: Sequence[int] = TOKENS) -> list[Case]:
    """Return one case for each number of tokens, of different sentences."""
    tokenizer = setup.tokenizer()
    texts, _ = sentences(_MOST_SENTENCES)
    counts = [len(ids) for ids in tokenizer(prompts_of(texts))["input_ids"]]
    running = list(itertools.accumulate(counts))
    if running[-1] < sizes[-1]:
        raise InputError(f"{len(texts)} sentences have {running[-1]} tokens; the law goes up to {sizes[-1]}.")
    cases: list[Case] = []
    for size in sizes:
        count = int(np.searchsorted(running, size)) + 1
        cases.append((float(running[count - 1]), running[count - 1], _encode(model, texts[:count])))
    return cases


def length_cases(
    model: MoEE, setup: Setup, lengths: Sequence[int] = LENGTHS, tokens: int = LENGTHS_TOKENS
) -> list[Case]:
    """Return one case for each length of a text; all have about the same number of tokens."""
    tokenizer = setup.tokenizer()
    plain = model.with_settings(prompt="none")
    cases: list[Case] = []
    for length in lengths:
        count = max(1, tokens // length)
        texts = texts_of_lengths([length] * count, lambda each: tokenizer(list(each))["input_ids"])
        found = sum(len(ids) for ids in tokenizer(texts)["input_ids"])
        cases.append((found / len(texts), found, _encode(plain, texts)))
    return cases


def _encode(model: MoEE, texts: Sequence[str]) -> Callable[[], object]:
    return lambda: model.encode(texts)


def measure_experts(
    setup: Setup, rounds: int, experts: Sequence[int] = EXPERTS, tokens: int = EXPERTS_TOKENS
) -> dict[str, Any]:
    """Measure time against experts a token uses, on layers as wide as OLMoE's."""
    random = replace(setup, model="olmoe", layers=setup.layers if setup.is_random else _EXPERTS_LAYERS)
    fitted, _ = fit_memory(random)
    return measure("experts", expert_cases(Weights(fitted, with_head=False), experts, tokens), rounds, fitted)


def expert_cases(weights: Weights, experts: Sequence[int], tokens: int) -> list[Case]:
    """Return one case for each number of experts; the weights and the texts are the same."""
    from moee.embedder import MoEE

    setup, base = weights.setup, weights.base
    tokenizer = setup.tokenizer()
    texts, _ = sentences(_MOST_SENTENCES)
    running = list(itertools.accumulate(len(ids) for ids in tokenizer(prompts_of(texts))["input_ids"]))
    count = min(len(texts), int(np.searchsorted(running, tokens)) + 1)

    def use(top_k: int) -> Callable[[], object]:
        def work() -> object:
            _set_top_k(base, top_k)  # the weights are one; microseconds
            return models[top_k].encode(texts[:count])

        return work

    models: dict[int, MoEE] = {}
    for top_k in experts:
        _set_top_k(base, top_k)
        models[top_k] = MoEE.from_model(base, setup.tokenizer(), batch_tokens=setup.batch_tokens, calibration="none")
    return [(float(top_k), running[count - 1], use(top_k)) for top_k in experts]


def _set_top_k(model: Any, top_k: int) -> None:
    """Make every router choose another number of experts. `Any`: an attribute that each class of router has."""
    model.config.num_experts_per_tok = top_k
    for module in model.modules():
        if hasattr(module, "top_k"):
            module.top_k = top_k


def measure(name: str, cases: Sequence[Case], rounds: int, setup: Setup) -> dict[str, Any]:
    """Time all cases in each round, and fit a line to their medians.

    Args:
        name: A key of `LAWS`.
        cases: At least two.
        rounds: Turns of each case.
        setup: What ran them.
    """
    seconds: list[list[float]] = [[] for _ in cases]
    cases[0][2]()  # the first call of all is slower
    for number in range(rounds):
        for place, (value, _, work) in enumerate(cases):
            seconds[place].append(machine.best_seconds(work, 1, setup.device, warm_up=0))
            logger.info("%s %.0f, round %d of %d: %.2f s", name, value, number + 1, rounds, seconds[place][-1])
    points: list[dict[str, Any]] = [
        {"x": value, "tokens": tokens, "seconds": found, **summary(found)}
        for (value, tokens, _), found in zip(cases, seconds, strict=True)
    ]
    law = LAWS[name]
    return {
        "title": law.title,
        "axis": law.axis,
        "says": law.says,
        "model": setup.folder.name if not setup.is_random and setup.model != "demo" else setup.model,
        "layers": setup.layers,
        "dtype": setup.dtype,
        "points": points,
        "line": line([each["x"] for each in points], [each["median"] for each in points]),
    }


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Return slope, intercept and R^2 of the least-squares line; R^2 says little where y hardly changes."""
    slope, intercept = np.polyfit(x, y, 1)
    residual = np.sum((np.asarray(y) - (slope * np.asarray(x) + intercept)) ** 2)
    total = np.sum((np.asarray(y) - np.mean(y)) ** 2)
    return {
        "slope": float(slope),
        "intercept": float(intercept),
        "r2": float(1 - residual / total) if total else 1.0,
        "least_over_most": float(min(y) / max(y)),
    }
