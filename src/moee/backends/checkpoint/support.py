"""Which model a name means, and whether its architecture can be used: answered before any weight is read."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moee.architectures import Architecture, find_architecture
from moee.backends.checkpoint.config_keys import (
    EXPERT_KEYS,
    check_top_k,
    config_value,
    no_moe_layers,
    text_config_of,
)
from moee.backends.checkpoint.hub import download
from moee.errors import (
    CheckpointError,
    InputError,
    MoEEError,
    UnknownNameError,
    UnsupportedArchitectureError,
    first_line,
    listed,
)
from moee.files.atomic import recover_folder
from moee.memory import parse_size
from moee.method.pooling import PaddingSide

logger = logging.getLogger("moee")


PRECISIONS = ("exact", "int8")
_HUB_ID_PARTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is put into memory.

    Attributes:
        dtype: `"float32"`, `"bfloat16"`, `"float16"`; None is bfloat16 where the device computes it natively, else
            float32.
        device: A torch device; None is the first GPU, else the CPU.
        padding_side: Side of the padding in batches. Vectors do not depend on it; right is faster.
        include_attention_routers: Also read the routers of mixture-of-attention blocks.
        revision: Revision of a hub id.
        local_files_only: Never ask the hub, use what is cached.
        allow_pickle: Load pickle weights, which can run any code that their author put in.
        memory: Memory that the process may take, for example `"4GiB"`, on a GPU the GPU's; None is what is free. A
            model that does not fit is read a layer at a time.
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


def resolve_folder(name: str | Path, options: LoadOptions | None = None) -> Path:
    """Return the folder that holds the model called `name`, building the demo or downloading a hub id if need be."""
    options = options or LoadOptions()
    text = str(name)
    if text in ("demo", "demo-0.1.0"):
        from moee.demo.build import demo_folder

        return demo_folder("portable" if text == "demo" else "0.1.0")
    path = Path(text).expanduser()
    recover_folder(path)
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
    try:
        return download(
            hub_id,
            revision=options.revision,
            local_files_only=options.local_files_only,
            allow_pickle=options.allow_pickle,
        )
    except MoEEError:
        raise
    except (OSError, ValueError) as error:  # hub errors derive from these, connection failures included
        raise CheckpointError(
            f"{hub_id!r} is not a folder here, and it could not be fetched from the hub: {first_line(error)} "
            "Check the name and the connection, or give a local folder. `demo` needs neither."
        ) from error


def register_native(architecture: Architecture | None) -> None:
    """Make known to transformers what it lacks for an architecture: a class, or a rule by which files are read."""
    if architecture is not None and architecture.native is not None:
        module, _, function = architecture.native.partition(":")
        getattr(importlib.import_module(module), function)()


def check_supported(config: dict[str, Any], name: str) -> Architecture | None:
    """Return the row that serves a parsed `config.json`; None if no row does but the model counts experts.

    Raises:
        CheckpointError: If the configuration sends a token to more experts than it counts.
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
            check_top_k(text_config_of(config, row), row, name)
            return row
    if config.get("is_encoder_decoder"):
        raise UnsupportedArchitectureError(
            f"{name!r} ({types[0]}) is an encoder-decoder model; only decoders are supported. `moee models` lists them."
        )
    counted = text_config if isinstance(text_config, dict) else config
    if not any(config_value(counted, key) for key in EXPERT_KEYS):
        raise no_moe_layers(name)
    check_top_k(counted, None, name)
    logger.warning("%s: no row for model_type %r; looking for its routers by their shape", name, types[0])
    return None


def model_config(folder: Path, name: str) -> Any:
    """Return transformers' configuration of a folder: what a model would be built from.

    Args:
        folder: Folder with a `config.json`.
        name: Name of the model, for messages.

    Raises:
        CheckpointError: If the configuration builds no model.
        UnsupportedArchitectureError: If a class of ours would compute it wrongly.
    """
    from transformers import AutoConfig

    with quiet(), building(name):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def incomplete(name: str, model: str, missing: list[str]) -> CheckpointError:
    """Return the error for a checkpoint without some tensors that the class `model` needs."""
    return CheckpointError(
        f"{name!r} lacks {len(missing)} tensors that a {model} needs: {listed(missing)}. "
        "The checkpoint is incomplete or of another architecture."
    )


@contextmanager
def building(name: str) -> Iterator[None]:
    """Name the model when transformers fails to build it from its configuration."""
    try:
        yield
    except MoEEError:
        raise  # in our own words
    except Exception as error:  # classes check their values in many ways
        raise CheckpointError(f"{name!r}: its configuration does not build a model: {first_line(error)}") from error


@contextmanager
def quiet(*, bars: bool = True) -> Iterator[None]:
    """Hold back what transformers prints while it loads, such as notes on an unused head; `bars` keeps its bars."""
    from transformers.utils import logging as upstream

    verbosity, had_bars = upstream.get_verbosity(), upstream.is_progress_bar_enabled()
    upstream.set_verbosity_error()
    if not bars:
        upstream.disable_progress_bar()
    try:
        yield
    finally:
        upstream.set_verbosity(verbosity)
        if had_bars:
            upstream.enable_progress_bar()


def auto_class(config: Any) -> Any:
    """Return the auto class that builds a configuration: `AutoModel`, or another where upstream has no base model.

    The decoder inside a larger model may have no auto class: its own folder is then built by the decoder's class.
    """
    from transformers import AutoModel, AutoModelForMultimodalLM

    # upstream has no public question for this
    if type(config) in AutoModel._model_mapping or type(config) in AutoModelForMultimodalLM._model_mapping:
        return AutoModel if type(config) in AutoModel._model_mapping else AutoModelForMultimodalLM
    decoder = _decoder_class(type(config))
    if decoder is None:
        return AutoModelForMultimodalLM
    AutoModel.register(type(config), decoder, exist_ok=True)
    return AutoModel


def _decoder_class(config_class: type) -> Any:
    """Return the class upstream that takes `config_class` and embeds tokens, the plainest of them; None without one."""
    module = importlib.import_module(config_class.__module__.replace("configuration_", "modeling_"))
    return next(
        (
            value
            for name, value in vars(module).items()
            if name.endswith("TextModel") and getattr(value, "config_class", None) is config_class
        ),
        None,
    )
