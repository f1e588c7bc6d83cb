"""The model of a checkpoint without memory for its weights, and the rules that turn stored tensors into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping

from moee.backends.checkpoint.support import auto_class
from moee.backends.forward.huggingface import text_model_of
from moee.errors import CheckpointError, MoEEError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNPACKED = ("fp8", "mxfp4")
"""Kinds of quantised checkpoints whose weights are made wide again as they come: DeepSeek-V3's and gpt-oss's."""


@dataclass(frozen=True, slots=True)
class MetaModel:
    """A model on the meta device.

    Attributes:
        whole: As `from_pretrained` would build it.
        text: The decoder inside it, without a head.
        prefix: Path of `text` in `whole`, with a dot behind; empty if they are the same.
        rules: transformers' rules that make the weights of `whole` from the tensors of its checkpoints, in order.
            `Any`: classes of `transformers.core_model_loading`.
    """

    whole: PreTrainedModel
    text: PreTrainedModel
    prefix: str
    rules: tuple[Any, ...]

    @classmethod
    def of(cls, model: PreTrainedModel, quantizer: Any = None) -> MetaModel:
        """Look at a model; `quantizer` is transformers' own for a quantised checkpoint."""
        text = text_model_of(model)
        path = next(path for path, module in model.named_modules() if module is text)
        return cls(model, text, f"{path}." if path else "", tuple(get_model_conversion_mapping(model, None, quantizer)))


def build_on_meta(folder: Path, name: str, dtype: torch.dtype) -> MetaModel:
    """Build the model that `from_pretrained` would.

    Args:
        folder: With a `config.json`.
        name: Of the checkpoint, for messages.
        dtype: Of the weights.

    Raises:
        CheckpointError: If the configuration builds no model, or its weights are quantised in a way that cannot be
            undone layer by layer.
    """
    from transformers import AutoConfig

    try:
        with _quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            quantizer = _quantizer(config, name)
            with torch.device("meta"):
                model: PreTrainedModel = auto_class(config).from_config(config, dtype=dtype, trust_remote_code=False)
            if quantizer is not None:
                quantizer.preprocess_model(model, dtype=dtype, device_map=None, checkpoint_files=[], use_kernels=False)
            found = MetaModel.of(model, quantizer)
            if quantizer is not None:
                quantizer.postprocess_model(model)  # takes the mark of a quantised model off
    except MoEEError:
        raise  # in our own words
    except (ImportError, KeyError, ValueError, OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{name!r}: its configuration does not build a model: {reason}") from error
    return found


def _quantizer(config: Any, name: str) -> Any:
    """Return what undoes the quantisation of a checkpoint, set to do so; None if it is not quantised."""
    holders = [each for each in (config, config.get_text_config(decoder=True)) if _settings(each)]
    if not holders:
        return None
    from transformers.quantizers.auto import get_hf_quantizer

    settings = dict(_settings(holders[0]))
    kind = settings.get("quant_method")
    if kind not in UNPACKED:
        raise CheckpointError(
            f"{name!r} is quantised with {kind!r}, which can only be loaded whole. Get the version in bfloat16, or one "
            f"of these kinds: {', '.join(UNPACKED)}; or load it without a limit on memory."
        )
    holders[0].quantization_config = {**settings, "dequantize": True}
    quantizer, _, _ = get_hf_quantizer(config, None, None, True, {})
    return quantizer


def _settings(config: Any) -> Any:
    settings = getattr(config, "quantization_config", None) or {}
    return settings if isinstance(settings, dict) else settings.to_dict()


@contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging as upstream

    verbosity = upstream.get_verbosity()
    upstream.set_verbosity_error()
    try:
        yield
    finally:
        upstream.set_verbosity(verbosity)
