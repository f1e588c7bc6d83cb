"""`moee inspect`: what a model offers, from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moee.cli import options
from moee.cli.console import print_json, print_table
from moee.memory import format_size

if TYPE_CHECKING:
    from moee.backends.summary import ModelSummary
    from moee.method.config import EmbedderConfig
    from moee.types import ModelInfo, View

BYTES_PER_PARAMETER = {"float32": 4, "bfloat16": 2}
CALIBRATED = {
    "own": "yes, with statistics saved in this folder",
    "builtin": "yes, with built-in statistics for its prompt",
    None: "not yet: fitted on built-in sentences at first use, or now with `moee calibrate`",
}


BATCHING = {
    "packed": "texts side by side, without padding",
    "padded": "a row for each text, filled up to the longest",
}


def inspect(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help='"demo", a model folder, a hub id, or a saved embedder.')
    ],
    as_json: options.Json = False,
) -> None:
    """Describe a model without loading its weights.

    MoE layers, experts, router, sizes of the views and memory, from the configuration and the file headers.

    \b
    Examples:
      moee inspect demo
      moee inspect allenai/OLMoE-1B-7B-0924 --json
    """
    from moee.backends.summary import inspect_model
    from moee.method.config import recipe_config
    from moee.method.saved import is_saved_embedder, read_embedder
    from moee.method.space import block_dims

    saved = read_embedder(Path(model)) if is_saved_embedder(model) else None
    summary = inspect_model(saved.name if saved else model)
    config = saved.config if saved else recipe_config("default", model_type=summary.model_type)
    info = _model_info(summary)
    calibrated = "own" if saved and saved.calibrations else _builtin(info, config)
    dims = block_dims(info, config)
    if as_json:
        memory = {dtype: summary.memory_bytes(size) for dtype, size in BYTES_PER_PARAMETER.items()}
        weights = {view: config.weights[view] for view in dims} if config.fusion == "weighted" else None
        shown = {"fusion": config.fusion, "weights": weights, "dims": dims}
        print_json({**asdict(summary), "memory_bytes": memory, **shown, "calibrated": calibrated})
        return
    rows = _rows(summary, _vector(config, dims))
    rows |= {"prompt": config.prompt, "calibrated": CALIBRATED[calibrated], "notes": summary.notes}
    print_table(["property", "value"], [[name, value] for name, value in rows.items() if value])


def _builtin(info: ModelInfo, config: EmbedderConfig) -> str | None:
    """Return `"builtin"` if statistics for this model and configuration ship with the package or are cached."""
    from moee.method.calibration_store import find_statistics

    return "builtin" if find_statistics(info, config) is not None else None


def _model_info(summary: ModelSummary) -> ModelInfo:
    from moee.types import ModelInfo

    top_k = summary.top_k if isinstance(summary.top_k, tuple) else (summary.top_k,) * len(summary.layer_ids)
    return ModelInfo(
        name=summary.name,
        fingerprint=summary.fingerprint,
        model_type=summary.model_type,
        hidden_size=summary.hidden_size,
        num_layers=summary.num_layers,
        layer_ids=summary.layer_ids,
        num_experts=summary.num_experts,
        top_k=top_k,
        scoring_func=summary.scoring_func,
        max_tokens=summary.max_tokens,
        dtype="",
        device="",
    )


def _vector(config: EmbedderConfig, dims: Mapping[View, int]) -> str:
    """Say how wide a vector is, and of which views."""
    named = config.fusion == "weighted"
    parts = [f"{view} {dim}" + (f" (weight {config.weights[view]:g})" if named else "") for view, dim in dims.items()]
    return f"{sum(dims.values())} dimensions with fusion {config.fusion}: {', '.join(parts)}"


def _rows(summary: ModelSummary, vector: str) -> dict[str, Any]:
    memory = (f"{format_size(summary.memory_bytes(size))} in {name}" for name, size in BYTES_PER_PARAMETER.items())
    return {
        "model": summary.name,
        "folder": summary.folder,
        "architecture": summary.model_type,
        "router": summary.router,
        "scoring": summary.scoring_func,
        "layers": f"{summary.num_layers}, of which {len(summary.layer_ids)} with a router: {runs(summary.layer_ids)}",
        "experts": f"{runs(summary.num_experts)}, of which each token uses {runs(summary.top_k)}",
        "HS view": f"{summary.hidden_size} dimensions",
        "RW view": f"{summary.routing_size} dimensions",
        "vector": vector,
        "longest prompt": f"{summary.max_tokens} tokens" if summary.max_tokens else "no limit stated",
        "parameters": f"{summary.num_parameters:,}",
        "on disk": f"{format_size(summary.weight_bytes)} ({', '.join(summary.dtypes)})",
        "memory": ", ".join(memory),
        "batches": BATCHING[summary.batching],
        "experts on a CPU": summary.kernel,
        "larger than memory": "read a layer at a time" if summary.sweeps else "has to fit: its layers mix tokens",
        "fingerprint": summary.fingerprint,
    }


def runs(values: int | tuple[int, ...]) -> str:
    """Shorten numbers: equal ones to `32 in each`, consecutive ones to `0-29`."""
    if isinstance(values, int):
        return str(values)
    if len(values) > 1 and len(set(values)) == 1:
        return f"{values[0]} in each"
    if len(values) > 2 and values == tuple(range(values[0], values[0] + len(values))):
        return f"{values[0]}-{values[-1]}"
    return ", ".join(str(value) for value in values)
