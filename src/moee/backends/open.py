"""A name to a running backend: the embedded default, a folder, a hub id, or a model already in memory."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.architectures import Architecture
from moee.backends.base import Backend
from moee.backends.checkpoint import headers
from moee.backends.checkpoint.quantised import UNPACKED, check_quantisation, quantisation_of
from moee.backends.checkpoint.support import (
    LoadOptions,
    auto_class,
    check_supported,
    incomplete,
    model_config,
    quiet,
    register_native,
    resolve_folder,
)
from moee.backends.checkpoint.tokenizer import check_tokenizer, load_tokenizer
from moee.backends.devices import choose_dtype_and_device
from moee.backends.fake import FakeBackend
from moee.backends.forward.out_of_memory import translating_out_of_memory
from moee.errors import (
    CheckpointError,
    InputError,
    first_line,
)
from moee.method.pooling import PaddingSide

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger("moee")

_LONG_READ = 2_000_000_000
"""Bytes of weights from which reading shows a bar, and is not begun before all headers fit the configuration."""


def open_backend(name: str | Path, options: LoadOptions | None = None) -> Backend:
    """Load the model called `name`.

    Args:
        name: `"demo"`, `"fake"`, a folder, or a hub id `owner/model`.
        options: How to load it.

    Raises:
        InputError: If `name` is none of these.
        CheckpointError: If its files are missing, corrupt or pickled.
        NoMoELayersError: If the model is dense.
        UnsupportedArchitectureError: If its routers cannot be found or used.
    """
    options = options or LoadOptions()
    if str(name) == "fake":
        return FakeBackend()
    folder = resolve_folder(name, options)
    return _open_folder(folder, str(name), options)


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A folder that has been looked at, its headers included: a shard that is cut short is found in milliseconds."""

    folder: Path
    name: str
    config: dict[str, Any]
    upstream_config: Any
    architecture: Architecture | None
    files: list[Path]

    @property
    def is_safe(self) -> bool:
        """Whether its weights are safetensors."""
        return self.files[0].suffix == headers.SAFETENSORS

    @property
    def size(self) -> int:
        """Bytes of its weight files."""
        return sum(path.stat().st_size for path in self.files)


def _open_folder(folder: Path, name: str, options: LoadOptions) -> Backend:
    config = headers.read_config(folder)
    architecture = check_supported(config, name)
    files = headers.weight_files(folder, allow_pickle=options.allow_pickle)
    register_native(architecture)
    upstream_config = model_config(folder, name)
    check_quantisation(upstream_config, name)
    tokenizer = load_tokenizer(folder, name)
    checkpoint = _Checkpoint(folder, name, config, upstream_config, architecture, files)
    # from here on weights are read
    identity = headers.fingerprint(config, files)
    dtype, device = choose_dtype_and_device(options)
    for_backend: dict[str, Any] = {
        "name": name,
        "tokenizer": tokenizer,
        "fingerprint": identity,
        "include_attention_routers": options.include_attention_routers,
        "padding_side": options.padding_side,
    }
    with translating_out_of_memory(f"while {name!r} was loaded"):
        backend = _open(checkpoint, dtype, device, options, for_backend)
    logger.info("%s: %s", name, backend.info.describe())
    return backend


def _open(
    checkpoint: _Checkpoint, dtype: torch.dtype, device: torch.device, options: LoadOptions, for_backend: dict[str, Any]
) -> Backend:
    """Open it whole if that is asked for and fits, else in parts."""
    from moee.backends.choose import MemoryBudget, open_in_parts, weights_fit
    from moee.backends.forward.huggingface import HuggingFaceBackend
    from moee.backends.summary import router_widths

    folder, name, architecture = checkpoint.folder, checkpoint.name, checkpoint.architecture
    budget = MemoryBudget.of(options.memory, device)
    int8 = options.precision == "int8"
    if int8:
        _check_int8(device)
    if int8 or not weights_fit(checkpoint.files, checkpoint.config, dtype, budget):
        if architecture is not None and checkpoint.is_safe:
            widths = router_widths(folder, checkpoint.config, architecture, checkpoint.files, name)
            return open_in_parts(
                folder,
                architecture,
                dtype=dtype,
                device=device,
                budget=budget,
                int8=int8,
                widths=widths,
                **for_backend,
            )
        if int8 or options.memory is not None:
            reason = "its weights are pickles" if architecture is not None else "its architecture is not a known one"
            raise InputError(
                f"{name!r} cannot be read a layer at a time, as precision='int8' and a limit on memory need: {reason}. "
                "Leave both out to load it whole."
            )
    model = _load_model(checkpoint, dtype).to(device)  # type: ignore[arg-type]  # partly typed upstream
    return HuggingFaceBackend(model, architecture=architecture, **for_backend)


