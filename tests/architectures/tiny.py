"""Small random models of every architecture row, built once per `model_type` and shared by the tests."""

from __future__ import annotations

import importlib
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import transformers
from packaging.version import Version
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING, PreTrainedModel
from transformers.models.auto.configuration_auto import model_type_to_module_name

from moee.architectures import Architecture, all_architectures, architecture_for
from moee.backends.checkpoint.config_keys import config_value
from moee.backends.forward.huggingface import WINDOW_KEYS, HuggingFaceBackend, text_model_of
from moee.backends.forward.routers import RouterSite, decoder_layers, find_routers, submodule
from moee.method.pooling import PaddingSide
from moee.method.routing import native_scores
from moee.types import Array

VOCAB = 64
_EVERY_ROW_FROM = "5.23"
"""Release of transformers that has every architecture; older ones lack the newest models."""


def _is_here(row: Architecture) -> bool:
    is_known = row.native is not None or all(name in CONFIG_MAPPING for name in row.model_types)
    assert is_known or Version(transformers.__version__) < Version(_EVERY_ROW_FROM), (
        f"{row.model_types} is not upstream"
    )
    return is_known


SUPPORTED = [name for row in all_architectures() if not row.unsupported and _is_here(row) for name in row.model_types]
"""Every `model_type` that the installed transformers can build and a row serves."""
WRAPPERS = [
    name for row in all_architectures() if not row.unsupported for name in row.wrappers if name in CONFIG_MAPPING
]
SEQUENCES: tuple[tuple[int, ...], ...] = tuple(
    tuple(int(token) for token in np.random.default_rng(length).integers(3, VOCAB - 1, length))
    for length in (5, 1, 12, 9)
)
"""Texts of unequal length, one of a single token; ids below the tiny models' vocabulary."""

_NO_SPECIAL_TOKENS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


def tiny_config(model_type: str) -> Any:
    """Return the small configuration of one `model_type`, as its row states it."""
    row = architecture_for(model_type)
    if row.native:
        module, function = row.native.split(":")
        getattr(importlib.import_module(module), function)()
    config = CONFIG_MAPPING[model_type](**{"vocab_size": VOCAB, **_NO_SPECIAL_TOKENS, **row.tiny})
    if hasattr(config, "initializer_range"):
        config.initializer_range = 0.1  # the usual 0.02 makes tokens so alike that a wrong mask would pass
    config.use_cache = False
    return config


def _text_model_class(config: Any) -> type[PreTrainedModel]:
    """Find the decoder class of a text configuration that no auto class maps."""
    folder = model_type_to_module_name(config.model_type)
    module = importlib.import_module(type(config).__module__.replace("configuration_", "modeling_"))
    named = [
        value
        for name, value in vars(module).items()
        if name.endswith("TextModel") and getattr(value, "config_class", None) is type(config)
    ]
    assert named, f"no class of {folder} takes {type(config).__name__}"
    # subclasses come after the plain decoder in every file upstream generates
    return named[0]  # type: ignore[no-any-return]


def build(config: Any) -> PreTrainedModel:
    """Build the fullest text model of a configuration: with a head where there is one, as a checkpoint would load."""
    for mapping in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING):
        if type(config) in mapping:
            return mapping[type(config)](config)  # type: ignore[no-any-return]
    return _text_model_class(config)(config)


@cache
def tiny_model(model_type: str, window: int | None = None) -> PreTrainedModel:
    """Return the shared small random model of one `model_type`, in evaluation mode.

    Args:
        model_type: Name in a row of the table.
        window: Tokens that its windowed layers see; None is what the row says, few enough to matter to `SEQUENCES`.
    """
    config = tiny_config(model_type)
    for key in WINDOW_KEYS if window else ():
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, window)
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(model_type.encode()))
        model = build(config)
        spread(model, architecture_for(model_type))
    return model.float().eval()


@torch.no_grad()
def spread(model: PreTrainedModel, row: Architecture) -> None:
    """Give routers and correction biases values that tell experts apart; many of them start at zero."""
    text_model = text_model_of(model)
    # Gemma's routers shrink their input by a learned scale and by 1 / sqrt(hidden_size)
    gain = 20 if row.reads == "probabilities" else 1
    for site in find_routers(text_model, row, include_attention_routers=True):
        for parameter in site.module.parameters():
            scale = 0.3 if parameter.dim() == 1 else gain * 1.5 / parameter.shape[-1] ** 0.5
            parameter.normal_(0.0, scale)
    for layer in decoder_layers(text_model, row) if row.bias else ():
        bias: Any = submodule(layer, row.bias)
        if bias is not None:
            bias.normal_(0.0, 0.2)


