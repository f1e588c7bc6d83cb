"""The torch backend: any MoE decoder of transformers that is in memory."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.architectures import Architecture
from moee.backends.base import closed, shareable
from moee.backends.checkpoint.config_keys import scoring_func_of
from moee.backends.checkpoint.tokenizer import TextTokenizer
from moee.backends.forward.batch import Batch, Work
from moee.backends.forward.capture import Captured, capture
from moee.backends.forward.out_of_memory import translating_out_of_memory
from moee.backends.forward.packing import Packing, States, packed_attention_in
from moee.backends.forward.prefix import SharedPrefix, weights_state
from moee.backends.forward.routers import (
    RouterSite,
    decoder_layers,
    find_routers,
    find_routers_by_shape,
    settle_outputs,
)
from moee.backends.forward.twin import Twin
from moee.backends.kernels.norms import norms_in_pieces
from moee.backends.kernels.select import describe_kernel, experts_kernel
from moee.errors import InputError, NonFiniteActivationsError, UnsupportedArchitectureError
from moee.memory import keep_freed_memory
from moee.method.pooling import PaddingSide, TokenLayout
from moee.method.routing import chosen_layers, layer_number
from moee.types import Activations, Array, CapturePlan, ModelInfo

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def text_model_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return the decoder inside `model`: no language-model head, no vision or audio tower.

    Raises:
        UnsupportedArchitectureError: If `model` is an encoder-decoder.
    """
    config: Any = model.config
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedArchitectureError(
            f"{config.model_type!r} is an encoder-decoder model: its experts see whole batches at a limited capacity, "
            "and there is no last token to read. Only decoders are supported; `moee models` lists them."
        )
    wanted = config.get_text_config(decoder=True)
    inner = model
    for module in model.modules():
        # the outermost module that has the text configuration and embeds tokens itself
        if (
            getattr(module, "config", None) is wanted
            and getattr(module, "base_model_prefix", "") != ""
            and _embeds_tokens(module)
        ):
            inner = module  # type: ignore[assignment]  # nn.Module.modules() is untyped about PreTrainedModel
            break
    return inner


def _embeds_tokens(module: Any) -> bool:
    return any(name in module._modules for name in ("embed_tokens", "wte", "word_embeddings", "embeddings"))


WINDOW_KEYS = ("sliding_window", "sliding_window_size", "attention_chunk_size")
"""Keys by which configurations say how far back some of their layers see."""


