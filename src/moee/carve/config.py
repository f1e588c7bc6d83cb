"""What a carve can be told: sizes, token counts, seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from moee.errors import InputError, check_choice

CarveDtype = Literal["auto", "float32", "bfloat16", "float16"]

_DEFAULT_SHARED = 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CarveConfig:
    """How to split and what to measure.

    Attributes:
        num_experts: Routed experts in every layer.
        top_k: Routed experts that each token uses.
        shared_neurons: Neurons of each layer that always run. None: about a third, such that the rest divides.
        router_scale: Factor on the router's rows. The model weighs the chosen experts by a softmax over their logits,
            so it must be small for them to count alike; much smaller, and float32 no longer resolves the weights.
        ridge: Penalty of the router regression, relative to the mean square of a standardised input.
        calibration_tokens: Tokens the routers are fitted on. The package's own sentences hold enough for the default.
        profile_tokens: Calibration tokens that neurons are grouped on; held in memory, 2 bytes for each neuron.
        heldback_tokens: Tokens of text set aside for the report.
        prompt_share: Part of the calibration tokens that are PromptEOL prompts; the rest is running text.
        sequence_length: Tokens in a passage of running text, and the most of one prompt.
        batch_tokens: Tokens in a forward pass.
        kmeans_iterations: Rounds of balanced k-means, at most.
        seed: Seed of the choice of texts and of k-means.
        dtype: Type of the weights written. `"auto"`: that of the source, or bfloat16 for quantised GGUF files.
    """

    num_experts: int = 32
    top_k: int = 26
    shared_neurons: int | None = None
    router_scale: float = 0.02
    ridge: float = 1e-2
    calibration_tokens: int = 50_000
    profile_tokens: int = 4096
    heldback_tokens: int = 8192
    prompt_share: float = 0.5
    sequence_length: int = 256
    batch_tokens: int = 2048
    kmeans_iterations: int = 12
    seed: int = 0
    dtype: CarveDtype = "auto"

    def __post_init__(self) -> None:
        """Check every value that needs no model."""
        if self.num_experts < 2:
            raise InputError(f"num_experts is {self.num_experts!r}; a router needs at least 2 experts to choose from.")
        if not 1 <= self.top_k <= self.num_experts:
            raise InputError(f"top_k is {self.top_k!r}; it must lie between 1 and num_experts ({self.num_experts}).")
        for name in ("calibration_tokens", "profile_tokens", "heldback_tokens", "batch_tokens", "kmeans_iterations"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be at least 1.")
        for name in ("router_scale", "ridge"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be a finite number above 0.")
        if not 0 <= self.prompt_share <= 1:
            raise InputError(f"prompt_share is {self.prompt_share!r}; it must lie between 0 and 1.")
        if self.sequence_length < 2:
            raise InputError(f"sequence_length is {self.sequence_length!r}; it must be at least 2.")
        check_choice("dtype", self.dtype, get_args(CarveDtype))

    def resolve_shared(self, intermediate_size: int) -> int:
        """Return the number of shared neurons in a layer of `intermediate_size`.

        Raises:
            InputError: If the neurons that are left do not divide into `num_experts` equal experts.
        """
        if self.shared_neurons is None:
            size = max(1, round((1 - _DEFAULT_SHARED) * intermediate_size / self.num_experts))
            shared = intermediate_size - size * self.num_experts
        else:
            shared = self.shared_neurons
        routed = intermediate_size - shared
        if shared < 1 or routed < self.num_experts or routed % self.num_experts:
            raise InputError(
                f"The {intermediate_size} neurons of a feed-forward layer less {shared} shared ones leave {routed}, "
                f"which do not divide into {self.num_experts} equal experts. At least 1 must be shared "
                f"and each expert needs 1 or more. {_nearest(intermediate_size, self.num_experts, shared)}"
            )
        return shared


def _nearest(intermediate_size: int, num_experts: int, shared: int) -> str:
    """Say which number of shared neurons close to `shared` would do."""
    fitting = [count for count in range(1, intermediate_size) if (intermediate_size - count) % num_experts == 0]
    fitting = [count for count in fitting if intermediate_size - count >= num_experts]
    if not fitting:
        return "Choose fewer experts."
    return f"Nearest that works: shared_neurons={min(fitting, key=lambda count: (abs(count - shared), count))}."