def _check_int8(device: torch.device) -> None:
    from moee.backends.int8 import is_available

    reason = is_available() if device.type == "cpu" else f"it computes on the CPU, and the device is {device}"
    if reason:
        raise InputError(f"precision='int8' cannot be used here: {reason}. Use precision='exact', the default.")


def _load_model(checkpoint: _Checkpoint, dtype: torch.dtype) -> PreTrainedModel:
    """Let transformers load the whole model; what does not fit it is told from file headers."""
    folder, name, config = checkpoint.folder, checkpoint.name, checkpoint.upstream_config
    is_long = checkpoint.size > _LONG_READ
    if is_long and checkpoint.is_safe:
        _check_headers(checkpoint, dtype)
    if checkpoint.is_safe:
        # the files that were looked at, whatever else is in the folder
        config.transformers_weights = (headers.index_file(folder) or checkpoint.files[0]).name
    try:
        with quiet(bars=is_long):
            model, report = auto_class(config).from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                trust_remote_code=False,
                use_safetensors=checkpoint.is_safe,
                local_files_only=True,
                output_loading_info=True,
            )
    except (ImportError, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        if checkpoint.is_safe:
            _check_headers(checkpoint, dtype)
        raise CheckpointError(f"{name!r} could not be loaded: {first_line(error)}") from error
    vars(model.config).pop("transformers_weights", None)  # it would be saved with the model
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers would fill these with random numbers and only log it
        raise incomplete(name, type(model).__name__, missing)
    return model  # type: ignore[no-any-return]  # from_pretrained is untyped upstream


def _check_headers(checkpoint: _Checkpoint, dtype: torch.dtype) -> None:
    """Name the tensor that is missing or of another shape than the configuration makes it.

    Raises:
        CheckpointError: If there is one.
    """
    from moee.backends.from_disk.layer_plan import Precision, plan_weights
    from moee.backends.from_disk.meta_model import build_on_meta

    quantised = quantisation_of(checkpoint.upstream_config)
    if quantised is not None and quantised[1].get("quant_method") not in UNPACKED:
        return  # its tensors are packed: their shapes say nothing
    meta = build_on_meta(checkpoint.folder, checkpoint.name, dtype)
    entries = {entry.name: entry for entry in headers.tensor_entries(checkpoint.files)}
    plan_weights(meta, entries, Precision.of(meta.whole, dtype, keep_experts=False), name=checkpoint.name)


def backend_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    padding_side: PaddingSide = "right",
    include_attention_routers: bool = False,
) -> Backend:
    """Wrap a model that is already in memory; its weights are shared, not copied.

    Raises:
        CheckpointError: If the tokenizer does not tell texts apart.
        NoMoELayersError: If the model is dense.
        UnsupportedArchitectureError: If its routers cannot be found or used.
    """
    from moee.backends.forward.huggingface import HuggingFaceBackend

    config: Any = model.config
    name = str(getattr(config, "_name_or_path", "") or config.model_type)
    check_tokenizer(tokenizer, name)
    return HuggingFaceBackend(
        model,
        tokenizer,
        name=name,
        fingerprint=_fingerprint_in_memory(model),
        architecture=check_supported(config.to_dict(), name),
        include_attention_routers=include_attention_routers,
        padding_side=padding_side,
    )


def _fingerprint_in_memory(model: PreTrainedModel) -> str:
    """Identify weights that have no folder: names, shapes and the first values of every parameter."""
    digest = hashlib.sha256(str(model.config.model_type).encode())
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().reshape(-1)[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
