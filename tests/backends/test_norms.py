"""Norms a few rows at a time: the same to the bit, and seen by a twin alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from moee.backends.forward.twin import Twin
from moee.backends.kernels import norms
from moee.backends.kernels.norms import norms_in_pieces
from tests.architectures.tiny import build, tiny_config


@pytest.mark.parametrize("model_type", ["olmoe", "qwen3_moe", "gpt_oss", "qwen3_next"])
def test_norms_in_pieces_give_the_same_states_to_the_bit(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "_ELEMENTS", 64)  # a few rows of 32: dozens of pieces
    torch.manual_seed(0)
    model: Any = build(tiny_config(model_type)).eval()
    given = torch.randint(0, 30, (3, 21))
    pieces: list[int] = []
    original = norms._InPieces.__call__

    def counting(self: Any, states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        pieces.append(states.numel())
        return original(self, states, *args, **kwargs)

    monkeypatch.setattr(norms._InPieces, "__call__", counting)
    with torch.inference_mode():
        expected = model(input_ids=given, use_cache=False)[0]
        twin = Twin(model)
        norms_in_pieces(twin.root)
        found = twin.root(input_ids=given, use_cache=False)[0]
    assert max(pieces) > 20 * 64
    assert torch.equal(found, expected)
    assert not any("forward" in vars(module) for module in model.modules())


class GatedRMSNorm(nn.Module):
    def forward(self, states: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return states / states.norm(dim=-1, keepdim=True) * gate


def test_a_norm_that_is_given_more_than_states_is_left_to_itself() -> None:
    norm, states = nn.Sequential(GatedRMSNorm()), torch.randn(5000, 64)
    gate = torch.rand(5000, 64)
    norms_in_pieces(norm)
    torch.testing.assert_close(norm[0](states, gate), norm[0].__class__().forward(states, gate))


def test_a_forward_of_somebody_else_stays() -> None:
    model = nn.Sequential(nn.RMSNorm(8))
    mine = model[0].forward
    model[0].forward = mine
    norms_in_pieces(model)
    assert model[0].forward is mine
