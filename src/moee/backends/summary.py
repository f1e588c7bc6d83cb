"""What a checkpoint is, from its configuration and file headers alone: no weights, no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moee.architectures import Architecture
from moee.backends.checkpoint import headers
from moee.backends.checkpoint.config_keys import (
    TOP_K_KEYS,
    config_value,
    no_moe_layers,
    scoring_func_of,
    text_config_of,
)
from moee.backends.checkpoint.headers import TensorEntry
from moee.backends.checkpoint.support import (
    LoadOptions,
    auto_class,
    building,
    check_supported,
    model_config,
    quiet,
    register_native,
    resolve_folder,
)
from moee.backends.kernels import masked_dense


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What `moee inspect` shows.

    Attributes:
        name: Name that was asked for.
        folder: Where the checkpoint is.
        fingerprint: Identifies the weights; empty if the folder holds no weights.
        model_type: The architecture's `model_type`.
        router: Class of the routers, and their path under a decoder layer.
        scoring_func: How the model turns logits into scores.
        num_layers: Decoder layers.
        layer_ids: Decoder layers with a router.
        num_experts: Width of each router.
        top_k: Experts per token, as the configuration gives it.
        hidden_size: Width of the HS view.
        routing_size: Width of the RW view.
        max_tokens: Longest prompt; None if the configuration states no limit.
        num_parameters: Numbers in the weight files.
        weight_bytes: Size of the weights on disk.
        dtypes: How the weights are stored.
        batching: `"packed"` if texts run side by side without padding, else `"padded"`.
        sweeps: Whether it can be read from disk a layer at a time.
        kernel: What computes the experts on a CPU.
        notes: What a user of the model should know.
    """

    name: str
    folder: str
    fingerprint: str
    model_type: str
    router: str
    scoring_func: str
    num_layers: int
    layer_ids: tuple[int, ...]
    num_experts: tuple[int, ...]
    top_k: int | tuple[int, ...]
    hidden_size: int
    routing_size: int
    max_tokens: int | None
    num_parameters: int
    weight_bytes: int
    dtypes: tuple[str, ...]
    batching: str
    sweeps: bool
    kernel: str
    notes: str

    def memory_bytes(self, bytes_per_parameter: int) -> int:
        """Return the memory that the weights take in a dtype of that size."""
        return self.num_parameters * bytes_per_parameter


def inspect_model(name: str | Path, options: LoadOptions | None = None) -> ModelSummary:
    """Describe a model without loading its weights.

    Args:
        name: `"demo"`, a folder, or a hub id.
        options: Only what concerns the hub.

    Raises:
        InputError: If `name` is none of these.
        CheckpointError: If files are missing or corrupt.
        NoMoELayersError: If the model is dense.
        UnsupportedArchitectureError: If it cannot serve embeddings.
    """
    folder = resolve_folder(name, options)
    config = headers.read_config(folder)
    architecture = check_supported(config, str(name))
    text_config = text_config_of(config, architecture)
    files = headers.weight_files(folder)
    entries = list(headers.tensor_entries(files))
    num_layers = _num_layers(text_config)
    routers = _routers(folder, architecture, entries, num_layers, str(name))
    packs = architecture is not None and architecture.packs
    top_k = _top_k(text_config, architecture)
    return ModelSummary(
        name=str(name),
        folder=str(folder),
        fingerprint=headers.fingerprint(config, files),
        model_type=str(text_config.get("model_type", config.get("model_type"))),
        router=f"{architecture.router_class} at {architecture.router}" if architecture else "found by shape",
        scoring_func=scoring_func_of(text_config, architecture),
        num_layers=num_layers or max(routers) + 1,
        layer_ids=tuple(routers),
        num_experts=tuple(routers.values()),
        top_k=top_k,
        hidden_size=_first(text_config, ("hidden_size", "d_model")) or 0,
        routing_size=sum(routers.values()),
        max_tokens=config_value(text_config, "max_position_embeddings"),
        num_parameters=sum(_count(entry.shape) for entry in entries),
        weight_bytes=sum(entry.size for entry in entries),
        dtypes=tuple(sorted({entry.dtype for entry in entries})),
        batching="packed" if packs else "padded",
        sweeps=packs,
        kernel=_kernel(top_k, routers.values()),
        notes=architecture.notes if architecture else "Not a known architecture; routers are found by their shape.",
    )


