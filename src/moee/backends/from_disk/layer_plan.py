"""Which tensors of a checkpoint make which weights of a model, settled from file headers before a weight is read.

transformers decides this while it loads a whole model: names change, and the tensors of single experts are merged. The
same rules (`transformers.core_model_loading`) are asked here once, so that the weights of one decoder layer can be
made later, on their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from moee.backends.checkpoint.headers import TensorEntry
from moee.backends.checkpoint.support import incomplete
from moee.backends.from_disk.meta_model import MetaModel
from moee.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Source = tuple[str | None, TensorEntry]
"""A tensor of the files, and the pattern of the conversion rule that claims it; None if it is only renamed."""
Load = Callable[[TensorEntry, torch.dtype], torch.Tensor]
Fill = tuple[TensorEntry, int]
"""A tensor of the files, and where its first element goes in a weight that is laid out in rows."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
if hasattr(torch, "float8_e8m0fnu"):  # since torch 2.7
    _DTYPES["F8_E8M0"] = torch.float8_e8m0fnu
_EXPERT_MATRICES = frozenset({"gate_up_proj", "up_proj", "down_proj"})


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """How one or several weights are made.

    Attributes:
        targets: Names of the weights in the model.
        shape: Shape of the first one.
        dtype: What the tensors of the files are cast to, and the weights are held in.
        sources: The tensors that are needed, in the order the rule wants them.
        fills: Where each tensor goes, if the weight is a plain arrangement of them: they are read straight into place.
            None if the rule has to be run.
        rule: transformers' conversion rule; None if the tensor is only renamed.
    """

    targets: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    sources: tuple[Source, ...]
    fills: tuple[Fill, ...] | None
    rule: Any

    def convert(self, model: PreTrainedModel, load: Load) -> dict[str, torch.Tensor]:
        """Run the rule.

        Args:
            model: The whole model; some rules look up its sizes.
            load: Returns a tensor of the files in a dtype.

        Returns:
            Weights by name.
        """
        rule = deepcopy(self.rule)  # it collects tensors in itself
        # a rule that undoes a quantisation wants the packed numbers
        is_packed = any(getattr(step, "hf_quantizer", None) for step in rule.operations)
        for pattern, entry in self.sources:
            value = load(entry, file_dtype(entry) if is_packed else self.dtype)
            rule.add_tensor(self.targets[0], entry.name, pattern, value)
        made = rule.convert(self.targets[0], model=model, config=model.config)
        weights = {name: value[0] if isinstance(value, list) else value for name, value in made.items()}
        # it leaves what is not quantised as it was
        return {name: value.to(self.dtype) for name, value in weights.items()} if is_packed else weights


def file_dtype(entry: TensorEntry) -> torch.dtype:
    """Return the dtype of a tensor in its file.

    Raises:
        CheckpointError: If it is not one that torch has.
    """
    if entry.dtype not in _DTYPES:
        raise CheckpointError(
            f"{str(entry.file)!r}: the tensor {entry.name!r} is stored as {entry.dtype!r}, which cannot be read here. "
            f"Known: {', '.join(_DTYPES)}. Convert the checkpoint, or get it in another format."
        )
    return _DTYPES[entry.dtype]


@dataclass(frozen=True, slots=True)
class Precision:
    """What weights are held in.

    Attributes:
        dtype: Type of everything that the model does not fix otherwise.
        experts: Names of the experts' matrices that stay as the file has them, unless that is wider than `dtype`.
        fixed: Parts of names, and the dtype that the model wants for the weights that have them.
    """

    dtype: torch.dtype
    experts: frozenset[str]
    fixed: Mapping[str, torch.dtype]

    @classmethod
    def of(cls, model: PreTrainedModel, dtype: torch.dtype, *, keep_experts: bool) -> Precision:
        """Read it from a model: the experts' matrices it has, and the weights it keeps in float32."""
        experts = _expert_matrices(model) if keep_experts else frozenset()
        # upstream has no public question for this; from_pretrained asks the same
        return cls(
            dtype, experts, {part.replace("*", ".*"): each for part, each in model._get_dtype_plan(dtype).items()}
        )

    def held(self, target: str, weight: torch.Tensor, sources: Iterable[Source]) -> torch.dtype:
        """Return the dtype of one weight, from the model's empty `weight` and what the file has."""
        for part, dtype in self.fixed.items():
            if re.search(part, target):
                return dtype
        if target in self.experts:
            stored = {file_dtype(entry) for _, entry in sources}
            only = stored.pop()
            if not stored and only.is_floating_point and only.itemsize <= self.dtype.itemsize:
                return only
        return weight.dtype


