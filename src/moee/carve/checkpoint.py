"""Dense weights and a plan to a `qwen2_moe` checkpoint, as a stream of tensors, and its files.

The algebra that makes it equal to the dense layer when every expert runs: the block computes
sigmoid(g x) * shared(x) + sum of w_e * expert_e(x), where w is the softmax over all experts. The gate g is nearly zero
and the router's rows are small, so the sigmoid is 1/2 and every weight nearly 1 / num_experts: the shared down
projection is doubled and the experts' are multiplied by `num_experts`.

The form is the one that transformers, vLLM and llama.cpp all read. llama.cpp takes the weights as the softmax gives
them, whatever `norm_topk_prob` says, computes the sigmoid as silu(z) / z, which is NaN at zero, and has no output
matrix but the file's own; vLLM leaves biases of query, key and value uninitialised that the file does not hold.
Version 0.1.0 wrote another form, which only transformers reads: see `Form`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from moee.carve.plan import CarvePlan
from moee.errors import CheckpointError, InputError, OutputError, UnsupportedArchitectureError

Form = Literal["portable", "0.1.0"]
"""How a checkpoint is written down.

`"portable"` is the form above. `"0.1.0"` is that of this version, for vectors that were made with it: weights of the
chosen experts that are made to sum to 1, so down projections times `top_k`; a gate of exactly zero; no biases or output
matrix that the dense model lacks.
"""

SUPPORTED = ("llama", "qwen2")
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_COPIED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_parameters", "initializer_range",
    "use_sliding_window", "sliding_window", "max_window_layers", "layer_types",
    "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
CONFIG_NAME = "config.json"
_SHARD_BYTES = 4 * 1024**3
_FFN = re.compile(r"(model\.layers\.(\d+)\.mlp)\.(gate|up|down)_proj\.weight")
_BIASED = re.compile(r"(model\.layers\.\d+\.self_attn\.[qkv]_proj)\.(weight|bias)")
_EMBEDDING, _OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
_SHARED_GATE = 1e-6  # the sigmoid stays within 1e-3 of 1/2 up to inputs that add up to 4,000; the demo's to 36


def check_dense(config: Mapping[str, Any]) -> None:
    """Refuse configurations that cannot be carved.

    Raises:
        InputError: If the model is a Mixture of Experts already.
        UnsupportedArchitectureError: If it is of no supported family, or has biases that `qwen2_moe` cannot hold.
    """
    model_type = config.get("model_type")
    for key in _EXPERT_COUNTS:
        if config.get(key):
            raise InputError(
                f"This {model_type!r} model is a Mixture of Experts already ({key} = {config[key]}). "
                "It needs no carving: embed with it as it is."
            )
    if model_type not in SUPPORTED:
        raise UnsupportedArchitectureError(
            f"Cannot carve a model of type {model_type!r}. Dense checkpoints of these types can be carved: "
            f"{', '.join(SUPPORTED)}."
        )
    if model_type == "llama" and (config.get("attention_bias") or config.get("mlp_bias")):
        raise UnsupportedArchitectureError(
            "This 'llama' model has biases in attention or feed-forward layers (attention_bias or mlp_bias is true), "
            "which a qwen2_moe checkpoint cannot hold. Llama models without them, and Qwen2 models, can be carved."
        )


def moe_config(
    dense: Mapping[str, Any], plan: CarvePlan, *, dtype: torch.dtype, form: Form = "portable"
) -> dict[str, Any]:
    """Return the `config.json` values of the carved model."""
    portable = form == "portable"
    copied = {key: dense[key] for key in _COPIED if dense.get(key) is not None}
    return {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        **copied,
        "dtype": str(dtype).removeprefix("torch."),
        # Qwen2 always has biases on query, key and value; Llama has none
        "qkv_bias": portable or dense["model_type"] == "qwen2",
        "tie_word_embeddings": not portable and dense.get("tie_word_embeddings", False),
        "intermediate_size": int(plan.neuron_order.shape[1]),
        "num_experts": plan.num_experts,
        "num_experts_per_tok": plan.top_k,
        "moe_intermediate_size": plan.expert_size,
        "shared_expert_intermediate_size": plan.shared_neurons,
        "norm_topk_prob": not portable,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def moe_tensors(
    dense: Iterable[tuple[str, torch.Tensor]], plan: CarvePlan, *, dtype: torch.dtype, form: Form = "portable"
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of the carved checkpoint, one expert's matrix at a time.

    Biases of query, key and value that the dense model lacks are zeros; an output matrix that it shares with the
    embedding is written out.

    Args:
        dense: Names and tensors of the dense checkpoint, in any order; streamed, never held together.
        plan: Plan for a model of these sizes.
        dtype: Type of every tensor yielded; arithmetic is done in float32 before.
        form: The form that `moe_config` was given.

    Raises:
        CheckpointError: If a tensor's size does not fit the plan.
    """
    lacking = _Lacking()
    for name, tensor in dense:
        lacking.see(name, tensor)
        match = _FFN.fullmatch(name)
        if match is None:
            yield name, tensor.to(dtype).contiguous()
            continue
        for part, values in _split(tensor, plan, prefix=match[1], layer=int(match[2]), kind=match[3], form=form):
            yield part, values.to(dtype).contiguous()
    for name, tensor in lacking.tensors() if form == "portable" else ():
        # a copy: safetensors refuses two names for the same memory
        yield name, tensor.to(dtype, copy=True).contiguous()


