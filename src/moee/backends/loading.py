"""A name to a running backend: the embedded default, a folder, a hub id, or a model already in memory."""

from __future__ import annotations

import hashlib
import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.architectures import Architecture, all_architectures, find_architecture
from moee.backends import checkpoints
from moee.backends.base import Backend
from moee.backends.fake import FakeBackend
from moee.backends.out_of_memory import naming_the_knobs
from moee.backends.routers import EXPERT_KEYS, config_value, no_moe_layers
from moee.errors import (
    CheckpointError,
    InputError,
    MoEEError,
    UnknownNameError,
    UnsupportedArchitectureError,
)
from moee.memory import parse_size
from moee.pooling import PaddingSide

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger("moee")

DTYPES = ("float32", "bfloat16", "float16")
PRECISIONS = ("exact", "int8")
_HUB_ID_PARTS = 2
_BAR_FROM_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is put into memory.

    Attributes:
        dtype: `"float32"`, `"bfloat16"`, `"float16"`; None is bfloat16 where the device computes it natively, else
            float32.
        device: A torch device; None is the first GPU, else the CPU.
        padding_side: Of batches. Vectors do not depend on it; right is faster.
        include_attention_routers: Also read the routers of mixture-of-attention blocks.
        revision: Of a hub id.
        local_files_only: Never ask the hub, use what is cached.
        allow_pickle: Load pickle weights, which can run any code that their author put in.
        memory: That the process may take, for example `"4GiB"`, on a GPU of its memory; None is what is free. A model
            that does not fit is read a layer at a time.
        precision: `"exact"`, or `"int8"`: weights and activations of 8 bits, on a CPU.
    """

    dtype: str | None = None
    device: str | None = None
    padding_side: PaddingSide = "right"
    include_attention_routers: bool = False
    revision: str | None = None
    local_files_only: bool = False
    allow_pickle: bool = False
    memory: str | int | None = None
    precision: str = "exact"

    def __post_init__(self) -> None:
        """Refuse what can be refused before anything is read."""
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        if self.memory is not None:
            parse_size(self.memory)


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


def resolve_folder(name: str | Path, options: LoadOptions | None = None) -> Path:
    """Return the folder that holds the model called `name`, building the demo or downloading a hub id if need be."""
    options = options or LoadOptions()
    text = str(name)
    if text == "demo":
        from moee.demo.build import demo_folder

        return demo_folder()
    path = Path(text).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise InputError(
            f"{text!r} is a file. Give the model's folder, a hub id such as 'allenai/OLMoE-1B-7B-0924', or 'demo'."
        )
    parts = text.split("/")
    if len(parts) == _HUB_ID_PARTS and all(parts) and not text.startswith((".", "~")):
        return _download(text, options)
    raise UnknownNameError(
        "model",
        text,
        ("demo", "fake"),
        hint="Or give an existing folder, or a hub id such as 'allenai/OLMoE-1B-7B-0924'.",
    )


def _download(hub_id: str, options: LoadOptions) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "tokenizer*", "*.model", "*.txt", "*.jinja"]
    if options.allow_pickle:
        patterns.append("*.bin")
    try:
        found = snapshot_download(
            hub_id, revision=options.revision, allow_patterns=patterns, local_files_only=options.local_files_only
        )
    except (OSError, ValueError) as error:  # hub errors derive from these, connection failures included
        raise CheckpointError(
            f"{hub_id!r} is not a folder here, and it could not be fetched from the hub: {_first_line(error)} "
            "Check the name and the connection, or give a local folder. `demo` needs neither."
        ) from error
    return Path(found)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A folder that has been looked at, its headers included: a shard that is cut short is found in milliseconds."""

    folder: Path
    name: str
    config: dict[str, Any]
    architecture: Architecture | None
    files: list[Path]

    @property
    def is_safe(self) -> bool:
        """Whether its weights are safetensors."""
        return self.files[0].suffix == checkpoints.SAFETENSORS


def _open_folder(folder: Path, name: str, options: LoadOptions) -> Backend:
    config = checkpoints.read_config(folder)
    architecture = check_supported(config, name)
    files = checkpoints.weight_files(folder, allow_pickle=options.allow_pickle)
    checkpoint = _Checkpoint(folder, name, config, architecture, files)
    identity = checkpoints.fingerprint(config, files)
    register_native(architecture)
    dtype, device = choose_dtype_and_device(options)
    for_backend: dict[str, Any] = {
        "name": name,
        "fingerprint": identity,
        "include_attention_routers": options.include_attention_routers,
        "padding_side": options.padding_side,
    }
    with naming_the_knobs(f"while {name!r} was loaded"):
        backend = _open(checkpoint, dtype, device, options, for_backend)
    logger.info("%s: %s", name, backend.info.describe())
    return backend


def _open(
    checkpoint: _Checkpoint, dtype: torch.dtype, device: torch.device, options: LoadOptions, for_backend: dict[str, Any]
) -> Backend:
    """Open it whole if that is asked for and fits, else in parts."""
    from moee.backends.fitting import Room, open_in_parts, weights_fit
    from moee.backends.huggingface import HuggingFaceBackend
    from moee.backends.inspect import router_widths

    folder, name, architecture = checkpoint.folder, checkpoint.name, checkpoint.architecture
    room = Room.of(options.memory, device)
    int8 = options.precision == "int8"
    if int8:
        _check_int8(device)
    if int8 or not weights_fit(checkpoint.files, checkpoint.config, dtype, room):
        if architecture is not None and checkpoint.is_safe:
            widths = router_widths(folder, checkpoint.config, architecture, checkpoint.files, name)
            return open_in_parts(
                folder,
                architecture,
                dtype=dtype,
                device=device,
                room=room,
                int8=int8,
                widths=widths,
                tokenizer=_load_tokenizer(folder, name),
                **for_backend,
            )
        if int8 or options.memory is not None:
            reason = "its weights are pickles" if architecture is not None else "its architecture is not a known one"
            raise InputError(
                f"{name!r} cannot be read a layer at a time, as precision='int8' and a limit on memory need: {reason}. "
                "Leave both out to load it whole."
            )
    model = _load_model(folder, name, dtype, device, use_safetensors=checkpoint.is_safe)
    return HuggingFaceBackend(model, _load_tokenizer(folder, name), architecture=architecture, **for_backend)