def backend_for(model_type: str, *, padding_side: PaddingSide = "right", **options: Any) -> HuggingFaceBackend:
    """Open the shared tiny model. It has no tokenizer: tests pass token ids."""
    return HuggingFaceBackend(
        tiny_model(model_type),
        None,  # type: ignore[arg-type]
        name=model_type,
        fingerprint="tiny",
        architecture=architecture_for(model_type),
        padding_side=padding_side,
        **options,
    )


def wide_backend_for(model_type: str, *, padded: bool = False) -> HuggingFaceBackend:
    """Open the tiny model with windows that no text of the tests fills; `padded` runs texts as rows all the same."""
    row = architecture_for(model_type)
    return HuggingFaceBackend(
        tiny_model(model_type, window=64),
        None,  # type: ignore[arg-type]
        name=model_type,
        fingerprint="tiny",
        architecture=replace(row, packs=False) if padded else row,
    )


# --- what the model itself did -------------------------------------------------------------------------------------


@dataclass
class Trace:
    """What one router and its experts did with the tokens of one text.

    Attributes:
        logits: As the row reads them, `(tokens, num_experts)`; probabilities are left as they are.
        experts: The experts that were run, `(tokens, top_k)`, ascending in each row.
        weights: What their outputs were weighed by, in the same order; None where the block does not show it.
    """

    logits: Array
    experts: npt.NDArray[np.int64] | None = None
    weights: Array | None = None

    def read(self, values: Any, top_k: int) -> None:
        """Take the experts, and the weights beside them, from a call's arguments or a router's output."""
        shape = (len(self.logits), top_k)
        tensors = [
            value.detach().reshape(shape)
            for value in values
            if isinstance(value, torch.Tensor) and value.shape[-1:] == shape[1:] and value.numel() == shape[0] * top_k
        ]
        index = next((each for each in tensors if not each.is_floating_point()), None)
        weights = next((each for each in tensors if each.is_floating_point()), None)
        if index is not None:
            order = index.argsort(dim=-1)
            self.experts = index.gather(-1, order).numpy().astype(np.int64)
            self.weights = None if weights is None else np.array(weights.gather(-1, order).float().numpy())


def _jetmoe_selection(output: Any) -> npt.NDArray[np.int64]:
    """Undo the grouping: `batch_index` names the token of every slot, `expert_size` cuts slots into experts."""
    _, batch_index, _, expert_size, logits = output
    experts = np.repeat(np.arange(len(expert_size)), expert_size)
    tokens = batch_index.numpy()
    return np.stack([np.sort(experts[tokens == token]) for token in range(len(logits))])


def _llama4_selection(output: Any) -> npt.NDArray[np.int64]:
    """Every expert runs; those not chosen get an input scaled by exactly 0."""
    scores = output[0].detach()
    return np.stack([row.nonzero().flatten().numpy() for row in scores])


def _zaya_selection(output: Any) -> npt.NDArray[np.int64]:
    """The skip choice, the last class, is handed on as expert 0 with weight 0."""
    logits, weights, index, _ = output
    return torch.where(weights == 0, logits.shape[-1] - 1, index).numpy()


SELECTION: dict[str, Callable[[Any], npt.NDArray[np.int64]]] = {
    "JetMoeTopKGating": _jetmoe_selection,
    "Llama4Router": _llama4_selection,
    "ZayaRouter": _zaya_selection,
}
"""By router class: how to read the experts used from its output, where neither it nor the experts get an index."""


def _trace_router(site: RouterSite, output: Any) -> Trace:
    value = output if site.output is None else output[site.output]
    trace = Trace(np.array(value.detach().reshape(-1, value.shape[-1]).float().numpy()))
    if (read := SELECTION.get(type(site.module).__name__)) is not None:
        trace.experts = read(output)
    elif isinstance(output, tuple):
        trace.read(output, site.top_k)
    return trace


def _experts_modules(backend: HuggingFaceBackend, site: RouterSite) -> list[nn.Module]:
    if type(site.module).__name__ in SELECTION:
        return []
    block = backend.text_model.get_submodule(site.path.rsplit(".", 1)[0])
    return [module for name, module in block.named_modules() if name.rsplit(".", 1)[-1] == "experts"]


@contextmanager
def tracing(backend: HuggingFaceBackend) -> Iterator[dict[str, Trace]]:
    """Record, by router path, what every router returned and which experts its block ran. One unpadded text only.

    What the experts were called with counts; a router's own index is taken only where they get none.
    """
    traces: dict[str, Trace] = {}
    handles = []

    def watch_router(site: RouterSite) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            traces[site.path] = _trace_router(site, output)

        return hook

    def watch_experts(site: RouterSite) -> Any:
        def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
            traces[site.path].read([*args, *kwargs.values()], site.top_k)

        return hook

    try:
        for site in backend.sites:
            handles.append(site.module.register_forward_hook(watch_router(site)))
            for module in _experts_modules(backend, site):
                handles.append(module.register_forward_pre_hook(watch_experts(site), with_kwargs=True))
        yield traces
    finally:
        for handle in handles:
            handle.remove()


