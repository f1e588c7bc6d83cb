"""The torch backend: any MoE decoder of transformers that is in memory."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moee.architectures import Architecture
from moee.backends.capture import Captured, capture
from moee.backends.experts import experts_kernel
from moee.backends.routers import (
    RouterSite,
    decoder_layers,
    find_routers,
    find_routers_by_shape,
    scoring_func_of,
    settle_outputs,
)
from moee.errors import InputError, NonFiniteActivationsError, UnsupportedArchitectureError
from moee.pooling import PaddingSide, TokenLayout, pool
from moee.types import Activations, Array, CapturePlan, ModelInfo

if TYPE_CHECKING:
    import torch
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


class HuggingFaceBackend:
    """Drives the base model of a transformers checkpoint and reads its routers through hooks.

    The model is put into evaluation mode and otherwise left as it is; it may be one that the caller goes on using.
    """

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
        self._model: PreTrainedModel = text_model_of(model).eval()
        self._tokenizer = tokenizer
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
        self._info = self._describe(name, fingerprint)

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
        parameter = next(self._model.parameters())
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
            dtype=str(parameter.dtype).removeprefix("torch."),
            device=str(parameter.device),
        )

    def _layers(self) -> Any:
        if self._architecture is not None:
            return decoder_layers(self._model, self._architecture)
        prefix = self._sites[0].path.split(f".{self._sites[0].layer_id}.")[0]
        return self._model.get_submodule(prefix)

    def _probe_widths(self) -> tuple[int, ...]:
        """Run one token and read the width of every router: the configuration's count is wrong for several models."""
        captured = self._run([[0]], CapturePlan())[0]
        return tuple(captured.routing[site.path].shape[1] for site in self._sites)

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Turn prompts into token ids, with the tokenizer's own special tokens and no truncation."""
        if not prompts:
            return []
        # verbose=False: prompts over the model's limit are measured here and dealt with above, in one place
        ids: list[list[int]] = self._tokenizer(list(prompts), padding=False, truncation=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        """Run one batch. See `base.Backend.forward`."""
        captured, hidden = self._run(sequences, plan)
        sites = self._chosen_sites(plan)
        for site in sites:
            if site.path not in captured.routing:
                raise UnsupportedArchitectureError(
                    f"The router {site.path!r} did not run in the forward pass, so there is nothing to read from it."
                )
            _check_finite(captured.routing[site.path], f"router logits of layer {site.layer_id}")
        _check_finite(hidden, "hidden state after the last layer" if plan.hidden_layers == "last" else "hidden state")
        return Activations(
            hidden_states=hidden,
            routing=np.concatenate([captured.routing[site.path] for site in sites], axis=1),
            is_scored=plan.routing_pooling != "last_token",
            layer_ids=tuple(site.layer_id for site in sites),
            num_experts=tuple(captured.routing[site.path].shape[1] for site in sites),
            top_k=tuple(site.top_k for site in sites),
        )

    def _run(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> tuple[Captured, Array]:
        import torch

        input_ids, layout = self._pad(sequences)
        layers = self._chosen_layers(plan)
        sites = self._chosen_sites(plan)
        final = self._num_layers - 1
        hooked = [(number, self._layers()[number]) for number in layers if number != final]
        with (
            torch.inference_mode(),
            experts_kernel(self._model),
            capture(sites, hooked, layout, plan, scoring_func=self._scoring_func) as captured,
        ):
            output = self._model(input_ids=input_ids, **self._arguments(layout))
            if final in layers:
                captured.hidden[final] = pool(output.last_hidden_state, layout, plan.hidden_pooling)
        hidden = torch.stack([captured.hidden[number] for number in layers]).mean(dim=0)
        return captured, np.asarray(hidden.cpu().numpy(), dtype=np.float32)

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
        device = self._model.device
        layout = TokenLayout.of(torch.tensor(lengths, device=device), width, self.padding_side)
        return torch.tensor(rows, device=device), layout

    def _arguments(self, layout: TokenLayout) -> dict[str, Any]:
        """Choose the forward arguments that this model takes and this batch needs."""
        arguments: dict[str, Any] = {"use_cache": False} if "use_cache" in self._parameters else {}
        causal = self._architecture is None or self._architecture.causal
        # a configuration may switch a causal architecture to bidirectional attention (Gemma 4)
        causal = causal and getattr(self._model.config, "is_causal", True) is not False
        if causal and self.padding_side == "right":
            # nothing before the end of a text is padding, so a causal model needs no mask and attention stays fused
            return arguments
        if layout.is_padded:
            arguments["attention_mask"] = layout.mask.long()
            if "position_ids" in self._parameters:
                arguments["position_ids"] = layout.position_ids()
        return arguments

    def _chosen_sites(self, plan: CapturePlan) -> tuple[RouterSite, ...]:
        if plan.routing_layers == "all":
            return self._sites
        available = sorted({site.layer_id for site in self._sites})
        if plan.routing_layers == "last":
            return tuple(site for site in self._sites if site.layer_id == available[-1])
        wanted = {_layer_number(number, self._num_layers) for number in plan.routing_layers}
        if missing := sorted(wanted - set(available)):
            raise InputError(f"routing_layers {missing} have no router. Layers with routers: {available}.")
        return tuple(site for site in self._sites if site.layer_id in wanted)

    def _chosen_layers(self, plan: CapturePlan) -> tuple[int, ...]:
        count = self._num_layers
        if plan.hidden_layers == "last":
            return (count - 1,)
        if plan.hidden_layers == "all":
            return tuple(range(count))
        return tuple(sorted({_layer_number(number, count) for number in plan.hidden_layers}))

    def close(self) -> None:
        """Drop the model; a backend over a caller's model only forgets it."""
        del self._model
        self._sites = ()


def _layer_number(number: int, count: int) -> int:
    if not -count <= number < count:
        raise InputError(
            f"Layer {number} does not exist: the model has {count} layers, 0 to {count - 1} (or -{count} to -1)."
        )
    return number % count


def _check_finite(values: Array, what: str) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise NonFiniteActivationsError(row=int(np.argmin(finite)), what=what)
