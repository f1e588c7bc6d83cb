"""Which experts are of the common form, for which kernels may run the steps themselves."""

from __future__ import annotations

from typing import Any


def is_plain(module: Any) -> bool:
    """Whether an expert is `down(silu(gate(x)) * up(x))` and nothing else, as most are.

    Args:
        module: An experts module of transformers.
    """
    import torch
    from transformers.activations import SiLUActivation
    from transformers.integrations.moe import _default_apply_gate

    odd = module.has_bias or module.is_transposed or getattr(module, "has_post_expert_norm", False)
    gated = module.has_gate and type(module)._apply_gate is _default_apply_gate
    return gated and not odd and isinstance(module.act_fn, torch.nn.SiLU | SiLUActivation)
