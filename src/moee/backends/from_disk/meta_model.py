"""The model of a checkpoint without memory for its weights, and the rules that turn stored tensors into them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping

from moee.backends.checkpoint.quantised import UNPACKED, quantisation_of
from moee.backends.checkpoint.support import auto_class, building, model_config, quiet
from moee.backends.forward.huggingface import text_model_of
from moee.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class MetaModel:
    """A model on the meta device.

    Attributes:
        whole: Model as `from_pretrained` would build it.
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
        folder: Folder with a `config.json`.
        name: Name of the checkpoint, for messages.
        dtype: Type of the weights.

    Raises:
        CheckpointError: If the configuration builds no model, or its weights are quantised in a way that cannot be
            undone layer by layer.
    """
    config = model_config(folder, name)
    with quiet(), building(name):
        quantizer = _quantizer(config, name)
        with torch.device("meta"):
            model: PreTrainedModel = auto_class(config).from_config(config, dtype=dtype, trust_remote_code=False)
        if quantizer is not None:
            quantizer.preprocess_model(model, dtype=dtype, device_map=None, checkpoint_files=[], use_kernels=False)
        found = MetaModel.of(model, quantizer)
        if quantizer is not None:
            quantizer.postprocess_model(model)  # takes the mark of a quantised model off
    return found


def _quantizer(config: Any, name: str) -> Any:
    """Return what undoes the quantisation of a checkpoint, set to do so; None if it is not quantised."""
    quantised = quantisation_of(config)
    if quantised is None:
        return None
    from transformers.quantizers.auto import get_hf_quantizer

    holder, settings = quantised
    kind = settings.get("quant_method")
    if kind not in UNPACKED:
        raise CheckpointError(
            f"{name!r} is quantised with {kind!r}, which can only be loaded whole. Get the version in bfloat16, or one "
            f"of these kinds: {', '.join(UNPACKED)}; or load it without a limit on memory."
        )
    holder.quantization_config = {**settings, "dequantize": True}
    quantizer, _, _ = get_hf_quantizer(config, None, None, True, {})
    return quantizer
