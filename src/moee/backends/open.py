"""A name to a running backend: the embedded default, a folder, a hub id, or a model already in memory."""

from __future__ import annotations

import copy
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


@dataclass(frozen=True, slots=True)
class Source:
    """What loads the same model again.

    Attributes:
        name: `"demo"`, `"fake"`, a folder, or a hub id.
        options: How it is loaded.
    """

    name: str
    options: LoadOptions


Opened = tuple[Backend, Source | None]
"""A backend, and what loads the same model again; None if the model is in memory alone."""


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


def open_again(source: Source, fingerprint: str) -> Backend:
    """Load a model that was open before, perhaps in another process.

    Raises:
        CheckpointError: If other weights are there now.
    """
    backend = open_backend(source.name, source.options)
    if backend.info.fingerprint != fingerprint:
        raise CheckpointError(
            f"{source.name!r} holds other weights than when the embedder was pickled ({backend.info.fingerprint}, not "
            f"{fingerprint}). Open the model that is there now with MoEE.from_pretrained, and calibrate it anew."
        )
    return backend


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
) -> Opened:
    """Wrap a model that is already in memory; its weights are shared, not copied.

    Returns:
        The backend, and what loads the same model in another process.

    Raises:
        InputError: If `model` is no model of transformers, or there is no tokenizer.
        CheckpointError: If the tokenizer does not tell texts apart.
        NoMoELayersError: If the model is dense.
        UnsupportedArchitectureError: If its routers cannot be found or used.
    """
    from moee.backends.checkpoint.in_memory import identify
    from moee.backends.forward.huggingface import HuggingFaceBackend

    _check_in_memory(model, tokenizer)
    config: Any = model.config
    name = str(getattr(config, "_name_or_path", "") or config.model_type)
    check_tokenizer(tokenizer, name)
    architecture = check_supported(config.to_dict(), name)
    identity = identify(model)
    backend = HuggingFaceBackend(
        model,
        # the caller's own calls set padding and truncation on theirs
        copy.deepcopy(tokenizer),
        name=name,
        fingerprint=identity.fingerprint,
        architecture=architecture,
        include_attention_routers=include_attention_routers,
        padding_side=padding_side,
    )
    if identity.source is None:
        return backend, None
    same = LoadOptions(
        dtype=backend.info.dtype,
        device=backend.info.device,
        padding_side=padding_side,
        include_attention_routers=include_attention_routers,
    )
    return backend, Source(identity.source, same)


def _check_in_memory(model: Any, tokenizer: Any) -> None:
    if isinstance(model, str | Path):
        raise InputError(
            f"from_model takes a model that is in memory, and {str(model)!r} is the name of one. "
            f"Load it with MoEE.from_pretrained({str(model)!r})."
        )
    if hasattr(model, "module") and not hasattr(model, "config"):
        raise InputError(
            f"The model is wrapped in {type(model).__name__}, which copies it for each call. Pass the model inside: "
            "MoEE.from_model(model.module, tokenizer)."
        )
    if not hasattr(getattr(model, "config", None), "get_text_config") or not hasattr(model, "named_parameters"):
        raise InputError(
            f"from_model takes a model of transformers, and got a {type(model).__name__}. Load one with "
            "AutoModelForCausalLM.from_pretrained, or pass a name to MoEE.from_pretrained."
        )
    if not callable(tokenizer):
        raise InputError(
            f"The tokenizer is {tokenizer!r}. Pass the one of the model: AutoTokenizer.from_pretrained("
            f"{str(getattr(model.config, '_name_or_path', '') or 'FOLDER')!r})."
        )
