"""A name to a running backend: the embedded default, a folder, a hub id, or a model already in memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.architectures import Architecture, all_architectures
from moee.backends.base import Backend
from moee.backends.checkpoint import headers
from moee.backends.checkpoint.support import LoadOptions, auto_class, check_supported, register_native, resolve_folder
from moee.backends.devices import choose_dtype_and_device
from moee.backends.fake import FakeBackend
from moee.backends.forward.out_of_memory import naming_the_knobs
from moee.errors import (
    CheckpointError,
    InputError,
    MoEEError,
    UnknownNameError,
    first_line,
)
from moee.method.pooling import PaddingSide

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger("moee")

_BAR_FROM_BYTES = 2_000_000_000


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
    architecture: Architecture | None
    files: list[Path]

    @property
    def is_safe(self) -> bool:
        """Whether its weights are safetensors."""
        return self.files[0].suffix == headers.SAFETENSORS


def _open_folder(folder: Path, name: str, options: LoadOptions) -> Backend:
    config = headers.read_config(folder)
    architecture = check_supported(config, name)
    files = headers.weight_files(folder, allow_pickle=options.allow_pickle)
    checkpoint = _Checkpoint(folder, name, config, architecture, files)
    identity = headers.fingerprint(config, files)
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
    from moee.backends.choose import Room, open_in_parts, weights_fit
    from moee.backends.forward.huggingface import HuggingFaceBackend
    from moee.backends.summary import router_widths

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
        raise CheckpointError(f"{name!r} could not be loaded: {first_line(error)}") from error
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
            f"{name!r} has no usable tokenizer: {first_line(error)} "
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
    from moee.backends.forward.huggingface import HuggingFaceBackend

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
