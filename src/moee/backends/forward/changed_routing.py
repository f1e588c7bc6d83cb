"""A model with other routing, for studies: more or fewer active experts, or router logits at another temperature.

Nothing of the model that was opened is changed. Each pass runs through a `Twin`, whose router modules and
configurations are its own, so the change is made there and is gone with the pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moee.architectures import Architecture
from moee.backends.base import Backend
from moee.backends.checkpoint.config_keys import config_value
from moee.backends.forward.batch import Work
from moee.backends.forward.capture import Captured
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.backends.forward.prefix import SharedPrefix
from moee.backends.forward.routers import RouterSite
from moee.backends.forward.twin import Twin
from moee.errors import InputError, UnsupportedArchitectureError
from moee.types import Activations, CapturePlan

FIXED: dict[str, str] = {
    "longcat_flash": "the block of transformers that runs its experts fails with a single one",
    "phimoe": "its rule (SparseMixer) is written for exactly two experts",
    "openai_privacy_filter": "its block also multiplies by the number of active experts, which it keeps by itself",
    "deepseek_v4": "its first layers choose experts by a table of tokens, as many as it was trained with",
    "zaya": "one choice of its router skips the layer, and its block is written for a single expert",
}
"""Architectures whose number of active experts cannot be changed, by `model_type`, and why."""
NOT_LINEAR: dict[str, str] = {"laguna": "it bounds its logits by a tanh"}
"""Architectures whose logits do not scale with their router's weights, by `model_type`, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingChange:
    """What is different about a model's own routing.

    Attributes:
        top_k: Experts that every token uses, in every layer; None leaves the model's number.
        temperature: What router logits are divided by before the model scores experts. The logits that are captured
            are those before the division, so that `temperature` changes hidden states and no scoring of ours.
    """

    top_k: int | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check both values."""
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k is {self.top_k!r}; a token goes to at least 1 expert.")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature!r}; it must be a finite number above 0.")

    @property
    def label(self) -> str:
        """A name that no other change has; empty for none."""
        parts = [] if self.top_k is None else [f"top_k={self.top_k}"]
        return ",".join(parts + ([] if self.temperature == 1 else [f"temperature={self.temperature!r}"]))


class ChangedRouting(HuggingFaceBackend):
    """A backend over the same model in memory as another, with other routing.

    Its fingerprint names the change, so that neither kept views nor statistics are taken for those of the model.

    Args:
        backend: The model as it is.
        change: What is different.

    Raises:
        UnsupportedArchitectureError: If the change cannot be made in this architecture; says why.
        InputError: If there are not so many experts that a token may use.
    """

    def __init__(self, backend: HuggingFaceBackend, change: RoutingChange) -> None:
        vars(self).update(vars(backend))
        self._change = change
        if change.temperature != 1 and backend.info.model_type in NOT_LINEAR:
            raise UnsupportedArchitectureError(
                f"The temperature of the router logits of {backend.info.model_type!r} cannot be changed: "
                f"{NOT_LINEAR[backend.info.model_type]}. Study the other axes."
            )
        self._prefix, self.work = SharedPrefix(), Work()
        if change.top_k is not None:
            self._check_top_k(change.top_k)
            self._sites = tuple(replace(site, top_k=change.top_k) for site in backend.sites)
        self._info = replace(
            backend.info,
            top_k=tuple(site.top_k for site in self._sites),
            fingerprint=f"{backend.info.fingerprint}+{change.label}" if change.label else backend.info.fingerprint,
        )

    def _check_top_k(self, top_k: int) -> None:
        row = self._architecture
        model_type = self.info.model_type
        if row is None or model_type in FIXED:
            why = "no row describes where it keeps that number" if row is None else FIXED[model_type]
            raise UnsupportedArchitectureError(
                f"The number of active experts of {model_type!r} cannot be changed: {why}. Study the other axes."
            )
        if top_k > (most := most_experts(self, row)):
            raise InputError(
                f"top_k is {top_k}, but a token of {self.info.name!r} may use {most} experts at most. "
                f"Choose from 1 to {most}."
            )

    @contextmanager
    def _pass(self) -> Iterator[Twin]:
        with super()._pass() as twin:
            for site in self._sites:
                self._change_router(twin, site)
            yield twin

    def _change_router(self, twin: Twin, site: RouterSite) -> None:
        router = twin.of(site.module)
        if self._change.top_k is not None:
            assert self._architecture is not None, "checked when the change was made"
            _set_top_k(twin, router, site, self._change.top_k, self._architecture.top_k)
        if self._change.temperature != 1:
            width = self.info.num_experts[self._sites.index(site)]
            _divide_logits(router, site, self._change.temperature, width)

    def _activations(self, captured: Captured, plan: CapturePlan) -> Activations:
        found = super()._activations(captured, plan)
        if found.is_scored or self._change.temperature == 1:
            return found
        logits = np.asarray(found.routing * np.float32(self._change.temperature), dtype=np.float32)
        return replace(found, routing=logits)


def with_routing(backend: Backend, change: RoutingChange) -> HuggingFaceBackend:
    """Return a backend over the same model in memory with other routing; the model and `backend` stay as they are.

    Raises:
        InputError: If the model is not in memory as a whole, or there are not so many experts.
        UnsupportedArchitectureError: If the change cannot be made in this architecture; says why.
    """
    if not isinstance(backend, HuggingFaceBackend) or backend.info.weights != "memory":
        raise InputError(
            f"The routing of {backend.info.name!r} can be changed only in a model that is in memory as a whole, and it "
            "is not. Give it more memory (--memory), or study the axes that need no other pass."
        )
    return ChangedRouting(backend, change)


def most_experts_of(backend: Backend) -> int:
    """Return how many experts a token may use in every layer of a model; all, where its routing cannot be changed."""
    if isinstance(backend, HuggingFaceBackend):
        return most_experts(backend, backend._architecture)
    return min(backend.info.num_experts)


def most_experts(backend: HuggingFaceBackend, row: Architecture | None) -> int:
    """Return how many experts a token may use in every layer of a model: all, or those of the groups open to it.

    Args:
        backend: The model.
        row: Its architecture; None for a model that no row describes.
    """
    fewest = min(backend.info.num_experts)
    if row is None or row.groups is None:
        return fewest
    config: Any = backend.text_model.config
    groups, open_groups = (config_value(config, key) for key in row.groups[:2])
    return fewest if not groups or not open_groups else fewest * int(open_groups) // int(groups)


def _set_top_k(twin: Twin, router: Any, site: RouterSite, top_k: int, key: str) -> None:
    """Set the number wherever the copy keeps it: in the router, in its block, and in their configurations."""
    block = twin.root.get_submodule(site.path.rsplit(".", 1)[0])
    holders = [module for module in (router, block) if hasattr(module, "top_k")]
    for module in holders:
        module.top_k = top_k
    configs = [config for config in twin.configs if isinstance(getattr(config, key, None), int)]
    for config in configs:
        setattr(config, key, top_k)
    if not holders and not configs:
        raise UnsupportedArchitectureError(
            f"Neither the router {site.path!r} nor its block has a number of active experts that could be changed. "
            "Study the other axes."
        )


def _divide_logits(router: Any, site: RouterSite, temperature: float, num_experts: int) -> None:
    """Give the copy of a router weights, and a bias, that make smaller logits."""
    import torch
    from torch import nn

    linear = [each for each in router.modules() if _rows(each) == num_experts]
    if len(linear) != 1 or linear[0].weight.is_meta:
        raise UnsupportedArchitectureError(
            f"The router {site.path!r} does not make its logits by one linear map that is in memory, so their "
            "temperature cannot be changed. Study the other axes."
        )
    table = linear[0]._parameters
    for name in ("weight", "bias"):
        if isinstance(table.get(name), torch.Tensor):
            table[name] = nn.Parameter(table[name] / temperature, requires_grad=False)


def _rows(module: Any) -> int:
    """Return how many rows a module's own weight matrix has; 0 without one."""
    weight = module._parameters.get("weight")
    return int(weight.shape[0]) if weight is not None and weight.dim() == 2 else 0