def native_weights(backend: HuggingFaceBackend, row: Architecture, path: str, trace: Trace) -> Array:
    """Return our native scores of the experts that a router chose, `(tokens, top_k)`, scaled to sum to 1."""
    site = next(each for each in backend.sites if each.path == path)
    assert trace.experts is not None
    scores = native_scores(read_logits(row, trace), backend.info.scoring_func, site.top_k)
    chosen = np.take_along_axis(scores, trace.experts, axis=-1)
    return np.asarray(chosen / chosen.sum(axis=-1, keepdims=True))


def used_weights(backend: HuggingFaceBackend, path: str, trace: Trace) -> Array:
    """Return what a block weighed its experts by, `(tokens, top_k)`, scaled to sum to 1.

    Gemma multiplies every expert's output by a learned number besides, which is no part of a token's routing.
    """
    site = next(each for each in backend.sites if each.path == path)
    assert trace.experts is not None
    assert trace.weights is not None, f"nothing showed how {path} weighs experts"
    weights = trace.weights
    if hasattr(site.module, "per_expert_scale"):
        weights = weights / site.module.per_expert_scale.detach().numpy()[trace.experts]
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def read_logits(row: Architecture, trace: Trace) -> Array:
    """Return what the capture makes of a router's output: logits, whatever it returns."""
    return np.log(trace.logits) if row.reads == "probabilities" else trace.logits


def without_load_balancing(row: Architecture) -> list[Architecture]:
    """Return the row without its correction bias, and without its group limit; nothing for a row that has neither."""
    rows = [replace(row, bias=None)] if row.bias else []
    return [*rows, replace(row, groups=None)] if row.groups else rows


@dataclass(frozen=True, slots=True)
class GroupLimit:
    """Selection restricted to the best groups of experts (DeepSeek-V2 and V3).

    Attributes:
        num_groups: Experts are split evenly, in order, into this many groups.
        top_groups: How many groups may be chosen from.
        group_score: A group counts as its best expert (`max`, V2) or its two best (`top2_sum`, V3).
        closed_score: What an expert of a closed group counts as; minus infinity leaves it out for certain.
    """

    num_groups: int
    top_groups: int
    group_score: Literal["max", "top2_sum"] = "top2_sum"
    closed_score: float = -math.inf


def select_experts(choice_scores: Array, top_k: int, groups: GroupLimit | None = None) -> npt.NDArray[np.int64]:
    """Return the `top_k` experts of each row, sorted by index, after the group limit if there is one.

    Args:
        choice_scores: `(batch, num_experts)`, correction bias already added.
        top_k: Experts per token.
        groups: The model's group limit.

    Returns:
        `(batch, top_k)` int64, ascending in each row.
    """
    scores = np.asarray(choice_scores, dtype=np.float64)
    if groups is not None and groups.num_groups > 1:
        grouped = scores.reshape(len(scores), groups.num_groups, -1)
        best_first = -np.sort(-grouped, axis=-1)
        worth = best_first[..., 0] if groups.group_score == "max" else best_first[..., :2].sum(axis=-1)
        open_groups = np.argsort(-worth, axis=-1)[:, : groups.top_groups]
        is_open = np.zeros(worth.shape, dtype=bool)
        np.put_along_axis(is_open, open_groups, True, axis=1)
        scores = np.where(is_open[:, :, None], grouped, groups.closed_score).reshape(scores.shape)
    return np.sort(np.argsort(-scores, axis=-1, kind="stable")[:, :top_k], axis=-1)


def group_limit(row: Architecture, config: Any) -> GroupLimit | None:
    """Return the group limit that a configuration sets, if its row knows one."""
    if row.groups is None:
        return None
    count, top, kind = row.groups
    if config_value(config, count) is None:
        return None
    return GroupLimit(config_value(config, count), config_value(config, top), kind, row.closed_score)


def expected_experts(backend: HuggingFaceBackend, row: Architecture, path: str, logits: Array) -> npt.NDArray[np.int64]:
    """Recompute the selection of one router from captured logits: our native scores, its bias, its group limit."""
    site = next(each for each in backend.sites if each.path == path)
    scores = native_scores(logits, row.scoring_func, site.top_k)
    if row.bias:
        layer = decoder_layers(backend.text_model, row)[site.layer_id]
        bias: Any = submodule(layer, row.bias)
        values = bias.detach().float().reshape(-1).numpy()
        assert np.abs(values).max() > 0, "a zero bias would hide a wrong selection"
        scores = (logits if row.bias_on == "logits" else scores) + values
    return select_experts(scores, site.top_k, group_limit(row, backend.text_model.config))