def _check_int8(device: torch.device) -> None:
    from moee.backends.int8 import is_available

    reason = is_available() if device.type == "cpu" else f"it computes on the CPU, and the device is {device}"
    if reason:
        raise InputError(f"precision='int8' cannot be used here: {reason}. Use precision='exact', the default.")


def register_native(architecture: Architecture | None) -> None:
    """Make our class of an architecture that transformers does not have known to its Auto classes."""
    if architecture is not None and architecture.native is not None:
        module, _, function = architecture.native.partition(":")
        getattr(importlib.import_module(module), function)()


def check_supported(config: dict[str, Any], name: str) -> Architecture | None:
    """Return the row that serves a parsed `config.json`; None if no row does but the model counts experts.

    Raises:
        NoMoELayersError: If the configuration counts no experts.
        UnsupportedArchitectureError: If a row says that the model cannot be used, or it is an encoder-decoder.
    """
    text_config = config.get("text_config")
    types = [str(config.get("model_type", ""))]
    if isinstance(text_config, dict) and "model_type" in text_config:
        types.append(str(text_config["model_type"]))
    for model_type in types:
        row = find_architecture(model_type)
        if row is not None and row.unsupported:
            raise UnsupportedArchitectureError(f"{name!r} ({model_type}) is not supported: {row.unsupported}")
        if row is not None:
            return row
    if config.get("is_encoder_decoder"):
        raise UnsupportedArchitectureError(
            f"{name!r} ({types[0]}) is an encoder-decoder model; only decoders are supported. `moee models` lists them."
        )
    counted = text_config if isinstance(text_config, dict) else config
    if not any(config_value(counted, key) for key in EXPERT_KEYS):
        raise no_moe_layers(name)
    logger.warning("%s: no row for model_type %r; looking for its routers by their shape", name, types[0])
    return None


def choose_dtype_and_device(options: LoadOptions) -> tuple[torch.dtype, torch.device]:
    """Settle dtype and device once.

    Raises:
        InputError: If either is unknown or not available here.
    """
    import torch

    try:
        device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"Device {options.device!r} cannot be used here ({_first_line(error)}). "
            "Choose 'cpu' or a device that `moee doctor` lists."
        ) from error
    if options.dtype is None:
        return (torch.bfloat16 if has_native_bf16(device) else torch.float32), device
    if options.dtype not in DTYPES:
        raise UnknownNameError("dtype", options.dtype, DTYPES)
    return getattr(torch, options.dtype), device


def has_native_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 matrices in hardware; emulated bfloat16 is slower than float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def auto_class(config: Any) -> Any:
    """Return the auto class that builds a configuration: `AutoModel`, or another where upstream has no base model."""
    from transformers import AutoModel, AutoModelForMultimodalLM

    has_base = type(config) in AutoModel._model_mapping  # upstream has no public question for this
    return AutoModel if has_base else AutoModelForMultimodalLM


def _load_model(
    folder: Path, name: str, dtype: torch.dtype, device: torch.device, *, use_safetensors: bool
) -> PreTrainedModel:
    from transformers import AutoConfig

    try:
        with _quiet(folder):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            model, report = auto_class(config).from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                trust_remote_code=False,
                use_safetensors=use_safetensors,
                local_files_only=True,
                output_loading_info=True,
            )
    except KeyError as error:
        known = [each for row in all_architectures() for each in row.model_types]
        raise UnknownNameError(
            "model_type", str(error.args[0]), known, hint="A newer transformers may know it."
        ) from error
    except MoEEError:
        raise  # our own check of a configuration, in our own words
    except (ValueError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{name!r} could not be loaded: {_first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers would fill these with random numbers and only log it
        raise CheckpointError(
            f"{name!r} lacks {len(missing)} tensors that a {type(model).__name__} needs: {', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}. The checkpoint is incomplete or of another architecture."
        )
    return model.to(device)  # type: ignore[no-any-return]  # from_pretrained is untyped upstream


@contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """Hold back what transformers prints while it loads: the unused LM head, and the bar of a small model."""
    from transformers.utils import logging as upstream

    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    verbosity, bars = upstream.get_verbosity(), upstream.is_progress_bar_enabled()
    upstream.set_verbosity_error()
    if size < _BAR_FROM_BYTES:
        upstream.disable_progress_bar()
    try:
        yield
    finally:
        upstream.set_verbosity(verbosity)
        if bars:
            upstream.enable_progress_bar()


def _load_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (ValueError, OSError, KeyError) as error:
        raise CheckpointError(
            f"{name!r} has no usable tokenizer: {_first_line(error)} "
            "Copy tokenizer.json and tokenizer_config.json beside the weights."
        ) from error
    return tokenizer


def backend_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    padding_side: PaddingSide = "right",
    include_attention_routers: bool = False,
) -> Backend:
    """Wrap a model that is already in memory; its weights are shared, not copied.

    Raises:
        NoMoELayersError: If the model is dense.
        UnsupportedArchitectureError: If its routers cannot be found or used.
    """
    from moee.backends.huggingface import HuggingFaceBackend

    config: Any = model.config
    name = str(getattr(config, "_name_or_path", "") or config.model_type)
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
