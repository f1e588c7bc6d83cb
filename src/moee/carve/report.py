"""What a carve measured, as JSON and as a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

REPORT_NAME = "carve_report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarveReport:
    """What a carve measured.

    Attributes:
        source: Name of the dense checkpoint.
        router_r2: For each layer, the share of the experts' log energy over held-back tokens that the router explains.
        perplexity_dense: Perplexity of the dense model on the held-back passages, in float32.
        perplexity_carved: The same for the checkpoint as written, loaded by transformers, float32.
        active_neuron_share: Feed-forward neurons that run for a token.
        num_experts: Routed experts in a layer.
        top_k: Routed experts that each token uses.
        shared_neurons: Neurons that always run.
        expert_size: Neurons of a routed expert.
        calibration_tokens: Tokens the routers were fitted on.
        heldback_tokens: Tokens the numbers above were measured on.
        dtype: Type of the weights written.
        tensors_sha256: Digest of the tensors written, `checkpoint.TensorDigest`.
        seconds: Time from opening the dense model to the measured carved one.
        config: The configuration.
        versions: Versions of the libraries that shaped the result.
    """

    source: str
    router_r2: tuple[float, ...]
    perplexity_dense: float
    perplexity_carved: float
    active_neuron_share: float
    num_experts: int
    top_k: int
    shared_neurons: int
    expert_size: int
    calibration_tokens: int
    heldback_tokens: int
    dtype: str
    tensors_sha256: str
    seconds: float
    config: dict[str, Any]
    versions: dict[str, str]

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity of the carved model over that of the dense one."""
        return self.perplexity_carved / self.perplexity_dense

    @property
    def mean_router_r2(self) -> float:
        """Mean of `router_r2` over layers."""
        return sum(self.router_r2) / len(self.router_r2)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CarveReport:
        """Return the report behind `to_json`'s values."""
        stored = {field.name: values[field.name] for field in fields(cls)}
        return cls(**{**stored, "router_r2": tuple(stored["router_r2"])})

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON types, with the two derived numbers."""
        derived = {"perplexity_ratio": self.perplexity_ratio, "mean_router_r2": self.mean_router_r2}
        return {**asdict(self), "router_r2": list(self.router_r2), **derived}

    def write(self, folder: Path) -> None:
        """Write `carve_report.json` and the model card `README.md` into a folder."""
        text = json.dumps(self.to_json(), indent=2, sort_keys=True) + "\n"
        (folder / REPORT_NAME).write_text(text, encoding="utf-8")
        (folder / "README.md").write_text(self.model_card(), encoding="utf-8")

    def model_card(self) -> str:
        """Return the model card, Markdown."""
        rows = "\n".join(f"| {layer} | {r2:.3f} |" for layer, r2 in enumerate(self.router_r2))
        return f"""\
---
base_model: {self.source}
library_name: transformers
tags: [moee, mixture-of-experts, carved]
---

# {self.source}, carved into a Mixture of Experts

The feed-forward layers of the dense model were split into one shared expert of {self.shared_neurons} neurons and
{self.num_experts} routed experts of {self.expert_size} neurons, of which each token uses {self.top_k}:
{self.active_neuron_share:.1%} of the neurons run. All weights are the dense model's own; neurons were grouped by
balanced k-means on their contributions, and the routers fitted by ridge regression. Nothing was trained by gradient:
**the routing decides what is computed, but it was not learned together with the model.** The licence of the dense
model applies.

It is a standard `qwen2_moe` checkpoint: `AutoModelForCausalLM.from_pretrained` loads it, and so do
`moee.MoEE.from_pretrained`, vLLM, and llama.cpp after `convert_hf_to_gguf.py`.

| measured on {self.heldback_tokens} held-back tokens | |
| --- | --- |
| perplexity, dense | {self.perplexity_dense:.2f} |
| perplexity, carved | {self.perplexity_carved:.2f} ({self.perplexity_ratio:.3f} times) |
| router R^2, mean over layers | {self.mean_router_r2:.3f} |
| tokens the routers were fitted on | {self.calibration_tokens} |
| dtype of the weights | {self.dtype} |

Router R^2 is the share of the variance of the experts' centred log energy that the router explains.

| layer | router R^2 |
| --- | --- |
{rows}
"""
