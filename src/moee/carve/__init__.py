"""Turn a dense LLM into a Mixture-of-Experts checkpoint by splitting its feed-forward layers, without training.

After MoEfication (arXiv 2110.01786), LLaMA-MoE (2406.16554) and CMoE (2502.04416). The routing that results decides
what is computed, but no gradient has shaped it; say so beside any number measured on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moee.carve.config import CarveConfig
from moee.carve.report import CarveReport

__all__ = ["CarveConfig", "CarveReport", "carve"]


def carve(
    dense: str | Path,
    out: Path,
    *,
    texts: Sequence[str],
    config: CarveConfig | None = None,
    progress: bool = False,
) -> CarveReport:
    """Write a `qwen2_moe` checkpoint that computes what a dense Llama or Qwen2 model computes, in part.

    The folder holds safetensors in the published per-expert layout, `config.json`, the tokenizer, the plan
    (`carve/plan.safetensors`), the report (`carve_report.json`) and a model card. It appears whole or not at all;
    an existing folder of that name is replaced.

    Args:
        dense: A folder with safetensors, or a `.gguf` file (needs the extra `gguf`).
        out: The folder to write.
        texts: Calibration text in the languages and of the kinds the model will embed. A part that the configuration
            sets aside is held back and used for nothing but the report.
        config: Sizes, seed and token counts; the defaults if None.
        progress: Show progress bars on stderr.

    Returns:
        What was measured: also in the folder as `carve_report.json`.

    Raises:
        InputError: If the model is a Mixture of Experts already, the sizes do not divide, or the text is too short.
        UnsupportedArchitectureError: If the model is neither of the Llama nor of the Qwen2 family.
        CheckpointError: If the checkpoint is missing, incomplete or corrupt.
        MissingExtraError: If a `.gguf` file is given without the extra `gguf`.
        OutputError: If the folder cannot be written.
    """
    # torch loads here and not with the package, so that `moee carve --help` answers at once
    from moee.carve.pipeline import run

    return run(dense, out, texts=texts, config=config or CarveConfig(), progress=progress)
