"""Arrays with facts about them in one safetensors file: statistics, reducers and codecs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from moee.errors import CalibrationError, CheckpointError, InputError
from moee.files.atomic import atomic_file
from moee.files.json import parse_json


def write_arrays(
    path: Path, kind: str, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], *, version: int
) -> None:
    """Write arrays and JSON-ready facts, whole or not at all.

    Raises:
        OutputError: If the file cannot be written.
    """
    about = json.dumps({**facts, "format_version": version})
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_file(path) as temporary:
        # the library's own writing turns a full disk into an error of its own kind
        temporary.write_bytes(save(contiguous, metadata={f"moee_{kind}": about}))


def read_arrays(  # noqa: PLR0913 - what a kind of file is, said once by each
    path: Path,
    kind: str,
    *,
    arrays: Sequence[str],
    facts: Sequence[str],
    version: int,
    error: type[CalibrationError | CheckpointError],
    advice: str,
    optional: Mapping[str, Any] = MappingProxyType({}),
    optional_arrays: Sequence[str] = (),
) -> dict[str, Any]:
    """Read what `write_arrays` wrote.

    Args:
        path: The file.
        kind: What it was written as.
        arrays: Names of the arrays that it must hold.
        facts: Names of the facts that it must hold.
        version: Newest format that this program reads.
        error: Raised if the file cannot be used.
        advice: What to do then, a sentence.
        optional: Facts that older files lack, with their values there.
        optional_arrays: Arrays that a file may hold; those that it lacks are left out.

    Returns:
        The values of all names.

    Raises:
        CalibrationError, CheckpointError: As `error`, if the file is missing, damaged, or of another version.
    """
    try:
        found: dict[str, Any] = load_file(path)
        with safe_open(path, framework="numpy") as handle:
            about = parse_json((handle.metadata() or {})[f"moee_{kind}"], "Its description")
        if about["format_version"] in range(1, version + 1):
            held = [*arrays, *(name for name in optional_arrays if name in found)]
            values = {name: found[name] for name in held} | {name: about[name] for name in facts}
            return values | {name: about.get(name, value) for name, value in optional.items()}
    except (OSError, SafetensorError, KeyError, TypeError, InputError) as cause:
        raise error(
            f"{str(path)!r} is not a readable {kind} file ({type(cause).__name__}: {cause}). {advice}"
        ) from cause
    raise error(
        f"{str(path)!r} has {kind} format {about['format_version']!r}; this program reads formats up to {version}. "
        f"Update moee, or: {advice}"
    )