class HuggingFaceBackend:
    """Drives the base model of a transformers checkpoint and reads its routers through hooks.

    Each pass runs through a `Twin`: the model itself is never changed, so it may be one that the caller goes on using,
    in whatever mode. One pass runs at a time, whichever thread asks.
    """

    _bounds_memory = False
    """Whether what the process holds is counted: then nothing may be kept that is not needed."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        fingerprint: str,
        architecture: Architecture | None,
        include_attention_routers: bool = False,
        padding_side: PaddingSide = "right",
    ) -> None:
        self._model: PreTrainedModel = text_model_of(model)
        self._lock = threading.RLock()
        self._is_closed = False
        self._device = _device_of(self._model)
        self._tokenizer = TextTokenizer(tokenizer, name=name, rows=_embedding_rows(self._model))
        self._architecture = architecture
        self.padding_side: PaddingSide = padding_side
        if architecture is not None:
            self._sites = find_routers(self._model, architecture, include_attention_routers=include_attention_routers)
        else:
            self._sites = settle_outputs(self._model, find_routers_by_shape(self._model))
        if architecture is not None and padding_side == "left" and not architecture.left_padding:
            raise InputError(
                f"{architecture.model_types[0]!r} does not give the same vectors with padding on the left: "
                f"{architecture.notes} Use padding_side='right', the default."
            )
        self._scoring_func = scoring_func_of(self._model.config, architecture)
        self._parameters = frozenset(inspect.signature(type(self._model).forward).parameters)
        self._prefix = SharedPrefix()
        self.work = Work()
        self._info = self._describe(name, fingerprint)
        if self._device.type == "cpu" and not self._bounds_memory:
            keep_freed_memory()

    @property
    def info(self) -> ModelInfo:
        """What the layers above may know of the model."""
        return self._info

    @property
    def sites(self) -> tuple[RouterSite, ...]:
        """The routers that are read, in layer order."""
        return self._sites

    @property
    def text_model(self) -> PreTrainedModel:
        """The decoder that is run."""
        return self._model

    def _describe(self, name: str, fingerprint: str) -> ModelInfo:
        config: Any = self._model.config
        return ModelInfo(
            name=name,
            fingerprint=fingerprint,
            model_type=str(config.model_type),
            hidden_size=int(config.hidden_size),
            num_layers=len(self._layers()),
            layer_ids=tuple(site.layer_id for site in self._sites),
            num_experts=self._probe_widths(),
            top_k=tuple(site.top_k for site in self._sites),
            scoring_func=self._scoring_func,
            max_tokens=getattr(config, "max_position_embeddings", None),
            dtype=str(next(self._model.parameters()).dtype).removeprefix("torch."),
            device=str(self._device),
            precision="int8" if _is_rounded(self._model) else "exact",
            batching="packed" if self.packs else "padded",
            kernel=describe_kernel(self._model, max(site.top_k for site in self._sites)),
        )

    def _layers(self) -> Any:
        if self._architecture is not None:
            return decoder_layers(self._model, self._architecture)
        prefix = self._sites[0].path.split(f".{self._sites[0].layer_id}.")[0]
        return self._model.get_submodule(prefix)

    def _probe_widths(self) -> tuple[int, ...]:
        """Run one token and read the width of every router: the configuration's count is wrong for several models."""
        captured = self._run([[0]], CapturePlan())
        return tuple(captured.routing[site.path].shape[1] for site in self._sites)

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Turn prompts into token ids. See `base.Backend.tokenize` and `TextTokenizer.ids`."""
        self._open_model()
        return self._tokenizer.ids(prompts)

    def detokenize(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Turn token ids back into texts, without special tokens. See `base.Backend.detokenize`."""
        self._open_model()
        return self._tokenizer.texts(sequences)

    def run(
        self, batches: Sequence[Sequence[Sequence[int]]], plan: CapturePlan, *, shared: int = 0
    ) -> Iterator[Activations]:
        """Run batches one after the other. See `base.Backend.run`."""
        for sequences in batches:
            yield self.forward(sequences, plan, shared=shared)

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan, *, shared: int = 0) -> Activations:
        """Run one batch. See `base.Backend.run`."""
        with translating_out_of_memory(f"in a batch of {sum(map(len, sequences))} tokens"):
            captured = self._run(sequences, plan, shared)
        return self._activations(captured, plan)

    def _activations(self, captured: Captured, plan: CapturePlan) -> Activations:
        """Check what was read, and put it side by side."""
        import torch

        sites = self._chosen_sites(plan)
        for site in sites:
            if site.path not in captured.routing:
                raise UnsupportedArchitectureError(
                    f"The router {site.path!r} did not run in the forward pass, so there is nothing to read from it."
                )
            _check_finite(captured.routing[site.path], f"router logits of layer {site.layer_id}")
        states = torch.stack([captured.hidden[number] for number in self._chosen_layers(plan)]).mean(dim=0)
        hidden = np.asarray(states.cpu().numpy(), dtype=np.float32)
        _check_finite(hidden, "hidden state after the last layer" if plan.hidden_layers == "last" else "hidden state")
        tokens = None if captured.tokens is None else np.asarray(captured.tokens.cpu().numpy(), dtype=np.float32)
        if tokens is not None:
            _check_finite(tokens, f"mean hidden state over the text's tokens of layer {self._tokens_layer(plan)}")
        return Activations(
            hidden_states=hidden,
            routing=np.concatenate([captured.routing[site.path] for site in sites], axis=1),
            is_scored=plan.routing_pooling != "last_token",
            layer_ids=tuple(site.layer_id for site in sites),
            num_experts=tuple(captured.routing[site.path].shape[1] for site in sites),
            top_k=tuple(site.top_k for site in sites),
            projections=(
                np.concatenate([captured.projections[site.path] for site in sites], axis=1)
                if plan.projections
                else None
            ),
            tokens=tokens,
        )

    @contextmanager
    def _pass(self) -> Iterator[Twin]:
        """Give a twin of the model to one thread at a time, with our kernels.

        Raises:
            InputError: If the backend is closed, or somebody wrote to the weights meanwhile.
        """
        import torch

        with self._lock, torch.inference_mode():
            twin = Twin(self._open_model())
            before = weights_state(self._model)
            experts_kernel(twin.root)
            norms_in_pieces(twin.root)
            yield twin
            if weights_state(self._model) != before:
                raise InputError(
                    f"The weights of {self.info.name!r} were written to while texts went through it, so their vectors "
                    "would be of no model at all: another thread trains the model or loads into it. Wait for its "
                    "step to end, or embed with a copy of the model."
                )

    def _open_model(self) -> PreTrainedModel:
        if self._is_closed:
            raise closed(self.info.name)
        return self._model

    def _run(self, sequences: Sequence[Sequence[int]], plan: CapturePlan, shared: int = 0) -> Captured:
        with self._pass() as twin:
            final = self._num_layers - 1
            batch = self._batch(sequences, plan, shared)
            if batch.packing is not None:
                packed_attention_in(twin)
                batch.packing.prefix = self._prefix.states(
                    weights_state(self._model),
                    sequences[0][: batch.packing.shared],
                    lambda tokens: self._keys_and_values(twin, tokens),
                )
            with batch.in_attention(twin.of(self._layers()[final])), self._capture(batch, plan, twin):
                output = twin.root(**batch.inputs)
            self._read_output(batch, output.last_hidden_state, plan)
        self.work += batch.work
        return batch.captured

    def _batch(self, sequences: Sequence[Sequence[int]], plan: CapturePlan, shared: int) -> Batch:
        """Lay out sequences: side by side without what they share, if the model allows it, else padded."""
        import torch

        if not self._can_pack(sequences):
            input_ids, layout = self._pad(sequences)
            return Batch({"input_ids": input_ids, **self._arguments(layout)}, layout, None, trims=False)
        shared = shareable(plan, shared)
        packing = Packing([len(sequence) - shared for sequence in sequences], shared, device=self._device)
        layout = TokenLayout.packed(torch.tensor(packing.lengths, device=self._device))
        tokens = [token for sequence in sequences for token in sequence[shared:]]
        inputs = {
            "input_ids": torch.tensor([tokens], device=self._device),
            "position_ids": layout.position_ids() + shared,
            **self._without_cache(),
        }
        return Batch(inputs, layout, packing, self._trims(plan), shared)

    def _trims(self, plan: CapturePlan) -> bool:
        """Whether the last layer runs for last tokens alone: nothing else of it is read, and the architecture can."""
        reads_last_only = plan.hidden_pooling == plan.routing_pooling == "last_token"
        can = self._architecture is not None and self._architecture.trims_last_layer
        return reads_last_only and can and self._tokens_layer(plan) != self._num_layers - 1

    def _tokens_layer(self, plan: CapturePlan) -> int | None:
        return None if plan.tokens_layer is None else layer_number(plan.tokens_layer, self._num_layers)

    def _reads_output(self, plan: CapturePlan) -> bool:
        final = self._num_layers - 1
        return final in self._chosen_layers(plan) or self._tokens_layer(plan) == final

    def _read_output(self, batch: Batch, states: torch.Tensor, plan: CapturePlan) -> None:
        """Read what `plan` wants of the last layer's output after the final norm."""
        final = self._num_layers - 1
        if final in self._chosen_layers(plan):
            batch.read_output(states, final, plan)
        if self._tokens_layer(plan) == final:
            batch.read_tokens(states, plan)

    def _beginning(self, tokens: Sequence[int]) -> Batch:
        """Lay out a shared beginning, of which keys and values are wanted."""
        batch = self._batch([tokens], CapturePlan(), 0)
        batch.trims = False
        return batch

    def _keys_and_values(self, twin: Twin, tokens: Sequence[int]) -> Mapping[int, States]:
        """Run a twin over a beginning and keep what attention needs of it."""
        batch = self._beginning(tokens)
        assert batch.packing is not None, "a beginning is shared by packed texts, and no longer than they are"
        states = batch.packing.record()
        with batch.packing.announced():
            twin.root(**batch.inputs)
        self.work += Work(0, len(tokens), len(tokens))
        return states

    def _capture(
        self, batch: Batch, plan: CapturePlan, twin: Twin, only: int | None = None
    ) -> AbstractContextManager[Captured]:
        """Hook what `plan` reads, or what it reads of layer `only`."""
        final = self._num_layers - 1
        hooked = [(number, self._layers()[number]) for number in self._chosen_layers(plan) if number != final]
        sites = self._chosen_sites(plan)
        inner = self._tokens_layer(plan)
        inner = None if inner == final or only not in (None, inner) else inner
        if only is not None:
            hooked = [each for each in hooked if each[0] == only]
            sites = tuple(site for site in sites if site.layer_id == only)
        return capture(
            twin,
            sites,
            hooked,
            batch.layout,
            plan,
            scoring_func=self._scoring_func,
            trimmed=final if batch.trims else None,
            tokens_layer=None if inner is None else (inner, self._layers()[inner]),
            shared=batch.shared,
            into=batch.captured,
        )

    @property
    def packs(self) -> bool:
        """Whether batches are texts side by side without padding."""
        known = self._architecture is not None and self._architecture.packs
        return known and self._is_causal and self.padding_side == "right"

    @property
    def _is_causal(self) -> bool:
        # a configuration may switch a causal architecture to bidirectional attention (Gemma 4)
        causal = self._architecture is None or self._architecture.causal
        return causal and getattr(self._model.config, "is_causal", True) is not False

    def _can_pack(self, sequences: Sequence[Sequence[int]]) -> bool:
        # beyond a window, layers differ in what a token sees: left to upstream's masks
        return self.packs and max(map(len, sequences)) <= self._window

    @property
    def _window(self) -> float:
        """Tokens that every attention layer sees."""
        config: Any = self._model.config
        if getattr(config, "use_sliding_window", True) is False:
            return math.inf
        found = [getattr(config, key, None) for key in WINDOW_KEYS]
        return min((size for size in found if isinstance(size, int) and size > 0), default=math.inf)

    @property
    def _num_layers(self) -> int:
        return len(self._layers())

    def _pad(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, TokenLayout]:
        import torch

        lengths = [len(sequence) for sequence in sequences]
        width = max(lengths)
        # the filler is never read: causal models do not look ahead, the others get a mask
        fillers = [[0] * (width - length) for length in lengths]
        on_right = self.padding_side == "right"
        rows = [
            [*sequence, *filler] if on_right else [*filler, *sequence]
            for sequence, filler in zip(sequences, fillers, strict=True)
        ]
        device = self._device
        layout = TokenLayout.padded(torch.tensor(lengths, device=device), width, self.padding_side)
        return torch.tensor(rows, device=device), layout

    def _without_cache(self) -> dict[str, Any]:
        return {"use_cache": False} if "use_cache" in self._parameters else {}

    def _arguments(self, layout: TokenLayout) -> dict[str, Any]:
        """Choose the forward arguments that this model takes and this batch needs."""
        arguments = self._without_cache()
        if self._is_causal and self.padding_side == "right":
            # nothing before the end of a text is padding, so a causal model needs no mask and attention stays fused
            return arguments
        if layout.is_padded:
            arguments["attention_mask"] = layout.mask.long()
            if "position_ids" in self._parameters:
                arguments["position_ids"] = layout.position_ids()
        return arguments

    def _chosen_sites(self, plan: CapturePlan) -> tuple[RouterSite, ...]:
        layers = chosen_layers(plan.routing_layers, (site.layer_id for site in self._sites), self._num_layers)
        return tuple(site for site in self._sites if site.layer_id in layers)

    def _chosen_layers(self, plan: CapturePlan) -> tuple[int, ...]:
        count = self._num_layers
        if plan.hidden_layers == "last":
            return (count - 1,)
        if plan.hidden_layers == "all":
            return tuple(range(count))
        return tuple(sorted({layer_number(number, count) for number in plan.hidden_layers}))

    def close(self) -> None:
        """Drop the model once the pass that runs has ended; a backend over a caller's model only forgets it."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            del self._model, self._prefix
            self._sites = ()


def _device_of(model: nn.Module) -> torch.device:
    """Return where a model computes: where its first weight is, or where accelerate brings it for a pass."""
    import torch

    device = next(model.parameters()).device
    if device.type != "meta":
        return device
    hooks = [getattr(module, "_hf_hook", None) for module in model.modules()]
    found = [each for hook in hooks if (each := getattr(hook, "execution_device", None)) is not None]
    return torch.device(found[0]) if found else device


def _embedding_rows(model: PreTrainedModel) -> int:
    """Return how many token ids a model knows."""
    weight = getattr(model.get_input_embeddings(), "weight", None)
    return int(model.config.vocab_size if weight is None else weight.shape[0])


def _is_rounded(model: nn.Module) -> bool:
    """Whether experts or linear layers of a model are in 8 bits; experts of some architectures never are."""
    from moee.backends.int8 import Int8Linear

    return any(isinstance(module, Int8Linear) or hasattr(module, "moee_int8") for module in model.modules())


def _check_finite(values: Array, what: str) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise NonFiniteActivationsError(row=int(np.argmin(finite)), what=what)
