"""Build the demo checkpoint into the cache, once, and check it by hash.

torch and transformers load only when there is something to build.
"""

from __future__ import annotations

import gzip
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.carve.report import CarveReport
from moee.demo.weights import FETCH_LINE, GGUF_SHA256, check_sha256, find_gguf
from moee.errors import CheckpointError, OutputError
from moee.files.atomic import atomic_folder, cache_dir

if TYPE_CHECKING:
    from moee.carve.checkpoint import Form
    from moee.carve.plan import CarvePlan
    from moee.demo.gguf import DemoSource

ASSETS = Path(__file__).parent / "assets"
PLAN_NAME, MANIFEST_NAME, HELDBACK_NAME = "plan.safetensors", "manifest.json", "heldback.jsonl.gz"
FORMAT_VERSION = 1

SOURCE_NAME = "SmolLM2-135M-Instruct (Q4_1)"
DTYPE = "bfloat16"

FORMER_DIGEST = "7a6cec0480015cf9fc3d621e84b2233dd65269b648198177e266fd46bd3276ea"
"""Digest of the tensors that version 0.1.0 built from the same plan."""
FORMER_PERPLEXITY = 77.21681410272065

_STAMP_NAME = "moee_demo.json"
_WEIGHTS_NAME = "model.safetensors"


logger = logging.getLogger("moee")


def demo_folder(form: Form = "portable") -> Path:
    """Return the folder of the demo checkpoint; build it first if it is not in the cache.

    Building takes well under a minute, reads nothing from the network, and is safe in several processes at once: each
    builds in a folder of its own, and the first to finish puts its result in place.

    Args:
        form: `"0.1.0"` for the checkpoint that this version built: on 500 sentences the cosine of its hidden states
            to today's is 0.998 or more.

    Returns:
        A folder that `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load.

    Raises:
        MissingExtraError: If `gguf` is not installed; gives the install line.
        CheckpointError: If the weights are not on this machine, which gives the line that fetches them, or they or the
            shipped plan are not those this version was made with.
        OutputError: If the cache folder cannot be written.
    """
    manifest, report = _read_manifest(), demo_report(form)
    target = cache_dir() / f"demo-{report.tensors_sha256[:12]}"
    if not _is_complete(target, report.tensors_sha256):
        _build_into_cache(target, manifest, report, form)
    return target


def demo_report(form: Form = "portable") -> CarveReport:
    """Return what was measured when the demo was carved."""
    report = CarveReport.from_json(_read_manifest()["report"])
    if form == "portable":
        return report
    return replace(report, tensors_sha256=FORMER_DIGEST, perplexity_carved=FORMER_PERPLEXITY)


def heldback_texts() -> list[str]:
    """Return the texts that the report's perplexities were measured on; they were in no calibration text.

    Sources and licences are in `assets/heldback.jsonl.gz`, one JSON object a line.
    """
    with gzip.open(ASSETS / HELDBACK_NAME, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def write_demo(folder: Path, plan: CarvePlan, source: DemoSource, form: Form = "portable") -> str:
    """Write the checkpoint and its tokenizer into an existing folder; return the digest of its tensors."""
    import torch

    from moee.carve.checkpoint import moe_config, moe_tensors, write_checkpoint
    from moee.demo.gguf import dense_config, dense_tensors, save_tokenizer

    dtype: torch.dtype = getattr(torch, DTYPE)
    # dequantised arrays may be read-only views of the file, which torch warns about
    dense = ((name, torch.from_numpy(values.copy())) for name, values in dense_tensors(source))
    config = moe_config(dense_config(source), plan, dtype=dtype, form=form)
    digest = write_checkpoint(folder, config, moe_tensors(dense, plan, dtype=dtype, form=form))
    save_tokenizer(source, folder)
    return digest


def _read_manifest() -> dict[str, Any]:
    path = ASSETS / MANIFEST_NAME
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"Cannot read {str(path)!r}: {error}. Install moee again.") from error
    if manifest.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{str(path)!r} has another format version than {FORMAT_VERSION}. Install moee again.")
    return manifest


def _is_complete(folder: Path, digest: str) -> bool:
    """Tell from the stamp, written last, and the size of the weights; hashing them would take a second each time."""
    try:
        stamp = json.loads((folder / _STAMP_NAME).read_text(encoding="utf-8"))
        size = (folder / _WEIGHTS_NAME).stat().st_size
    except (OSError, ValueError):
        return False
    return bool(stamp == {"tensors_sha256": digest, "weights_bytes": size})


def _build_into_cache(target: Path, manifest: dict[str, Any], report: CarveReport, form: Form) -> None:
    gguf = find_gguf()
    logger.info("building the embedded default model into %s: once, under a minute", target.parent)
    check_sha256(gguf, GGUF_SHA256, f"Fetch it with: {FETCH_LINE}")
    check_sha256(ASSETS / PLAN_NAME, str(manifest["plan_sha256"]), "Install moee again.")
    try:
        # where two processes build at once, the folder in place may be in use and stays
        with atomic_folder(target, keep=lambda folder: _is_complete(folder, report.tensors_sha256)) as folder:
            _build(folder, gguf, report, form)
    except OutputError as error:
        raise OutputError(
            f"Cannot build the demo model, which takes 0.3 GB: {error} MOEE_CACHE names the folder of the cache."
        ) from error


def _build(folder: Path, gguf: Path, report: CarveReport, form: Form) -> None:
    from moee.carve.plan import CarvePlan
    from moee.demo.gguf import open_gguf

    digest = write_demo(folder, CarvePlan.load(ASSETS / PLAN_NAME), open_gguf(gguf), form)
    if digest != report.tensors_sha256:
        raise CheckpointError(
            f"The demo model built here has the digest {digest}, expected {report.tensors_sha256}: the numeric "
            "libraries gave other weights. Please report this with the output of `moee doctor`."
        )
    report.write(folder)
    stamp = {"tensors_sha256": digest, "weights_bytes": (folder / _WEIGHTS_NAME).stat().st_size}
    (folder / _STAMP_NAME).write_text(json.dumps(stamp) + "\n", encoding="utf-8")
