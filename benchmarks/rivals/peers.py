"""The peers, each used as its own documentation has it, on the prompts and weights that ours runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.architectures import architecture_for
from moee.bench.entries import Computed, Entry, centred, prompts_of
from moee.bench.weights import Setup, Weights
from moee.bench.work import cost_of
from moee.memory import available_bytes
from moee.types import Array

if TYPE_CHECKING:
    import torch

ORIGINAL_BATCH = 128
_BATCH = 32
_SHARE = 0.8
"""Share of the free memory that a batch of the original way may take."""
_GGUF_BATCH = 2048


class _Peer:
    """What peers have in common: nothing is counted, and the batch holds a number of texts. See `Runner`."""

    def __init__(self, tokenizer: Any, batch: int, notes: str = "") -> None:
        self._tokenizer = tokenizer
        self._batch = batch
        self._notes = notes

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Runner`."""
        ids: list[list[int]] = self._tokenizer(prompts_of(texts), verbose=False)["input_ids"]
        return ids

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Runner`. Nothing is left to settle."""

    @property
    def facts(self) -> dict[str, Any]:
        """See `Runner`."""
        return {"batch_texts": self._batch} | ({"notes": self._notes} if self._notes else {})

    def take_work(self) -> dict[str, int] | None:
        """See `Runner`."""
        return None

    def passes(self, texts: Sequence[str]) -> int:
        """See `Runner`."""
        return -(-len(texts) // self._batch)


class Original(_Peer):
    """The way of the paper's public code; see `open_original`."""

    def __init__(self, weights: Weights, tokenizer: Any) -> None:
        notes = "" if weights.head is None else "transformers has no head for this class: one of random numbers is run"
        super().__init__(tokenizer, ORIGINAL_BATCH, notes)
        tokenizer.padding_side = "left"
        tokenizer.pad_token_id = 0
        self._weights, self._model = weights, weights.whole
        self._widths: list[int] = []

    def encode(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """See `Runner`."""
        prompts = prompts_of(texts)
        parts = [self._run(prompts[start : start + self._batch]) for start in range(0, len(prompts), self._batch)]
        return np.concatenate([hidden for hidden, _ in parts]), np.concatenate([routing for _, routing in parts])

    def prepare(self, texts: Sequence[str]) -> None:
        """Halve the batch until what it keeps fits in memory; the report says how many texts it has."""
        self._batch, free = ORIGINAL_BATCH, available_bytes()
        if free is None or not self._weights.setup.device.startswith("cpu"):
            return
        width = max(len(ids) for ids in self.token_ids(texts))
        while self._batch > 1 and self._kept_bytes(min(self._batch, len(texts)), width) > _SHARE * free:
            self._batch //= 2

    def vectors(self, texts: Sequence[str]) -> Computed:
        """See `Runner`."""
        hidden, routing = self.encode(texts)
        return Computed(hidden, centred(routing, self._widths))

    def _run(self, prompts: Sequence[str]) -> tuple[Array, Array]:
        import torch

        weights, device = self._weights, self._weights.setup.device
        batch = self._tokenizer(list(prompts), padding=True, return_tensors="pt", verbose=False).to(device)
        arguments = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            output: Any = self._model(**arguments, output_hidden_states=True, output_router_logits=True)
            if weights.head is not None:
                weights.head(output.last_hidden_state)
        routers = [each.view(len(prompts), -1, each.shape[-1])[:, -1] for each in output.router_logits]
        self._widths = [each.shape[-1] for each in routers]
        return _numbers(output.hidden_states[-1][:, -1]), _numbers(torch.cat(routers, dim=-1))

    def _kept_bytes(self, rows: int, width: int) -> int:
        """Bytes of a batch: the head's logits, every layer's states, keys and values, one layer's experts, the mask."""
        config: Any = self._weights.base.config
        states = int(config.hidden_size) * (3 * int(config.num_hidden_layers) + 8)
        per_token = int(config.vocab_size) + states + self._expert_width + width
        return rows * width * per_token * next(self._weights.base.parameters()).element_size()

    @cached_property
    def _expert_width(self) -> int:
        """Elements that all chosen experts of a token hold at once: their inputs, both halves, products, outputs."""
        hidden = int(self._weights.base.config.hidden_size)
        layers = [layer for layer in cost_of(self._weights.base).layers if layer.num_experts]
        return max(layer.top_k * (layer.expert_weights // layer.num_experts // hidden + 2 * hidden) for layer in layers)


class Transformers(_Peer):
    """The base model, with router logits, in batches of similar length; see `open_transformers`."""

    def __init__(self, weights: Weights, tokenizer: Any) -> None:
        super().__init__(tokenizer, _BATCH)
        tokenizer.padding_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._weights, self._model = weights, weights.base
        self._widths: list[int] = []

    def encode(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """See `Runner`."""
        prompts = prompts_of(texts)
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        found: list[tuple[Array, Array]] = []
        for start in range(0, len(order), self._batch):
            found.append(self._run([prompts[index] for index in order[start : start + self._batch]]))
        places = np.argsort(order)
        hidden, routing = (np.concatenate([part[which] for part in found])[places] for which in (0, 1))
        return hidden, routing

    def vectors(self, texts: Sequence[str]) -> Computed:
        """See `Runner`."""
        hidden, routing = self.encode(texts)
        return Computed(hidden, centred(routing, self._widths))

    def _run(self, prompts: Sequence[str]) -> tuple[Array, Array]:
        import torch

        batch = self._tokenizer(list(prompts), padding=True, return_tensors="pt", verbose=False)
        batch = batch.to(self._weights.setup.device)
        last = batch["attention_mask"].sum(dim=1) - 1
        rows = torch.arange(len(prompts), device=last.device)
        with torch.inference_mode():
            output: Any = self._model(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                output_router_logits=True,
                use_cache=False,
            )
            routers = [each.view(len(prompts), -1, each.shape[-1])[rows, last] for each in output.router_logits]
            self._widths = [each.shape[-1] for each in routers]
            return _numbers(output.last_hidden_state[rows, last]), _numbers(torch.cat(routers, dim=-1))


class SentenceTransformers(_Peer):
    """sentence-transformers with last-token pooling; see `open_sentence_transformers`."""

    def __init__(self, model: Any, notes: str = "") -> None:
        super().__init__(model.tokenizer, _BATCH, notes)
        self._model = model

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Runner`."""
        # through its own preprocessing: a chat template or a cut would show here
        features = [self._model.preprocess([prompt]) for prompt in prompts_of(texts)]
        return [each["input_ids"][0].tolist() for each in features]

    def encode(self, texts: Sequence[str]) -> Array:
        """See `Runner`."""
        vectors: Array = self._model.encode(prompts_of(texts), batch_size=self._batch, show_progress_bar=False)
        return vectors

    def vectors(self, texts: Sequence[str]) -> Computed:
        """See `Runner`."""
        return Computed(np.asarray(self.encode(texts), dtype=np.float32), None)


class LlamaCpp(_Peer):
    """llama-cpp-python's `embed` with last-token pooling; see `open_llama`."""

    def __init__(self, model: Any, file: Path) -> None:
        super().__init__(None, 0, f"file {file.name}")
        self._model = model

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Runner`."""
        return [[int(token) for token in self._model.tokenize(prompt.encode())] for prompt in prompts_of(texts)]

    def encode(self, texts: Sequence[str]) -> Array:
        """See `Runner`."""
        # a text over the batch would be cut: the workload's longest is shorter
        return np.asarray(self._model.embed(prompts_of(texts), normalize=False), dtype=np.float32)

    def vectors(self, texts: Sequence[str]) -> Computed:
        """See `Runner`."""
        return Computed(self.encode(texts), None)

    @property
    def facts(self) -> dict[str, Any]:
        """See `Runner`."""
        return {"batch_tokens": _GGUF_BATCH, "notes": self._notes}

    def passes(self, texts: Sequence[str]) -> int:
        """See `Runner`."""
        return -(-sum(len(ids) for ids in self.token_ids(texts)) // _GGUF_BATCH)


def _numbers(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.float().cpu().numpy(), dtype=np.float32)


def open_original(setup: Setup, weights: Weights | None) -> Original:
    """Build the original way (facts: the public code of arXiv 2410.10814, in our own words and without its 4 bits).

    The model with its language-model head runs over all tokens of 128 texts at a time, in their order, padded on the
    left with token 0; all layers' states and all tokens' router rows are kept, and the last row of each is read.
    """
    return Original(weights or Weights(setup, with_head=True), setup.tokenizer())


def open_transformers(setup: Setup, weights: Weights | None) -> Transformers:
    """Build what a careful user of transformers writes: no head, similar lengths together, 32 texts at a time."""
    return Transformers(weights or Weights(setup, with_head=False), setup.tokenizer())


def open_sentence_transformers(setup: Setup, weights: Weights | None) -> SentenceTransformers:
    """Build sentence-transformers over the weights: its own, or the shared ones put into its module."""
    if weights is None:
        return SentenceTransformers(_sentence_transformer(setup.folder, setup))
    with tempfile.TemporaryDirectory() as folder:
        _write_stand_in(Path(folder), setup, str(weights.base.config.model_type))
        model = _sentence_transformer(Path(folder), setup)
    # built from a stand-in of the same class, then given the weights that everyone shares
    model[0].model = weights.base
    model[0].tokenizer.model_max_length = int(weights.base.config.max_position_embeddings)
    return SentenceTransformers(model, "its module holds the shared weights")


def _write_stand_in(folder: Path, setup: Setup, model_type: str) -> None:
    """Write a tiny checkpoint of the same class, for sentence-transformers to load."""
    from transformers import AutoConfig

    from moee.backends.checkpoint.support import auto_class

    config = AutoConfig.for_model(
        model_type, pad_token_id=None, bos_token_id=None, eos_token_id=None, **architecture_for(model_type).tiny
    )
    auto_class(config).from_config(config).save_pretrained(folder)
    setup.tokenizer().save_pretrained(folder)


def _sentence_transformer(folder: Path, setup: Setup) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(
        str(folder),
        model_kwargs={"dtype": setup.dtype},
        # text only: where a tokenizer has a chat template, sentence-transformers would put every prompt into it
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
    )
    transformer.tokenizer.pad_token = transformer.tokenizer.pad_token or transformer.tokenizer.eos_token
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
    return SentenceTransformer(modules=[transformer, pooling], device=setup.device)


def open_dense(setup: Setup, weights: Weights | None) -> SentenceTransformers:
    """Build sentence-transformers over the dense model behind the demo."""
    del weights  # another model: nothing to share
    with tempfile.TemporaryDirectory() as folder:
        _write_dense(Path(folder))
        return SentenceTransformers(_sentence_transformer(Path(folder), setup))


def _write_dense(folder: Path) -> None:
    from safetensors.torch import save_file

    from moee.carve.source import open_dense as open_source
    from moee.demo.weights import find_gguf

    dense = open_source(find_gguf())
    # not save_pretrained: transformers refuses to save what it read from a GGUF file
    config = {key: value for key, value in dense.config.items() if key != "quantization_config"}
    (folder / "config.json").write_text(json.dumps(config, default=str), encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in dense.tensors()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    dense.tokenizer.save_pretrained(folder)


def open_llama(setup: Setup, weights: Weights | None) -> LlamaCpp:
    """Build llama.cpp over the file of `--gguf`, on the threads of the run."""
    import llama_cpp

    del weights  # it reads its own file
    assert setup.gguf is not None, "why_not refuses it"
    model = llama_cpp.Llama(
        model_path=str(setup.gguf),
        embedding=True,
        pooling_type=llama_cpp.LLAMA_POOLING_TYPE_LAST,
        n_ctx=_GGUF_BATCH,
        n_batch=_GGUF_BATCH,
        n_ubatch=_GGUF_BATCH,
        # keys and values in float32: halves, its default, cost a small model more than the limit of agreement
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        n_threads=setup.threads,
        n_threads_batch=setup.threads,
        verbose=False,
    )
    return LlamaCpp(model, setup.gguf)


def _lacks_dense(setup: Setup) -> str | None:
    return None if setup.model == "demo" else "only the demo was carved from a dense model"


def _lacks_llama(setup: Setup) -> str | None:
    if setup.gguf is None:
        return "no GGUF file of these weights was given (--gguf FILE)"
    return None if setup.device == "cpu" else f"it was not set up for {setup.device}"


PEERS: Mapping[str, Entry] = MappingProxyType(
    {
        "original": Entry(
            "HS + RW",
            "the way of the paper's code: language-model head over all tokens, batches of 128 texts in their order "
            "padded on the left, every layer's states and every token's router rows kept",
            open_original,
        ),
        "transformers": Entry(
            "HS + RW",
            "base model with output_router_logits=True, sorted by length, batches of 32 texts",
            open_transformers,
        ),
        "sentence-transformers": Entry(
            "HS",
            "last-token pooling over the same weights, its own sorting, batches of 32",
            open_sentence_transformers,
            package="sentence_transformers",
        ),
        "sentence-transformers-dense": Entry(
            "HS",
            "the same over the dense model that the demo was carved from: other vectors",
            open_dense,
            _lacks_dense,
            package="sentence_transformers",
            same_model=False,
        ),
        "llama-cpp": Entry(
            "HS",
            "llama-cpp-python's embed() over a GGUF file of the same weights",
            open_llama,
            _lacks_llama,
            package="llama_cpp",
        ),
    }
)
"""Every peer, in the order of the tables."""
