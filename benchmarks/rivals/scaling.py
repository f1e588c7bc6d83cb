"""Scaling: time against one quantity at a time, with a straight line through the medians.

A forward pass has no generation in it, so its time should be proportional to the tokens, hardly depend on how they are
spread over texts, and grow with a token's experts by the same amount for each. This measures whether it is so.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.backends.checkpoint.support import quiet
from moee.bench import machine
from moee.bench.entries import prompts_of
from moee.bench.figures import summary
from moee.bench.plots import OURS_COLOUR
from moee.bench.weights import Setup, Weights, use_threads
from moee.bench.workloads import sentences, texts_of_lengths
from moee.errors import InputError, check_choice
from rivals.shapes import ShapeSetup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
class Quantity:
    """One quantity that time is measured against.

    Attributes:
        title: Title of the panel.
        axis: The quantity, with its unit.
        says: What was kept the same.
    """

    title: str
    axis: str
    says: str


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "tokens": Quantity(
            "Total tokens", "tokens in all texts", "short sentences under the default prompt, more of them"
        ),
        "length": Quantity("Length of a text", "tokens in a text", "no prompt, the same number of tokens in all"),
        "experts": Quantity(
            "Active experts", "experts a token uses", "the widths of OLMoE, random weights, the same texts"
        ),
    }
)
"""By the name that `--scaling` takes."""


def choose_scaling(names: str) -> list[str]:
    """Return the quantities of an option: names with commas, or `"all"`.

    Raises:
        UnknownNameError: If a name is not one of them; suggests close matches.
    """
    if names == "all":
        return list(QUANTITIES)
    wanted = [each.strip() for each in names.split(",") if each.strip()]
    for each in wanted:
        check_choice("quantity", each, (*QUANTITIES, "all"))
    if not wanted:
        raise InputError(f"--scaling is {names!r}; choose from: {', '.join(QUANTITIES)}, all.")
    return wanted


def run_scaling(names: Sequence[str], setup: Setup, repeats: int) -> dict[str, Any]:
    """Measure time against quantities.

    Args:
        names: Keys of `QUANTITIES`.
        setup: The model of `tokens` and `length`; `experts` has a model of its own.
        repeats: Timed passes of each point.

    Returns:
        A JSON object: machine, and for each quantity its points, the line through them, and R^2.
    """
    if repeats < 1:
        raise InputError(f"--repeats is {repeats}; it must be 1 or larger.")
    use_threads(setup)
    measured: dict[str, Any] = {}
    for name in names:
        if name == "experts":
            measured[name] = measure_experts(setup, repeats)
        else:
            fitted, _ = setup.settled()
            model = _open(fitted)
            cases = token_cases(model, fitted) if name == "tokens" else length_cases(model, fitted)
            measured[name] = measure(name, cases, repeats, fitted)
    return {
        "kind": "law",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(setup.device, setup.threads),
        "rounds": repeats,
        "laws": measured,
    }


def _open(setup: Setup) -> MoEE:
    from moee.embedder import MoEE

    with quiet(bars=False):
        model = Weights(setup, with_head=False).base
    return MoEE.from_model(model, setup.tokenizer(), batch_tokens=setup.batch_tokens, calibration="none")


def token_cases(model: MoEE, setup: Setup, sizes: Sequence[int] = TOKENS) -> list[Case]:
    """Return one case for each number of tokens, of different sentences."""
    tokenizer = setup.tokenizer()
    texts, _ = sentences(_MOST_SENTENCES)
    counts = [len(ids) for ids in tokenizer(prompts_of(texts))["input_ids"]]
    running = list(itertools.accumulate(counts))
    if running[-1] < sizes[-1]:
        raise InputError(f"{len(texts)} sentences have {running[-1]} tokens; the scaling goes up to {sizes[-1]}.")
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


def as_shape(setup: Setup) -> ShapeSetup:
    """Return the setup of a shape with the same choices; one that is a shape is left as it is."""
    if isinstance(setup, ShapeSetup):
        return setup
    return ShapeSetup(**{each.name: getattr(setup, each.name) for each in fields(Setup)})


def measure_experts(
    setup: Setup, repeats: int, experts: Sequence[int] = EXPERTS, tokens: int = EXPERTS_TOKENS
) -> dict[str, Any]:
    """Measure time against experts a token uses, on layers as wide as OLMoE's."""
    layers = setup.layers if setup.is_random else _EXPERTS_LAYERS
    random = replace(as_shape(setup), model="olmoe", layers=layers)
    fitted, _ = random.settled()
    return measure("experts", expert_cases(Weights(fitted, with_head=False), experts, tokens), repeats, fitted)


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


