"""How a checkpoint comes into memory: whole, with experts as they are stored, in 8 bits, or a layer at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.architectures import Architecture
from moee.backends.checkpoint import headers
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.backends.from_disk.layer_store import LayerStore
from moee.backends.from_disk.sweep import SLACK_BYTES, SweepBackend, held_bytes, work_bytes
from moee.errors import InputError
from moee.memory import available_bytes, format_size, parse_size

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger("moee")

_BATCH_TOKENS = 4096
"""Size of the batch for which work space is left beside the weights."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Memory that a model may use.

    Attributes:
        limit: Bytes that the process may take in all, on a GPU those of the GPU; None if the caller set none.
        free: Bytes that are left now; None if neither the caller nor the system says.
    """

    limit: int | None
    free: int | None

    @classmethod
    def of(cls, memory: str | int | None, device: torch.device) -> MemoryBudget:
        """Look at the caller's limit, else at what the device has left."""
        import torch

        if memory is not None:
            limit = parse_size(memory)
            return cls(limit, limit - held_bytes(device))
        if device.type == "cuda":
            return cls(None, torch.cuda.mem_get_info(device)[0])
        return cls(None, available_bytes() if device.type == "cpu" else None)

    def holds(self, weights: int, hidden_size: int, itemsize: int) -> bool:
        """Whether weights fit, with the work space of a batch beside them."""
        if self.free is None:
            return True
        return weights + work_bytes(hidden_size, itemsize, _BATCH_TOKENS) + SLACK_BYTES <= self.free


def weights_fit(files: list[Path], config: Mapping[str, Any], dtype: torch.dtype, budget: MemoryBudget) -> bool:
    """Whether all tensors of the files fit into memory in `dtype`, told from headers.

    Args:
        files: Weight files of the checkpoint. A pickle counts with its size on disk.
        config: The parsed `config.json`.
        dtype: Type that weights would be held in.
        budget: Memory that there is.
    """
    safe = [path for path in files if path.suffix == headers.SAFETENSORS]
    weights = sum(path.stat().st_size for path in files if path not in safe)
    for entry in headers.tensor_entries(safe):
        count = 1
        for length in entry.shape:
            count *= length
        weights += count * dtype.itemsize
    text = config.get("text_config")
    sizes = text if isinstance(text, dict) else config
    hidden_size = sizes.get("hidden_size") or sizes.get("d_model") or 0
    return budget.holds(weights, int(hidden_size), dtype.itemsize)


def open_in_parts(
    folder: Path,
    architecture: Architecture,
    *,
    dtype: torch.dtype,
    device: torch.device,
    budget: MemoryBudget,
    int8: bool,
    widths: Mapping[int, int],
    **options: Any,
) -> HuggingFaceBackend:
    """Open a checkpoint layer by layer, and keep as much of it in memory as there is room for.

    Args:
        folder: Folder of the checkpoint.
        architecture: Row that serves it.
        dtype: Type of the computation.
        device: Where it runs.
        budget: Memory that there is.
        int8: Round each layer to 8 bits as it comes.
        widths: Width of each router, by layer.
        **options: Options of the backend.

    Raises:
        InputError: If not even two layers fit.
        CheckpointError: If files are damaged.
    """
    name = str(options["name"])
    # on a CPU our kernel casts one expert at a time; elsewhere transformers' kernels want one dtype
    keep_experts = device.type == "cpu"
    store = LayerStore.open(
        folder, name=name, dtype=dtype, device=device, architecture=architecture, keep_experts=keep_experts
    )
    prepare = _rounding(store, architecture) if int8 else None
    # what the store holds by now is resident, so the budget is looked at again
    budget = MemoryBudget.of(budget.limit, device)
    if budget.limit is not None and budget.free is not None and budget.free <= 0:
        raise InputError(
            f"The memory limit is {format_size(budget.limit)}, and without a single layer of {name!r} "
            f"{format_size(held_bytes(device))} are taken. Give more with --memory."
        )
    weights = sum(store.layer_bytes)
    held = _int8_bytes(store) if int8 else weights
    hidden_size = int(getattr(store.model.config, "hidden_size", 0))
    if budget.holds(held, hidden_size, dtype.itemsize):
        if not int8:
            logger.info("%s: experts stay in memory as they are stored, %s in all", name, format_size(weights))
        store.load_all(prepare=prepare)
        return HuggingFaceBackend(store.model, architecture=architecture, **options)
    if budget.free is None:
        raise InputError(f"{name!r} does not fit, and this system does not say how much memory is free: give --memory.")
    limit = budget.limit if budget.limit is not None else budget.free + held_bytes(device)
    logger.warning(
        "%s: its layers need %s and %s are free, so layers are read from disk one after the other, once for each chunk "
        "of texts (memory limit %s). Give many texts at once: a chunk costs at least the time of reading the model.",
        name,
        format_size(held),
        format_size(budget.free),
        format_size(limit),
    )
    return SweepBackend(store, memory=limit, widths=widths, prepare=prepare, architecture=architecture, **options)


def _rounding(store: LayerStore, architecture: Architecture) -> Any:
    """Return what rounds a layer to 8 bits, routers left alone."""
    from moee.backends.forward.routers import find_routers
    from moee.backends.int8 import quantize

    sites = find_routers(store.model, architecture, include_attention_routers=True)
    routers = [site.module for site in sites]

    def prepare(_number: int, layer: nn.Module) -> None:
        quantize(layer, keep=routers)

    return prepare


def _int8_bytes(store: LayerStore) -> int:
    """Return about what the layers take in 8 bits: a byte a weight, and a layer being rounded."""
    numbers = sum(parameter.numel() for layer in store.layers_on_meta() for parameter in layer.parameters())
    return int(1.1 * numbers) + max(store.layer_bytes)
