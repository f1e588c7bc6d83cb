"""The benchmark: put every entry to work, compare what they compute, time them in turn, and write one document."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from moee.backends.checkpoint.support import quiet
from moee.bench import machine
from moee.bench.checkout import Rivals
from moee.bench.entries import OURS, Entry, prompts_of
from moee.bench.figures import entry_figures
from moee.bench.same_vectors import Workers, compare
from moee.bench.weights import Setup, Weights, use_threads
from moee.bench.work import ModelCost, model_cost
from moee.bench.worker import LocalWorker, Repeat
from moee.bench.workloads import PROMPT, Workload, make_workload
from moee.errors import InputError, MoEEError, UnsupportedArchitectureError, first_line
from moee.memory import available_bytes

logger = logging.getLogger("moee")

_WARM_UP = 8
_OWN_SHARE = 0.5
"""Share of the free memory that several copies of the model may take, each in its process; else one is shared."""
_OWN_OVERHEAD = 700 << 20
"""Bytes of a process besides its weights: interpreter, libraries, a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured.

    Attributes:
        entries: Names of ours and of peers.
        workload: A name of `WORKLOADS`.
        texts: How many; None for the workload's default.
        repeats: Timed passes of each entry.
        processes: `"own"` gives each entry a process and a model of its own, `"shared"` lets all share one; `"auto"`
            is `"own"` where that many models fit in memory. Processes of their own need a checkout.
    """

    entries: tuple[str, ...]
    workload: str = "short"
    texts: int | None = None
    repeats: int = 3
    processes: Literal["auto", "own", "shared"] = "auto"


@dataclass(slots=True)
class _Field:
    """Everyone who was named: who takes part and how, and why the others do not."""

    setup: Setup
    entries: Mapping[str, Entry]
    rivals: Rivals | None
    reasons: dict[str, str] = field(default_factory=dict)


def run(setup: Setup, options: Options, rivals: Rivals | None = None) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        setup: What every entry is built from; the layers of a model of random weights are settled here.
        options: What is measured.
        rivals: Peers, and processes of their own; None for ours alone.

    Returns:
        A JSON object: machine, model, workload, agreement, one record for each entry, and who did not run.

    Raises:
        InputError: If an option cannot be used, or the model does not fit in memory.
        DisagreementError: If ours computes something else than the peers, or not of the same token ids.
    """
    if options.repeats < 1:
        raise InputError(f"--repeats is {options.repeats}; it must be 1 or larger.")
    use_threads(setup)
    entries = {**OURS, **(rivals.peers if rivals else {})}
    reasons = {name: reason for name in options.entries if (reason := entries[name].why_not(setup))}
    names = [name for name in options.entries if name not in reasons]
    setup, note = setup.settled(with_int8="moee-int8" in names)
    if note:
        logger.warning("%s", note)
    tokenizer = setup.tokenizer()
    workload = make_workload(options.workload, options.texts, lambda texts: tokenizer(list(texts))["input_ids"])
    ids: list[list[int]] = tokenizer(prompts_of(workload.texts), verbose=False)["input_ids"]
    cost, uncounted = _cost(setup)
    owns = rivals is not None and (
        _own_processes_fit(setup, names) if options.processes == "auto" else options.processes == "own"
    )
    everyone = _Field(setup, entries, rivals, reasons)
    with _at_work(names, everyone, None if owns else Weights(setup, with_head="original" in names)) as workers:
        agreement = compare(workers, entries, workload, ids, reasons)
        repeats = _repeat(workers, workload, options.repeats)
        facts = {name: worker.facts() for name, worker in workers.items()}
    lengths = [len(each) for each in ids]
    return {
        "kind": "speed",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(setup.device, setup.threads),
        "model": _model_facts(setup, cost, uncounted, note),
        "workload": _workload_facts(workload, lengths),
        "rounds": options.repeats,
        "processes": "own" if owns else "shared",
        "agreement": agreement,
        "contestants": [
            {"name": name, "gives": entries[name].gives, "about": entries[name].about, "facts": facts[name]}
            | entry_figures(each, lengths, cost if entries[name].same_model else None, setup.element_bytes)
            | {"turns": [asdict(one) | {"latencies": list(one.latencies)} for one in each]}
            for name, each in repeats.items()
        ],
        "not_run": [{"name": name, "reason": reasons[name]} for name in entries if name in reasons],
    }


def _cost(setup: Setup) -> tuple[ModelCost | None, str]:
    try:
        return model_cost(setup.config()), ""
    except UnsupportedArchitectureError as error:
        logger.warning("%s", error)
        return None, str(error)


def _own_processes_fit(setup: Setup, names: Sequence[str]) -> bool:
    """Whether every entry can load the model for itself."""
    free = available_bytes()
    if setup.is_random or free is None or setup.device != "cpu":
        return False
    weights = sum(path.stat().st_size for path in setup.folder.glob("*.safetensors"))
    return len(names) * (weights * setup.element_bytes // 2 + _OWN_OVERHEAD) < _OWN_SHARE * free


@contextmanager
def _at_work(names: Sequence[str], everyone: _Field, weights: Weights | None) -> Iterator[Workers]:
    """Put everyone to work who can be built; a peer that fails is told in the reasons, ours is an error."""
    workers: Workers = {}
    try:
        for name in names:
            logger.info("%s: loading", name)
            try:
                if weights is None and everyone.rivals is not None:
                    workers[name] = everyone.rivals.own_process(name, everyone.setup)
                else:
                    with quiet(bars=False):
                        runner = everyone.entries[name].open(everyone.setup, weights)
                    workers[name] = LocalWorker(runner, everyone.setup)
            except Exception as error:
                if name in OURS:
                    raise
                # whatever stops a peer is its own; the table says what it was
                everyone.reasons[name] = explain(error)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def explain(error: Exception) -> str:
    """Return an error as one line: our own words, or the kind and first line of another's."""
    if isinstance(error, MoEEError):
        return str(error)
    kind, said = type(error).__name__, first_line(error)
    return kind if said == kind else f"{kind}: {said}"


def _repeat(workers: Workers, workload: Workload, repeats: int) -> dict[str, list[Repeat]]:
    """Let everyone encode the workload in turn, so many times, after a warm-up that is not counted."""
    found: dict[str, list[Repeat]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.warm_up(workload.texts[:_WARM_UP])
    for number in range(repeats):
        for name, worker in workers.items():
            once = worker.repeat(workload.texts, one_by_one=workload.one_by_one)
            found[name].append(once)
            logger.info("repeat %d of %d, %s: %.2f s", number + 1, repeats, name, once.seconds)
    return found


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
    facts: dict[str, Any] = {
        "name": setup.name,
        "title": setup.title,
        "model_type": config.model_type,
        "random_weights": setup.is_random,
        "layers": _layers(config),
        "layers_published": _layers(setup.published_config()),
        "dtype": setup.dtype,
        "device": setup.device,
        "note": note,
        "uncounted": uncounted,
    }
    if cost is None:
        return facts
    facts |= {"weights": cost.weights, "flops_per_token": cost.per_token, "head_share": cost.head_share}
    published = model_cost(setup.published_config()) if setup.is_random else cost
    return facts | {
        "last_layer_share": cost.last_layer_share,
        "head_share_published": published.head_share,
        "flops_per_token_published": published.per_token,
        "last_layer_share_published": published.last_layer_share,
    }


def _layers(config: Any) -> int:
    return int(config.get_text_config(decoder=True).num_hidden_layers)