def _expert_matrices(model: PreTrainedModel) -> frozenset[str]:
    """Return the names of the fused matrices of all experts modules, `(experts, rows, columns)` each."""
    return frozenset(
        f"{path}.{name}"
        for path, module in model.named_modules()
        if hasattr(module, "is_concatenated")
        for name, parameter in module.named_parameters(recurse=False)
        if name in _EXPERT_MATRICES and parameter.dim() == 3
    )


def plan_weights(
    meta: MetaModel, entries: Mapping[str, TensorEntry], precision: Precision, *, name: str
) -> list[Recipe]:
    """Settle how the weights of a text model are made; nothing else of the checkpoint is planned.

    Args:
        meta: The model.
        entries: Headers of all weight files, by tensor name.
        precision: What the weights are held in.
        name: Name of the checkpoint, for messages.

    Returns:
        Recipes that together make every weight of the text model that the files hold.

    Raises:
        CheckpointError: If tensors are missing, of another shape, or stored in an unknown format.
    """
    model, prefix = meta.whole, meta.prefix
    weights = {key: value for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    claims = {
        target: (rule, sources)
        for target, (rule, sources) in _claims(meta, entries, weights).items()
        if target.startswith(prefix) or rule is not None
    }
    # a router tells another number of experts better than a list of single experts that lack
    for target, (rule, sources) in claims.items():
        if rule is None:
            _check_shape(name, target, sources[0][1].shape, tuple(weights[target].shape))
    recipes = [
        _recipe(model, weights, target, sources, rule, precision=precision, name=name)
        for target, (rule, sources) in claims.items()
    ]
    recipes = [each for each in recipes if any(target.startswith(prefix) for target in each.targets)]
    made = {target for each in recipes for target in each.targets}
    ignored = model._keys_to_ignore_on_load_missing or ()
    missing = sorted(
        key
        for key in weights
        if key.startswith(prefix) and key not in made and not any(re.search(each, key) for each in ignored)
    )
    if missing:
        raise incomplete(name, type(model).__name__, missing)
    return recipes


def _claims(
    meta: MetaModel, entries: Mapping[str, TensorEntry], weights: dict[str, torch.Tensor]
) -> dict[str, tuple[Any, list[Source]]]:
    """Return, by the name of a weight, the rule that makes it and the tensors of the files it is made of."""
    renamings = [rule for rule in meta.rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in meta.rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    prefix = meta.whole.base_model_prefix
    claims: dict[str, tuple[Any, list[Source]]] = {}
    # in this order the experts of a layer come by number, and some renamings rely on it
    for key in sorted(entries, key=dot_natural_key):
        target, pattern = rename_source_key(key, renamings, converters, prefix, weights)
        if target not in weights and key in weights:
            target, pattern = rename_source_key(key, [], [], prefix, weights)
        if target not in weights:
            continue  # an LM head, a vision tower, layers that predict ahead
        rule = None if pattern is None else by_pattern[pattern]
        first, sources = claims.setdefault(target, (rule, []))
        # the first claim decides, as upstream
        if rule is first and not (rule is None and sources):
            sources.append((pattern, entries[key]))
    return claims


def _recipe(
    model: PreTrainedModel,
    weights: Mapping[str, torch.Tensor],
    target: str,
    sources: list[Source],
    rule: Any,
    *,
    precision: Precision,
    name: str,
) -> Recipe:
    shape = tuple(weights[target].shape)
    dtype = precision.held(target, weights[target], sources)
    if gaps := _gaps(rule, sources, shape):
        raise incomplete(name, type(model).__name__, gaps)
    fills = _fills(rule, sources, shape)
    recipe = Recipe((target,), shape, dtype, tuple(sources), fills, rule)
    if fills is not None:
        return recipe
    try:
        made = recipe.convert(model, lambda entry, kind: torch.empty(entry.shape, dtype=kind, device="meta"))
    except Exception as error:  # a rule of any architecture; what it raises is not stated
        raise CheckpointError(
            f"{name!r}: {target!r} cannot be made of the {len(sources)} tensors that the files have for it, "
            f"{sources[0][1].name!r} first ({error}). The checkpoint is incomplete or of another architecture."
        ) from error
    for key, value in made.items():
        if key in weights:
            _check_shape(name, key, tuple(value.shape), tuple(weights[key].shape))
    return Recipe(tuple(key for key in made if key in weights), shape, dtype, tuple(sources), None, rule)


def _check_shape(name: str, target: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        raise CheckpointError(
            f"{name!r}: the files give {target!r} the shape {found}, but the model needs {wanted}. "
            "Its config.json belongs to other weights, or the checkpoint is incomplete or of another architecture."
        )


def _gaps(rule: Any, sources: list[Source], shape: tuple[int, ...]) -> list[str]:
    """Return the names of single experts' tensors that the files lack while they have those of other experts."""
    if rule is None or type(rule.operations[0]) is not MergeModulelist or not shape:
        return []
    gaps: list[str] = []
    for pattern in rule.source_patterns:
        names = [entry.name.split(".") for claimed, entry in sources if claimed == pattern]
        numbered = [number for number, part in enumerate(names[0]) if part.isdigit()] if names else []
        if numbered:
            here = numbered[-1]
            found = {int(parts[here]) for parts in names}
            others = (set(range(shape[0])) - found) if len(found) == len(names) else set()
            gaps.extend(".".join([*names[0][:here], str(each), *names[0][here + 1 :]]) for each in sorted(others))
    return gaps


def _fills(rule: Any, sources: list[Source], shape: tuple[int, ...]) -> tuple[Fill, ...] | None:
    """Return where each tensor goes, if `rule` only puts them side by side and they fill `shape`; else None."""
    if rule is None:
        entry = sources[0][1]
        return ((entry, 0),) if entry.shape == shape else None
    steps = [(type(step), getattr(step, "dim", None)) for step in rule.operations]
    groups = [[entry for claimed, entry in sources if claimed == pattern] for pattern in rule.source_patterns]
    groups = [group for group in groups if group]
    if steps == [(Concatenate, 0)]:
        return _side_by_side([entry for group in groups for entry in group], shape)
    merges = steps == [(MergeModulelist, 0)] and len(groups) == 1
    joins = steps == [(MergeModulelist, 0), (Concatenate, 1)] and len(groups) > 1
    if not (merges or joins) or any(len(group) != shape[0] for group in groups):
        return None
    fills: list[Fill] = []
    row = math.prod(shape[1:])
    for number, each in enumerate(zip(*groups, strict=True)):
        parts = _side_by_side(list(each), shape[1:])
        if parts is None:
            return None
        fills.extend((entry, number * row + start) for entry, start in parts)
    return tuple(fills)


def _side_by_side(entries: list[TensorEntry], shape: tuple[int, ...]) -> tuple[Fill, ...] | None:
    """Return where tensors go that are joined along the first dimension; None if they do not fill `shape`."""
    if any(entry.shape[1:] != shape[1:] or len(entry.shape) != len(shape) for entry in entries):
        return None
    if sum(entry.shape[0] for entry in entries) != shape[0]:
        return None
    row = math.prod(shape[1:])
    starts = [row * sum(entry.shape[0] for entry in entries[:number]) for number in range(len(entries))]
    return tuple(zip(entries, starts, strict=True))
