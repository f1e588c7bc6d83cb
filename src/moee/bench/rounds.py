"""The benchmark: seat everyone, compare what they compute, let them take turns, and put it all in one document."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from moee.bench import machine
from moee.bench.agreement import Entrants, compare
from moee.bench.contestants import ENTRIES, OURS, prompts_of, why_not
from moee.bench.figures import contestant_figures
from moee.bench.seats import Turn, explain, open_seat, use_threads
from moee.bench.shapes import SHAPES, choose_layers, shape_config
from moee.bench.weights import Setup, Weights
from moee.bench.work import ModelCost, model_cost
from moee.bench.workloads import PROMPT, Workload, make_workload
from moee.errors import InputError, UnsupportedArchitectureError
from moee.memory import available_bytes

logger = logging.getLogger("moee")

_WARM_UP = 8
_OWN_SHARE = 0.5
"""Of the free memory that several copies of the model may take, each in its process; else one is shared."""
_OWN_OVERHEAD = 700 << 20
"""Bytes of a process besides its weights: interpreter, libraries, a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured.

    Attributes:
        contestants: Names of `ENTRIES`.
        workload: A name of `WORKLOADS`.
        texts: How many; None for the workload's default.
        rounds: Turns of each contestant.
        processes: `"own"` gives each contestant a process and a model of its own, `"shared"` lets all share one;
            `"auto"` is `"own"` where that many models fit in memory.
    """

    contestants: tuple[str, ...]
    workload: str = "short"
    texts: int | None = None
    rounds: int = 3
    processes: Literal["auto", "own", "shared"] = "auto"


def run(setup: Setup, options: Options) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        setup: What everyone is built from; a shape's layers are settled here by the memory that is free.
        options: What is measured.

    Returns:
        A JSON object: machine, model, workload, agreement, one record for each contestant, and who did not run.

    Raises:
        InputError: If an option cannot be used, or the model does not fit in memory.
        DisagreementError: If ours computes something else than the peers, or not of the same token ids.
    """
    if options.rounds < 1:
        raise InputError(f"--rounds is {options.rounds}; it must be 1 or larger.")
    use_threads(setup)
    reasons = {name: reason for name in options.contestants if (reason := why_not(name, setup))}
    names = [name for name in options.contestants if name not in reasons]
    setup, note = fit(setup, with_int8="moee-int8" in names)
    tokenizer = setup.tokenizer()
    workload = make_workload(options.workload, options.texts, lambda texts: tokenizer(list(texts))["input_ids"])
    ids: list[list[int]] = tokenizer(prompts_of(workload.texts), verbose=False)["input_ids"]
    cost, uncounted = _cost(setup)
    owns = _own_processes_fit(setup, names) if options.processes == "auto" else options.processes == "own"
    with _seated(names, setup, None if owns else Weights(setup, with_head="original" in names), reasons) as seats:
        agreement = compare(seats, workload, ids, reasons)
        turns = _take_turns(seats, workload, options.rounds)
        facts = {name: seat.facts() for name, seat in seats.items()}
    lengths = [len(each) for each in ids]
    return {
        "kind": "speed",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(setup.device, setup.threads),
        "model": _model_facts(setup, cost, uncounted, note),
        "workload": _workload_facts(workload, lengths),
        "rounds": options.rounds,
        "processes": "own" if owns else "shared",
        "agreement": agreement,
        "contestants": [
            _record(name, facts[name], turns[name], lengths, cost, _element_bytes(setup.dtype)) for name in seats
        ],
        "not_run": [{"name": name, "reason": reasons[name]} for name in ENTRIES if name in reasons],
    }


def fit(setup: Setup, *, with_int8: bool = False) -> tuple[Setup, str]:
    """Settle a shape's layers by the memory that is free; anything else is left as it is.

    Returns:
        The setup, and a sentence if fewer layers are built than the default.

    Raises:
        InputError: If `layers` was given for a model that is not a shape, or it does not fit.
    """
    if not setup.is_random:
        if setup.layers is not None:
            raise InputError(f"--layers is for models of random weights ({', '.join(SHAPES)}), not {setup.model!r}.")
        return setup, ""
    free = available_bytes() if setup.device == "cpu" else _device_free(setup.device)
    # a model in int8 is a second copy beside the shared one
    layers, note = choose_layers(setup.model, setup.layers, _element_bytes(setup.dtype) + with_int8, free)
    if note:
        logger.warning("%s", note)
    return replace(setup, layers=layers), note