class _Lacking:
    """What the carved form holds and a dense checkpoint may not: known when all of its tensors have been seen."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._seen: set[str] = set()
        self._embedding: torch.Tensor | None = None

    def see(self, name: str, tensor: torch.Tensor) -> None:
        self._seen.add(name)
        if name == _EMBEDDING:
            self._embedding = tensor
        elif (match := _BIASED.fullmatch(name)) is not None and match[2] == "weight":
            self._rows[f"{match[1]}.bias"] = len(tensor)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, rows in self._rows.items():
            if name not in self._seen:
                yield name, torch.zeros(rows)
        if self._embedding is not None and _OUTPUT not in self._seen:
            yield _OUTPUT, self._embedding


def _split(
    tensor: torch.Tensor, plan: CarvePlan, *, prefix: str, layer: int, kind: str, form: Form
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parts of one feed-forward matrix; with the gate matrix also the routers, which are per layer."""
    num_layers, neurons = plan.neuron_order.shape
    axis = 1 if kind == "down" else 0
    if layer >= num_layers or tensor.shape[axis] != neurons:
        raise CheckpointError(
            f"{prefix}.{kind}_proj.weight has shape {tuple(tensor.shape)}; the plan is for {num_layers} layers of "
            f"{neurons} neurons. Use a plan made from this model."
        )
    factor, gate = (plan.num_experts, _SHARED_GATE) if form == "portable" else (plan.top_k, 0.0)
    shared = torch.from_numpy(plan.shared(layer))
    yield f"{prefix}.shared_expert.{kind}_proj.weight", _take(tensor, shared, axis, factor=2.0)
    for expert, members in enumerate(torch.from_numpy(plan.experts(layer))):
        yield (
            f"{prefix}.experts.{expert}.{kind}_proj.weight",
            _take(tensor, members, axis, factor=float(factor)),
        )
    if kind == "gate":
        yield f"{prefix}.gate.weight", plan.routers[layer].float() * plan.router_scale
        yield f"{prefix}.shared_expert_gate.weight", torch.full((1, tensor.shape[1]), gate)


def _take(tensor: torch.Tensor, neurons: torch.Tensor, axis: int, *, factor: float) -> torch.Tensor:
    """Select neurons; scale them where they leave the layer, in the down projection (axis 1)."""
    taken = tensor.index_select(axis, neurons)
    return taken.float() * factor if axis == 1 else taken


def write_checkpoint(folder: Path, config: Mapping[str, Any], tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Write `config.json` and safetensors files (in shards above 4 GiB) into an existing folder.

    Returns:
        The digest of the tensors, see `TensorDigest`.

    Raises:
        OutputError: If the folder cannot be written.
    """
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    digest, shards = TensorDigest(), _Shards(folder)
    for name, tensor in tensors:
        digest.add(name, tensor)
        shards.add(name, tensor)
    shards.close()
    return digest.hexdigest()


class TensorDigest:
    """A SHA-256 over names, dtypes, shapes and bytes of tensors, whatever their order and the files they lie in."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Take one tensor in."""
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        content = hashlib.sha256(flat.numpy().data).hexdigest()
        self._lines.append(f"{name} {tensor.dtype} {tuple(tensor.shape)} {content}\n")

    def hexdigest(self) -> str:
        """Return the digest of all tensors so far."""
        return hashlib.sha256("".join(sorted(self._lines)).encode()).hexdigest()


class _Shards:
    """Collects tensors and writes a file whenever enough are there; the final names need the number of shards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._total_bytes = 0
        self._written: list[tuple[Path, list[str]]] = []

    def add(self, name: str, tensor: torch.Tensor) -> None:
        if self._pending and self._pending_bytes + tensor.nbytes > _SHARD_BYTES:
            self._flush()
        self._pending[name] = tensor
        self._pending_bytes += tensor.nbytes
        self._total_bytes += tensor.nbytes

    def _flush(self) -> None:
        path = self._folder / f"shard-{len(self._written)}.safetensors"
        try:
            save_file(self._pending, path, metadata={"format": "pt"})
        except (SafetensorError, OSError) as error:
            raise OutputError(f"Cannot write {str(path)!r}: {error}. Check that the disk has room.") from error
        # safetensors makes files that only their owner can read; give them what any new file gets
        shutil.copymode(self._folder / CONFIG_NAME, path)
        self._written.append((path, list(self._pending)))
        self._pending, self._pending_bytes = {}, 0

    def close(self) -> None:
        """Write the rest, give the files their final names, and the index if there are several."""
        self._flush()
        if len(self._written) == 1:
            self._written[0][0].rename(self._folder / "model.safetensors")
            return
        weight_map: dict[str, str] = {}
        for number, (path, names) in enumerate(self._written, start=1):
            final = path.rename(self._folder / f"model-{number:05d}-of-{len(self._written):05d}.safetensors")
            weight_map |= dict.fromkeys(names, final.name)
        index = {"metadata": {"total_size": self._total_bytes}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (self._folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