def router_widths(
    folder: Path, config: dict[str, Any], architecture: Architecture, files: list[Path], name: str
) -> dict[int, int]:
    """Return the width of the router of every MoE layer, without loading weights: layer id to width, ascending.

    Args:
        folder: Folder of the checkpoint.
        config: Parsed `config.json` of the checkpoint.
        architecture: Row that serves it.
        files: Weight files of the checkpoint.
        name: Name of the model, for messages.
    """
    num_layers = _num_layers(text_config_of(config, architecture))
    return _routers(folder, architecture, list(headers.tensor_entries(files)), num_layers, name)


def _routers(
    folder: Path, architecture: Architecture | None, entries: list[TensorEntry], num_layers: int | None, name: str
) -> dict[int, int]:
    found = routers_in_headers(entries, architecture, num_layers=num_layers) if architecture else {}
    return found or _routers_on_meta(folder, architecture, name)


def _num_layers(text_config: Mapping[str, Any]) -> int | None:
    return _first(text_config, ("num_hidden_layers", "n_layers", "num_layers"))


def _first(config: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    return next((int(config[key]) for key in keys if isinstance(config.get(key), int)), None)


def _top_k(config: Mapping[str, Any], architecture: Architecture | None) -> int | tuple[int, ...]:
    keys = (*((architecture.top_k,) if architecture else ()), *TOP_K_KEYS)
    value = next((found for key in keys if (found := config_value(dict(config), key)) is not None), 0)
    return tuple(value) if isinstance(value, list) else int(value)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def routers_in_headers(
    entries: Iterable[TensorEntry], architecture: Architecture, *, num_layers: int | None = None
) -> dict[int, int]:
    """Return the width of the router of every MoE layer, read from tensor names and shapes.

    Args:
        entries: Headers of all weight files.
        architecture: The model's row.
        num_layers: Layers of the decoder. What is numbered from there on predicts several tokens ahead, and never runs.

    Returns:
        Layer id to router width, ascending; empty if the file uses names that the row does not know.
    """
    routers = (architecture.router, *architecture.checkpoint_routers)
    names = architecture.width_tensors or tuple(f"{name}.weight" for name in routers)
    axis = -1 if architecture.width_tensors else 0
    stack = architecture.layers.rsplit(".", 1)[-1]
    pattern = re.compile(rf"^(|.*\.){re.escape(stack)}\.(\d+)\.(?:{'|'.join(map(re.escape, names))})$")
    stacks: dict[str, dict[int, int]] = {}
    for entry in entries:
        match = pattern.search(entry.name)
        if match and (num_layers is None or int(match.group(2)) < num_layers):
            stacks.setdefault(match.group(1), {})[int(match.group(2))] = entry.shape[axis]
    # a file may hold more stacks than the decoder: a talker, a head that predicts ahead; the decoder is the longest
    longest: dict[int, int] = max(stacks.values(), key=len, default={})
    return dict(sorted(longest.items()))


def _kernel(top_k: int | tuple[int, ...], widths: Iterable[int]) -> str:
    """Name the kernel of the experts on a CPU, as far as shares tell: experts of an odd layout run one by one."""
    most = max(top_k) if isinstance(top_k, tuple) else top_k
    return "masked dense" if masked_dense.pays(most, min(widths)) else "by expert"


def _routers_on_meta(folder: Path, architecture: Architecture | None, name: str) -> dict[int, int]:
    """Build the model without memory for its weights and look for its routers: slower than headers, for any layout."""
    import torch

    from moee.backends.forward.huggingface import text_model_of
    from moee.backends.forward.routers import find_routers, find_routers_by_shape

    register_native(architecture)
    config = model_config(folder, name)
    with quiet(), building(name), torch.device("meta"):
        model = auto_class(config).from_config(config)
    text_model = text_model_of(model)
    sites = find_routers(text_model, architecture) if architecture else find_routers_by_shape(text_model)
    widths = {
        site.layer_id: next(
            p.shape[0] for p in site.module.parameters() if p.dim() == 2
        )  # a router's matrix is experts x hidden
        for site in sites
    }
    if not widths:
        raise no_moe_layers(name)
    return widths
