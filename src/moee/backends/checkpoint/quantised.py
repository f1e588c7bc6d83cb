"""Checkpoints in 8 or 4 bits: which kind one is, and whether it can be loaded here, told before weights are read."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from moee.errors import CheckpointError, MissingExtraError, first_line

UNPACKED = ("fp8", "mxfp4")
"""Kinds of quantised checkpoints whose weights are made wide again as they come: DeepSeek-V3's and gpt-oss's."""

_PACKAGES = {
    "aqlm": "aqlm",
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "eetq": "kernels",
    "fbgemm_fp8": "fbgemm-gpu",
    "gptq": "gptqmodel and optimum",
    "higgs": "flute-kernel",
    "hqq": "hqq",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "spqr": "spqr_quant",
    "torchao": "torchao",
    "vptq": "vptq",
}
"""What loads a kind of checkpoint, as transformers' own checks name it."""


def quantisation_of(config: Any) -> tuple[Any, dict[str, Any]] | None:
    """Return the part of a configuration that says how weights are quantised, and what it says; None if they are not.

    Args:
        config: transformers' configuration of a model.
    """
    for holder in (config, config.get_text_config(decoder=True)):
        found = getattr(holder, "quantization_config", None) or {}
        if settings := found if isinstance(found, dict) else found.to_dict():
            return holder, dict(settings)
    return None


def check_quantisation(config: Any, name: str) -> None:
    """Ask transformers whether it could load a quantised checkpoint here.

    Raises:
        MissingExtraError: If a package is missing.
        CheckpointError: If the kind is unknown, or this machine cannot run it.
    """
    found = quantisation_of(config)
    if found is None:
        return
    kind = str(found[1].get("quant_method") or ("bitsandbytes" if _is_bitsandbytes(found[1]) else None))
    if kind in UNPACKED:
        return
    from transformers.quantizers.auto import get_hf_quantizer

    ways = "Or get the version of the model in bfloat16, or one in " + " or ".join(UNPACKED)
    try:
        get_hf_quantizer(deepcopy(config), None, None, True, {})
    except ImportError as error:
        package = _PACKAGES.get(kind, kind)
        raise MissingExtraError(
            package,
            f"{name!r}, whose weights are quantised with {kind!r} ({first_line(error)})",
            "",
            command=f"pip install {package.replace(' and ', ' ')}. {ways}.",
        ) from error
    except Exception as error:  # what a kind's own check raises is not stated
        raise CheckpointError(
            f"{name!r} is quantised with {kind!r}, which cannot be loaded here: {first_line(error)} {ways}."
        ) from error


def _is_bitsandbytes(settings: dict[str, Any]) -> bool:
    return bool(settings.get("load_in_4bit") or settings.get("load_in_8bit"))
