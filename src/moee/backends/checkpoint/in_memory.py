"""Which weights a model in memory has: those of its folder, or else those that a folder would hold if it were saved."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.backends.checkpoint import headers
from moee.backends.checkpoint.support import LoadOptions, model_config, quiet, resolve_folder
from moee.errors import InputError, MoEEError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_COMPARED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Dtypes by the spelling of safetensors. Tensors of fewer bits are not compared, for their values are packed."""
_SPELT = {name: spelt for spelt, name in _COMPARED.items()} | {
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{"float64": "F64", "uint8": "U8", "bool": "BOOL", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
}
"""How safetensors spells the dtypes of torch."""
_DIMS_OF_EXPERTS = 3
_MOST_COPIED = 4 << 30
"""Bytes of fused experts that are taken apart to be compared: about a second."""
_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_DECIDES_NOTHING = re.compile(
    "_.*|architectures|transformers_version|torch_dtype|dtype|use_cache|return_dict|output_.*|.*_token_id|id2label|"
    "label2id|problem_type|is_encoder_decoder|initializer_range|.*dropout.*|.*pdrop|.*jitter.*|.*(aux|z)_loss.*"
)
"""Keys of a configuration on which no vector depends: they are about training, heads, answers or who wrote the file."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model is in memory.

    Attributes:
        fingerprint: The fingerprint of a folder with these weights and this configuration.
        source: A folder or hub id that holds them; None if they are in memory alone.
    """

    fingerprint: str
    source: str | None


def identify(model: PreTrainedModel) -> Identity:
    """Find out whether a model is still what its folder holds; if not, give what `save_pretrained` would write a name.

    A model is what its folder holds if the configuration says the same in all that decides vectors, and samples of its
    weights are those of the files, cast to the dtype in memory.
    """
    source = str(getattr(model.config, "_name_or_path", "") or "")
    folder = _folder(source) if source else None
    if folder is not None and (found := _fingerprint_if_same(model, folder)) is not None:
        return Identity(found, str(folder.resolve()) if Path(source).expanduser().is_dir() else source)
    return Identity(_fingerprint_as_saved(model), None)


def _folder(source: str) -> Path | None:
    try:
        return resolve_folder(source, LoadOptions(local_files_only=True))
    except MoEEError:
        return None  # it was moved, or never was a folder


def _fingerprint_if_same(model: PreTrainedModel, folder: Path) -> str | None:
    try:
        config, files = headers.read_config(folder), headers.weight_files(folder)
        expected = model_config(folder, str(folder))
        same = any(_deciding(each.to_dict()) == _deciding(model.config.to_dict()) for each in _with_text(expected))
        if not same or not _has_weights_of(model, files):
            return None
        return headers.fingerprint(config, files)
    except MoEEError:
        return None  # what lies there now is no whole checkpoint


def _with_text(config: Any) -> tuple[Any, Any]:
    return config, config.get_text_config(decoder=True)


def _deciding(values: Any) -> Any:
    """Leave out of a configuration what decides no vector."""
    if isinstance(values, Mapping):
        return {str(key): _deciding(each) for key, each in values.items() if not _DECIDES_NOTHING.fullmatch(str(key))}
    return [_deciding(each) for each in values] if isinstance(values, list | tuple) else values


def _has_weights_of(model: PreTrainedModel, files: list[Path]) -> bool:
    """Whether samples of the weights are those of the files, of the experts in a few layers."""
    entries = {entry.name: entry for entry in headers.tensor_entries(files) if entry.dtype in _COMPARED}
    prefix: str | None = None
    for name, tensor in _as_saved(model, few_experts=True):
        if not tensor.is_floating_point():
            continue
        if prefix is None:  # a base model's names lack what a file with a head puts before them
            prefix = next((each.removesuffix(name) for each in entries if f".{each}".endswith(f".{name}")), None)
        entry = entries.get(f"{prefix}{name}")
        if entry is not None and (entry.shape != tuple(tensor.shape) or not _is_same(entry, tensor)):
            return False
    return prefix is not None


def _is_same(entry: headers.TensorEntry, tensor: torch.Tensor) -> bool:
    import torch

    stored = getattr(torch, _COMPARED[entry.dtype])
    with entry.file.open("rb") as file:
        for start in (0, tensor.numel() // 2):
            mine = _flat(tensor, start, headers.SAMPLE)
            file.seek(entry.start + start * stored.itemsize)
            theirs = torch.frombuffer(bytearray(file.read(len(mine) * stored.itemsize)), dtype=stored)
            if not torch.equal(theirs.to(mine.dtype), mine):
                return False
    return True


def _flat(tensor: torch.Tensor, start: int, count: int) -> torch.Tensor:
    """Return a few values of a tensor in their order in a file, `(count,)` or fewer, on the CPU."""
    import torch

    places = torch.arange(start, min(start + count, tensor.numel()), device=tensor.device)
    if not tensor.dim():
        return tensor.detach().reshape(-1)[places].cpu()
    return tensor.detach()[torch.unravel_index(places, tensor.shape)].cpu()


def _fingerprint_as_saved(model: PreTrainedModel) -> str:
    """Compute `headers.fingerprint` of the folder that `save_pretrained` would write, without writing it."""
    config = json.loads(model.config.to_json_string(use_diff=True)) | {"architectures": [type(model).__name__]}
    samples = []
    for name, tensor in _as_saved(model):
        dtype = str(tensor.dtype).removeprefix("torch.")
        facts = headers.facts(name, _SPELT.get(dtype, dtype), tuple(tensor.shape))
        samples.append((name, facts, list(_bytes(tensor))))
    return headers.digest(config, ((facts, parts) for _, facts, parts in sorted(samples)))


def _bytes(tensor: torch.Tensor) -> Iterator[bytes]:
    """Yield the bytes that `headers.fingerprint` reads of a tensor's file."""
    import torch

    size, width = tensor.numel() * tensor.element_size(), tensor.element_size()
    for place in (0, size // 2):
        first = place // width
        values = _flat(tensor, first, math.ceil(headers.SAMPLE / width) + 1).contiguous()
        skipped = place - first * width
        yield bytes(values.view(torch.uint8).numpy()[skipped : skipped + min(headers.SAMPLE, size - place)])


def _as_saved(model: PreTrainedModel, *, few_experts: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors that `save_pretrained` would write, by their names in files.

    transformers takes fused matrices apart on the way, which copies them: a layer is dealt with at a time.

    Args:
        model: A model in memory.
        few_experts: Leave fused experts out, if they are many, but for the first, the middle and the last layer.
    """
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    state = dict(model.state_dict())
    for name in model._keys_to_ignore_on_save or ():
        state.pop(name, None)
    state = remove_tied_weights_from_state_dict(state, model)
    groups: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        found = _LAYER.search(name)
        groups.setdefault(int(found[1]) if found else -1, {})[name] = tensor
    fused = sorted(number for number, group in groups.items() if any(map(_may_be_experts, group.values())))
    size = sum(each.nbytes for each in state.values() if _may_be_experts(each))
    whole = {fused[place] for place in (0, len(fused) // 2, -1)} if size > _MOST_COPIED else set(fused)
    with quiet():
        for number, group in groups.items():
            left_out = few_experts and number not in whole
            taken = {name: each for name, each in group.items() if not (left_out and _may_be_experts(each))}
            here = {name: _brought(model, name) if each.device.type == "meta" else each for name, each in taken.items()}
            yield from revert_weight_conversion(model, here).items()


def _brought(model: PreTrainedModel, name: str) -> torch.Tensor:
    """Return a weight that accelerate keeps elsewhere."""
    from transformers.integrations.accelerate import load_offloaded_parameter

    try:
        return load_offloaded_parameter(model, name)
    except (ValueError, AttributeError, KeyError, TypeError) as error:  # no hook, or one of another kind
        raise InputError(
            f"The weight {name!r} is on the meta device: the model is built, and its weights were never loaded. Load "
            "it with from_pretrained."
        ) from error


def _may_be_experts(tensor: torch.Tensor) -> bool:
    return tensor.dim() == _DIMS_OF_EXPERTS
