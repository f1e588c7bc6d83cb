"""The carve from end to end: text, neuron groups, routers, checkpoint, report."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from moee.carve.activations import accumulate, collect_profiles, expert_floor, membership
from moee.carve.checkpoint import moe_config, moe_tensors, write_checkpoint
from moee.carve.clustering import Indices, order_neurons
from moee.carve.config import CarveConfig
from moee.carve.perplexity import perplexity
from moee.carve.plan import CarvePlan
from moee.carve.report import CarveReport
from moee.carve.router import fit_router, r_squared
from moee.carve.sequences import PaddedTokens, Sequences, TokenIds, batches, prepare
from moee.carve.source import DenseModel, open_dense
from moee.files.atomic import atomic_folder
from moee.progress import progress_bar
from moee.types import Array

PLAN_NAME = "carve/plan.safetensors"
"""In a folder of its own: some loaders take every safetensors file beside `config.json` for a part of the weights."""
Item = TypeVar("Item")

_MEASURED_WITH = ("torch", "transformers", "numpy")


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan and what was measured while making it.

    Attributes:
        plan: What the checkpoint is made from, together with the dense weights.
        router_r2: R2 of each layer's router as stored, on held-back tokens.
        perplexity_dense: Perplexity of the dense model on the held-back passages.
        sequences: The token sequences used.
        calibration_tokens: Tokens the routers were fitted on.
    """

    plan: CarvePlan
    router_r2: tuple[float, ...]
    perplexity_dense: float
    sequences: Sequences
    calibration_tokens: int


def run(dense: str | Path, out: Path, *, texts: Sequence[str], config: CarveConfig, progress: bool) -> CarveReport:
    """Carve and write the folder; see `moee.carve.carve`."""
    started = time.monotonic()
    # entered first: an output folder that cannot be written is found out before the long work
    with atomic_folder(out) as folder:
        with progress_bar("Loading the dense model", 1, enabled=progress) as advance:
            source = open_dense(dense)
            advance(1)
        result = make_plan(source, texts, config=config, progress=progress)
        return finish(source, result, folder, config=config, progress=progress, started=started)


def make_plan(source: DenseModel, texts: Sequence[str], *, config: CarveConfig, progress: bool) -> PlanResult:
    """Group the neurons and fit the routers."""
    shared = config.resolve_shared(int(source.config["intermediate_size"]))
    sequences = prepare(texts, source.tokenizer, config)
    profiles = collect_profiles(
        source.model,
        _track(
            "Neuron profiles", _batches(_first(sequences.calibration, config.profile_tokens), config), progress=progress
        ),
    )
    orders = [
        order_neurons(
            layer.astype(np.float32), num_shared=shared, num_experts=config.num_experts,
            iterations=config.kmeans_iterations, rng=np.random.default_rng((config.seed, index)),
        )
        for index, layer in _track("Neuron groups", list(enumerate(profiles)), progress=progress)
    ]  # fmt: skip
    return _fit(source, sequences, np.stack(orders), profiles, config=config, progress=progress)


def _fit(
    source: DenseModel,
    sequences: Sequences,
    neuron_order: Indices,
    profiles: list[Array],
    *,
    config: CarveConfig,
    progress: bool,
) -> PlanResult:
    """Fit the routers of neurons in this order, and measure them on held-back text."""
    shared = config.resolve_shared(neuron_order.shape[1])
    members = [membership(order, shared, config.num_experts) for order in neuron_order]
    floors = [expert_floor(profile, table) for profile, table in zip(profiles, members, strict=True)]
    heldback = _batches(sequences.heldback, config)
    fitted = accumulate(
        source.model,
        _track("Router statistics", _batches(sequences.calibration, config), progress=progress),
        members,
        floors,
    )
    checked = accumulate(source.model, _track("Checking routers", heldback, progress=progress), members, floors)
    plan = CarvePlan(
        neuron_order=neuron_order,
        routers=torch.from_numpy(np.stack([fit_router(sums, ridge=config.ridge) for sums in fitted])).bfloat16(),
        num_experts=config.num_experts,
        top_k=config.top_k,
        shared_neurons=shared,
        router_scale=config.router_scale,
    )
    stored = plan.routers.double().numpy()
    return PlanResult(
        plan=plan,
        router_r2=tuple(r_squared(sums, rows) for sums, rows in zip(checked, stored, strict=True)),
        perplexity_dense=perplexity(source.model, _track("Perplexity, dense", heldback, progress=progress)),
        sequences=sequences,
        calibration_tokens=fitted[0].count,
    )


