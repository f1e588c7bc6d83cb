"""Look at a checkpoint folder without loading its weights: what is there, is it whole, which model is it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moee.errors import CheckpointError

SAFETENSORS = ".safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HEADER_LIMIT = 100_000_000
"""Bytes; the limit of the safetensors format itself."""
_VOLATILE = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype"})
"""Configuration keys that say where, when or how a checkpoint was written, not what it holds."""
_SAMPLE = 64


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a safetensors file.

    Attributes:
        name: Its key.
        dtype: As the file spells it, for example `"BF16"`.
        shape: Its shape.
        file: Where it is.
        start: Its first byte in that file.
        size: Bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int


def read_config(folder: Path) -> dict[str, Any]:
    """Return the parsed `config.json` of a model folder.

    Raises:
        CheckpointError: If it is missing or not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{str(folder)!r} has no config.json, so it is not a model folder. Give the folder that holds it."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{str(path)!r} is not valid JSON ({error}). Copy the file again.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{str(path)!r} holds a {type(config).__name__}; a JSON object is expected.")
    return config


def weight_files(folder: Path, *, allow_pickle: bool = False) -> list[Path]:
    """Return the safetensors files of a folder, in order; its pickles if it has no others and they are allowed.

    Raises:
        CheckpointError: If there are none, if a shard that the index names is missing, or if there are only pickles.
    """
    index = folder / _INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"{str(index)!r} is not a readable shard index ({error}). Copy the file again."
            ) from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{str(folder)!r} lacks {len(missing)} of {len(names)} weight files that its index names: "
                f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}. Download or copy them again."
            )
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles and allow_pickle:
        return [folder / name for name in pickles]
    if pickles:
        raise CheckpointError(
            f"{str(folder)!r} holds only pickle weights ({pickles[0]}), and loading a pickle can run any code. "
            "Get the safetensors version, or convert it on a machine you trust; "
            "allow_pickle=True loads it all the same."
        )
    raise CheckpointError(
        f"{str(folder)!r} has a config.json but no *.safetensors weights. Download or copy them again."
    )


def tensor_entries(files: list[Path]) -> Iterator[TensorEntry]:
    """Read the headers of safetensors files.

    Raises:
        CheckpointError: If a header is unreadable or a file is shorter than its header promises.
    """
    for path in files:
        for name, entry, start in _header(path):
            begin, end = entry["data_offsets"]
            yield TensorEntry(name, entry["dtype"], tuple(entry["shape"]), path, start + begin, end - begin)


def _header(path: Path) -> list[tuple[str, Any, int]]:
    total = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= min(total - 8, _HEADER_LIMIT):
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
        entries = [(name, entry, 8 + length) for name, entry in header.items() if name != "__metadata__"]
        promised = 8 + length + max((entry["data_offsets"][1] for _, entry, _ in entries), default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{str(path)!r} is corrupt: {error}. Download or copy it again.") from error
    if total < promised:
        raise CheckpointError(
            f"{str(path)!r} is cut short: {total} bytes, but its header promises {promised}. Download or copy it again."
        )
    return entries


def fingerprint(config: Mapping[str, Any], files: list[Path]) -> str:
    """Identify a checkpoint by its configuration, its tensors' names and shapes, and a sample of each one's bytes.

    Independent of the folder's name, of how tensors are spread over shards, and of the program that wrote them. A few
    bytes of every tensor tell fine-tuned weights from their base without reading gigabytes. A pickle has no header to
    sample by, so it is read whole.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps({k: v for k, v in config.items() if k not in _VOLATILE}, sort_keys=True).encode())
    by_file: dict[Path, Any] = {}
    try:
        for path in files:
            if path.suffix != SAFETENSORS:
                with path.open("rb") as pickled:
                    digest.update(hashlib.file_digest(pickled, "sha256").digest())
        entries = tensor_entries([path for path in files if path.suffix == SAFETENSORS])
        for entry in sorted(entries, key=lambda each: each.name):
            file = by_file.get(entry.file)
            if file is None:
                file = by_file[entry.file] = entry.file.open("rb")
            digest.update(f"{entry.name} {entry.dtype} {entry.shape}\n".encode())
            for position in (entry.start, entry.start + entry.size // 2):
                file.seek(position)
                digest.update(file.read(min(_SAMPLE, entry.start + entry.size - position)))
    finally:
        for file in by_file.values():
            file.close()
    return digest.hexdigest()[:16]
