"""Where a model runs and in which number format: settled once, before it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moee.backends.checkpoint.support import LoadOptions
from moee.errors import InputError, UnknownNameError, first_line

if TYPE_CHECKING:
    import torch


DTYPES = ("float32", "bfloat16", "float16")


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
            f"Device {options.device!r} cannot be used here ({first_line(error)}). "
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