def finish(
    source: DenseModel, result: PlanResult, folder: Path, *, config: CarveConfig, progress: bool, started: float
) -> CarveReport:
    """Write the checkpoint, plan, tokenizer and report into an existing folder, and measure the checkpoint."""
    plan, dtype = result.plan, source.choose_dtype(config.dtype)
    with progress_bar("Writing the checkpoint", 1, enabled=progress) as advance:
        tensors = moe_tensors(source.tensors(), plan, dtype=dtype)
        digest = write_checkpoint(folder, moe_config(source.config, plan, dtype=dtype), tensors)
        (folder / PLAN_NAME).parent.mkdir()
        plan.save(folder / PLAN_NAME)
        source.tokenizer.save_pretrained(folder)
        advance(1)
    heldback = _batches(result.sequences.heldback, config)
    report = build_report(
        source.name,
        result,
        config=config,
        dtype=str(dtype).removeprefix("torch."),
        digest=digest,
        perplexity_carved=_carved_perplexity(folder, _track("Perplexity, carved", heldback, progress=progress)),
        started=started,
    )
    report.write(folder)
    return report


def build_report(
    source: str,
    result: PlanResult,
    *,
    config: CarveConfig,
    dtype: str,
    digest: str,
    perplexity_carved: float,
    started: float,
) -> CarveReport:
    """Return the report of a plan and of the checkpoint made from it."""
    plan = result.plan
    return CarveReport(
        source=source,
        router_r2=result.router_r2,
        perplexity_dense=result.perplexity_dense,
        perplexity_carved=perplexity_carved,
        active_neuron_share=plan.active_share,
        num_experts=plan.num_experts,
        top_k=plan.top_k,
        shared_neurons=plan.shared_neurons,
        expert_size=plan.expert_size,
        calibration_tokens=result.calibration_tokens,
        heldback_tokens=sum(map(len, result.sequences.heldback)),
        dtype=dtype,
        tensors_sha256=digest,
        seconds=round(time.monotonic() - started, 1),
        config=asdict(config),
        versions={name: importlib.metadata.version(name) for name in _MEASURED_WITH},
    )


def _track(description: str, items: Sequence[Item], *, progress: bool) -> Iterator[Item]:
    """Yield the items and move a bar on stderr along."""
    with progress_bar(description, len(items), enabled=progress) as advance:
        for item in items:
            yield item
            advance(1)


def _carved_perplexity(folder: Path, heldback: Iterator[PaddedTokens]) -> float:
    """Load the checkpoint as any user would, with plain transformers, and measure it in float32."""
    from transformers import AutoModelForCausalLM

    # from_pretrained leaves the model in evaluation mode
    return perplexity(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), heldback)


def _batches(sequences: Sequence[TokenIds], config: CarveConfig) -> list[PaddedTokens]:
    return list(batches(sequences, batch_tokens=config.batch_tokens))


def _first(sequences: Sequence[TokenIds], num_tokens: int) -> list[TokenIds]:
    """Return sequences from the start until they hold `num_tokens`; their order is random already."""
    chosen: list[TokenIds] = []
    for sequence in sequences:
        if sum(map(len, chosen)) >= num_tokens:
            break
        chosen.append(sequence)
    return chosen
