"""Look at a checkpoint folder without loading its weights: what is there, is it whole, which model is it."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moee.errors import CheckpointError, InputError, listed, shown
from moee.files.json import parse_json, read_json

SAFETENSORS = ".safetensors"
WHOLE = f"model{SAFETENSORS}"
_INDEX = f"{WHOLE}.index.json"
_ADAPTER_CONFIG = "adapter_config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HEADER_LIMIT = 100_000_000
"""Most bytes of a header; the limit of the safetensors format itself."""
_VOLATILE = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype"})
"""Configuration keys that say where, when or how a checkpoint was written, not what it holds."""
SAMPLE = 64


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a safetensors file.

    Attributes:
        name: Key of the tensor.
        dtype: Name of its type in the file, for example `"BF16"`.
        shape: Lengths of its dimensions.
        file: Where it is.
        start: Place of its first byte in that file.
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
        CheckpointError: If it is missing or not a JSON object, or the folder holds an adapter.
    """
    refuse_adapter(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{str(folder)!r} has no config.json, so it is not a model folder. Give the folder that holds it."
        )
    return _read_object(path)


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file of a model folder holds."""
    refuse_placeholder(path)
    try:
        found = read_json(path, allow_nan=True, allow_double=True)  # as transformers reads what others wrote
    except InputError as error:
        raise CheckpointError(f"{error} Copy the file again.") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{str(path)!r} holds a {type(found).__name__}; a JSON object is expected.")
    return found


def refuse_placeholder(path: Path) -> None:
    """Refuse what a failed download leaves in place of a file.

    Raises:
        CheckpointError: If the file is a Git LFS pointer or a web page.
    """
    with path.open("rb") as file:
        start = file.read(SAMPLE).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{str(path)!r} is a Git LFS pointer, not the file itself. Fetch the file with `git lfs pull` in "
            f"{str(path.parent)!r}, or fetch the model anew with `hf download OWNER/MODEL --local-dir FOLDER`."
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{str(path)!r} is a web page, not the file itself: the download got a page of the site instead. Fetch the "
            "model anew with `hf download OWNER/MODEL --local-dir FOLDER`; some models ask for `hf auth login` first."
        )


def refuse_adapter(folder: Path) -> None:
    """Refuse a folder with an adapter: whether one is applied would depend on what else is installed.

    Raises:
        CheckpointError: If there is an adapter, alone or beside weights.
    """
    settings = folder / _ADAPTER_CONFIG
    weights = sorted(path.name for path in folder.glob("adapter_model*") if path.suffix != ".json")
    if not settings.is_file():
        if weights:
            raise CheckpointError(
                f"{str(folder)!r} holds adapter weights ({weights[0]}) without their {_ADAPTER_CONFIG}, so they cannot "
                "be merged into the model. Copy that file too and merge them, or take the weights out of the folder."
            )
        return
    base = _read_object(settings).get("base_model_name_or_path") or "its base model"
    merge = (
        f'python -c "from peft import AutoPeftModelForCausalLM as M; M.from_pretrained({str(folder)!r})'
        ".merge_and_unload().save_pretrained('MERGED')\""
    )
    if (folder / "config.json").is_file():
        raise CheckpointError(
            f"{str(folder)!r} holds an adapter for {base!r} ({', '.join([_ADAPTER_CONFIG, *weights])}) beside a model; "
            f"it would count or not by what is installed. Merge it with {merge} and copy the tokenizer's files there; "
            "or take the adapter's files out of the folder to embed with the model alone."
        )
    raise CheckpointError(
        f"{str(folder)!r} is an adapter for {base!r}, not a model. Merge the two with {merge} and copy the tokenizer's "
        "files there, or give the base model alone."
    )


def index_file(folder: Path) -> Path | None:
    """Return the file that says which tensor is in which safetensors file; None if the folder has none.

    `model.safetensors.index.json` comes first; a variant such as `model.fp16.safetensors.index.json` counts if it is
    the only index and there is no `model.safetensors`.
    """
    index = folder / _INDEX
    if index.is_file():
        return index
    others = [] if (folder / WHOLE).is_file() else sorted(folder.glob(f"*{SAFETENSORS}.index.json"))
    return others[0] if len(others) == 1 else None


def indexed_names(index: Path) -> list[str]:
    """Return the names of the weight files that an index names, each once, in order.

    Raises:
        CheckpointError: If the index is damaged, or names what is no weight file of its folder.
    """
    read = _read_object(index)
    places = read.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(
            f'{str(index)!r} is not a readable shard index: it needs an object "weight_map" from tensor names to file '
            f"names, and has {_named(places)}. Copy the file again."
        )
    if not isinstance(read.get("metadata"), dict):
        raise CheckpointError(
            f'{str(index)!r} has no object "metadata", without which transformers does not read it. Copy the file '
            'again, or add "metadata": {} to it.'
        )
    for tensor, name in places.items():
        if not isinstance(name, str) or not name.endswith(SAFETENSORS) or not _is_inside(name):
            raise CheckpointError(
                f"{str(index)!r} puts the tensor {tensor!r} into {_named(name)}; a {SAFETENSORS} file of the same "
                "folder is expected. Copy the file again from where the model was published."
            )
    return sorted(set(places.values()))


def _indexed_files(index: Path) -> list[Path]:
    folder, names = index.parent, indexed_names(index)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{str(folder)!r} lacks {len(missing)} of {len(names)} weight files that its index names: "
            f"{listed(missing)}. Download or copy them again."
        )
    return [folder / name for name in names]


def _is_inside(name: str) -> bool:
    """Whether a name in an index leads to a file of its folder, on any system."""
    return not re.search(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:", name)


def _named(value: object) -> str:
    return "null" if value is None else f"{shown(value)} ({type(value).__name__})"


def weight_files(folder: Path, *, allow_pickle: bool = False) -> list[Path]:
    """Return the files that hold a folder's weights; one rule, whether they are loaded whole or a layer at a time.

    These are the safetensors files that the index names; without an index `model.safetensors`, else the only
    safetensors file, whatever its name; else pickles, if they are allowed.

    Raises:
        CheckpointError: If there are none, if they are not these, or if there are only pickles.
    """
    refuse_adapter(folder)
    if index := index_file(folder):
        return _indexed_files(index)
    files = sorted(folder.glob(f"*{SAFETENSORS}"))
    if folder / WHOLE in files:
        return [folder / WHOLE]
    if len(files) == 1:
        return files
    if files:
        raise CheckpointError(
            f"{str(folder)!r} holds {len(files)} weight files ({listed([each.name for each in files])}), but neither "
            f"{WHOLE} nor {_INDEX}, which says what is where. Copy the index too, or leave one file with all weights."
        )
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles and allow_pickle:
        for each in pickles:
            refuse_placeholder(folder / each)
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
    refuse_placeholder(path)
    total = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= min(total - 8, _HEADER_LIMIT):
                raise ValueError(f"its header claims {length} bytes")
            header = parse_json(file.read(length).decode("utf-8"), "its header")
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
    return digest(config, _samples(files))


def digest(config: Mapping[str, Any], samples: Iterable[tuple[bytes, Iterable[bytes]]]) -> str:
    """Return the fingerprint of a configuration and of samples, each after its `facts`, in the order of names."""
    found = hashlib.sha256()
    found.update(json.dumps({k: v for k, v in config.items() if k not in _VOLATILE}, sort_keys=True).encode())
    for known, parts in samples:
        found.update(known)
        for part in parts:
            found.update(part)
    return found.hexdigest()[:16]


def facts(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return what a fingerprint holds of a tensor besides samples."""
    return f"{name} {dtype} {shape}\n".encode()


def _samples(files: list[Path]) -> Iterator[tuple[bytes, list[bytes]]]:
    for path in files:
        if path.suffix != SAFETENSORS:
            with path.open("rb") as pickled:
                yield hashlib.file_digest(pickled, "sha256").digest(), []
    with ExitStack() as stack:
        opened: dict[Path, Any] = {}
        entries = tensor_entries([path for path in files if path.suffix == SAFETENSORS])
        for entry in sorted(entries, key=lambda each: each.name):
            if entry.file not in opened:
                opened[entry.file] = stack.enter_context(entry.file.open("rb"))
            yield facts(entry.name, entry.dtype, entry.shape), list(_bytes(entry, opened[entry.file]))


def _bytes(entry: TensorEntry, file: Any) -> Iterator[bytes]:
    for position in (entry.start, entry.start + entry.size // 2):
        file.seek(position)
        yield file.read(min(SAMPLE, entry.start + entry.size - position))