def measure(name: str, cases: Sequence[Case], repeats: int, setup: Setup) -> dict[str, Any]:
    """Time all cases in turn, and fit a line to their medians.

    Args:
        name: A key of `QUANTITIES`.
        cases: At least two.
        repeats: Timed passes of each case.
        setup: What ran them.
    """
    seconds: list[list[float]] = [[] for _ in cases]
    cases[0][2]()  # the first call of all is slower
    for number in range(repeats):
        for place, (value, _, work) in enumerate(cases):
            seconds[place].append(machine.best_seconds(work, 1, setup.device, warm_up=0))
            logger.info("%s %.0f, repeat %d of %d: %.2f s", name, value, number + 1, repeats, seconds[place][-1])
    points: list[dict[str, Any]] = [
        {"x": value, "tokens": tokens, "seconds": found, **summary(found)}
        for (value, tokens, _), found in zip(cases, seconds, strict=True)
    ]
    quantity = QUANTITIES[name]
    return {
        "title": quantity.title,
        "axis": quantity.axis,
        "says": quantity.says,
        "model": setup.name,
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


def scaling_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """Return one row for each quantity: quantity, what was kept, line, R^2, fastest over slowest."""
    rows = []
    for found in document["laws"].values():
        line, points = found["line"], found["points"]
        formula = f"{1000 * line['intercept']:.0f} ms + {1000 * line['slope']:.3g} ms x {found['axis']}"
        reach = f"{points[0]['x']:.0f} to {points[-1]['x']:.0f}"
        rows.append(
            [
                found["axis"],
                reach,
                f"{_model(found)}; {found['says']}",
                formula,
                f"{line['r2']:.4f}",
                f"{1 / line['least_over_most']:.2f}",
            ]
        )
    return rows


SCALING_COLUMNS = ("time against", "from, to", "kept the same", "line through the medians", ">R²", ">slowest / fastest")


def _model(found: Mapping[str, Any]) -> str:
    return f"{found['model']}, {found['layers']} layers" if found["layers"] else str(found["model"])


def draw_scaling(figure: Figure, document: Mapping[str, Any]) -> None:
    """Draw one panel for each quantity: measured medians with the range of the repeats, and the line through them."""
    found = document["laws"]
    for axes, quantity in zip(np.atleast_1d(figure.subplots(1, len(found))), found.values(), strict=True):
        x = np.array([each["x"] for each in quantity["points"]])
        median = np.array([each["median"] for each in quantity["points"]])
        low = median - [min(each["seconds"]) for each in quantity["points"]]
        high = [max(each["seconds"]) for each in quantity["points"]] - median
        axes.errorbar(
            x, median, yerr=[low, high], fmt="o", color=OURS_COLOUR, capsize=3, label="measured: median, range"
        )
        line = quantity["line"]
        axes.plot(
            x, line["slope"] * x + line["intercept"], color="#000000", linewidth=1, label=f"line, R² = {line['r2']:.3f}"
        )
        axes.set_ylim(0, 1.15 * max(median + high))
        axes.set_xlim(0, 1.05 * max(x))
        axes.set_xlabel(quantity["axis"])
        axes.set_ylabel("seconds")
        axes.set_title(quantity["title"], fontsize=10)
        axes.legend(frameon=False, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
