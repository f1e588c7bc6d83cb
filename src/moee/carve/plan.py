"""A carve without weights: which neuron goes where, and the routers. Small enough to ship inside a package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from moee.errors import CheckpointError

FORMAT_VERSION = 1
_SIZES = ("num_experts", "top_k", "shared_neurons")


@dataclass(frozen=True, slots=True)
class CarvePlan:
    """How to make the MoE checkpoint from the dense weights.

    Attributes:
        neuron_order: A permutation of the neurons for each layer, shared ones first, then expert after expert,
            `(num_layers, intermediate_size)`.
        routers: Router rows before `router_scale`, `(num_layers, num_experts, hidden_size)`, bfloat16: a checkpoint
            in bfloat16 then holds exactly what was measured.
        num_experts: Routed experts in a layer.
        top_k: Routed experts that each token uses.
        shared_neurons: Neurons that always run.
        router_scale: Factor on the router rows in the checkpoint.
    """

    neuron_order: npt.NDArray[np.int64]
    routers: torch.Tensor
    num_experts: int
    top_k: int
    shared_neurons: int
    router_scale: float

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        num_layers, neurons = self.neuron_order.shape
        if self.routers.shape[:2] != (num_layers, self.num_experts):
            raise CheckpointError(
                f"The plan's routers have shape {tuple(self.routers.shape)}; expected {num_layers} layers of "
                f"{self.num_experts} experts. Make the plan again."
            )
        if (neurons - self.shared_neurons) % self.num_experts or not 1 <= self.top_k <= self.num_experts:
            raise CheckpointError(
                f"The plan's sizes do not fit together: {neurons} neurons, {self.shared_neurons} shared, "
                f"{self.num_experts} experts, top_k {self.top_k}. Make the plan again."
            )
        if not np.array_equal(np.sort(self.neuron_order, axis=1), np.tile(np.arange(neurons), (num_layers, 1))):
            raise CheckpointError("The plan's neuron order is not a permutation in every layer. Make the plan again.")
        if not torch.isfinite(self.routers.float()).all():
            raise CheckpointError("The plan's routers hold NaN or infinity. Make the plan again.")

    @property
    def expert_size(self) -> int:
        """Neurons in each routed expert."""
        return (int(self.neuron_order.shape[1]) - self.shared_neurons) // self.num_experts

    @property
    def active_share(self) -> float:
        """Share of the feed-forward neurons that run for a token."""
        return (self.shared_neurons + self.top_k * self.expert_size) / int(self.neuron_order.shape[1])

    def shared(self, layer: int) -> npt.NDArray[np.int64]:
        """Return the shared neurons of a layer, `(shared_neurons,)`."""
        return self.neuron_order[layer, : self.shared_neurons]

    def experts(self, layer: int) -> npt.NDArray[np.int64]:
        """Return the neurons of each routed expert of a layer, `(num_experts, expert_size)`."""
        return self.neuron_order[layer, self.shared_neurons :].reshape(self.num_experts, self.expert_size)

    def save(self, path: Path) -> None:
        """Write the plan as one safetensors file; the neuron order takes two bytes a neuron where that is enough."""
        sizes = {name: getattr(self, name) for name in _SIZES}
        metadata = {"format_version": FORMAT_VERSION, "router_scale": self.router_scale, **sizes}
        narrow = np.uint16 if self.neuron_order.shape[1] <= np.iinfo(np.uint16).max + 1 else np.int64
        tensors = {"neuron_order": torch.from_numpy(self.neuron_order.astype(narrow)), "routers": self.routers}
        # through bytes: safetensors' own writer makes files that only their owner can read
        path.write_bytes(save(tensors, metadata={"moee_carve_plan": json.dumps(metadata, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> CarvePlan:
        """Read a plan.

        Raises:
            CheckpointError: If the file is missing, corrupt, no plan, or of another format version.
        """
        try:
            with safe_open(path, framework="pt") as stored:
                metadata = json.loads((stored.metadata() or {}).get("moee_carve_plan", "{}"))
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  no dict, only alike
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"Cannot read the plan {str(path)!r}: {error}. Make it again or reinstall."
            ) from error
        if metadata.get("format_version") != FORMAT_VERSION:
            raise CheckpointError(
                f"{str(path)!r} is no plan of format version {FORMAT_VERSION} "
                f"(found {metadata.get('format_version')!r}). Make it again with this version."
            )
        return cls(
            neuron_order=tensors["neuron_order"].to(torch.int64).numpy(),
            routers=tensors["routers"],
            router_scale=float(metadata["router_scale"]),
            **{name: int(metadata[name]) for name in _SIZES},
        )