def _device_free(device: str) -> int | None:
    import torch

    return int(torch.cuda.mem_get_info(device)[0]) if device.startswith("cuda") else None


def _element_bytes(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def _cost(setup: Setup) -> tuple[ModelCost | None, str]:
    try:
        return model_cost(setup.config()), ""
    except UnsupportedArchitectureError as error:
        logger.warning("%s", error)
        return None, str(error)


def _own_processes_fit(setup: Setup, names: Sequence[str]) -> bool:
    """Whether every contestant can load the model for itself."""
    free = available_bytes()
    if setup.is_random or free is None or setup.device != "cpu":
        return False
    weights = sum(path.stat().st_size for path in setup.folder.glob("*.safetensors"))
    return len(names) * (weights * _element_bytes(setup.dtype) // 2 + _OWN_OVERHEAD) < _OWN_SHARE * free


@contextmanager
def _seated(names: Sequence[str], setup: Setup, weights: Weights | None, reasons: dict[str, str]) -> Iterator[Entrants]:
    """Seat everyone who can be built; a peer that fails is told in `reasons`, ours is an error."""
    seats: Entrants = {}
    try:
        for name in names:
            logger.info("%s: loading", name)
            try:
                seats[name] = open_seat(name, setup, weights)
            except Exception as error:
                if name in OURS:
                    raise
                # whatever stops a peer is its own; the table says what it was
                reasons[name] = explain(error)
        yield seats
    finally:
        for seat in seats.values():
            seat.close()


def _take_turns(seats: Entrants, workload: Workload, rounds: int) -> dict[str, list[Turn]]:
    """Let everyone encode the workload in each round, after a warm-up that is not counted."""
    turns: dict[str, list[Turn]] = {name: [] for name in seats}
    for seat in seats.values():
        seat.warm_up(workload.texts[:_WARM_UP])
    for number in range(rounds):
        for name, seat in seats.items():
            turn = seat.turn(workload.texts, one_by_one=workload.one_by_one)
            turns[name].append(turn)
            logger.info("round %d of %d, %s: %.2f s", number + 1, rounds, name, turn.seconds)
    return turns


def _record(
    name: str,
    facts: dict[str, Any],
    turns: Sequence[Turn],
    lengths: Sequence[int],
    cost: ModelCost | None,
    element_bytes: int,
) -> dict[str, Any]:
    entry = ENTRIES[name]
    counted = cost if entry.same_model else None
    record = {"name": name, "gives": entry.gives, "about": entry.about, "facts": facts}
    record |= contestant_figures(turns, lengths, counted, element_bytes)
    return record | {"turns": [asdict(turn) | {"latencies": list(turn.latencies)} for turn in turns]}


def _workload_facts(workload: Workload, lengths: Sequence[int]) -> dict[str, Any]:
    return {
        "name": workload.name,
        "origin": workload.origin,
        "prompt": PROMPT,
        "texts": len(lengths),
        "tokens": sum(lengths),
        "tokens_median": float(np.median(lengths)),
        "tokens_least": min(lengths),
        "tokens_most": max(lengths),
    }


def _model_facts(setup: Setup, cost: ModelCost | None, uncounted: str, note: str) -> dict[str, Any]:
    config = setup.config()
    text = config.get_text_config(decoder=True)
    facts: dict[str, Any] = {
        # a folder by its own name: where it lies is nobody's business
        "name": setup.folder.name if not setup.is_random and setup.model != "demo" else setup.model,
        "title": SHAPES[setup.model].title if setup.is_random else "",
        "model_type": config.model_type,
        "random_weights": setup.is_random,
        "layers": int(text.num_hidden_layers),
        "layers_published": SHAPES[setup.model].layers if setup.is_random else int(text.num_hidden_layers),
        "dtype": setup.dtype,
        "device": setup.device,
        "note": note,
        "uncounted": uncounted,
    }
    if cost is None:
        return facts
    facts |= {"weights": cost.weights, "flops_per_token": cost.per_token, "head_share": cost.head_share}
    published = model_cost(shape_config(setup.model)) if setup.is_random else cost
    return facts | {
        "last_layer_share": cost.last_layer_share,
        "head_share_published": published.head_share,
        "flops_per_token_published": published.per_token,
        "last_layer_share_published": published.last_layer_share,
    }
