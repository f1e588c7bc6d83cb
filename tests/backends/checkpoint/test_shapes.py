"""Weights that do not fit their configuration: named from file headers, whole or a layer at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from moee import MoEE
from moee.backends import open as opening
from moee.errors import CheckpointError, MissingExtraError, MoEEError
from tests.architectures.tiny import SUPPORTED
from tests.checkpoints import save_checkpoint

GOLDEN = Path(__file__).parents[2] / "golden" / "olmoe-tiny"
Weights = dict[str, torch.Tensor]


def changed(folder: Path, change: Callable[[Weights], None] | None = None, **settings: Any) -> Path:
    """Copy the golden checkpoint with other weights or another configuration."""
    shutil.copytree(GOLDEN, folder)
    if change is not None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}), encoding="utf-8")
    return folder


def opened(folder: Path) -> MoEE:
    return MoEE.from_pretrained(folder, dtype="float32", device="cpu", calibration="none")


def _longer_vocabulary(weights: Weights) -> None:
    table = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = torch.cat([table, table[:8]])


def _one_expert_less(weights: Weights) -> None:
    for name in [each for each in weights if ".1.mlp.experts.3." in each]:
        del weights[name]


def _last_expert_less(weights: Weights) -> None:
    number = max(int(each.split(".experts.")[1].split(".")[0]) for each in weights if ".experts." in each)
    for name in [each for each in weights if f".experts.{number}." in each]:
        del weights[name]


def _a_layer_less(weights: Weights) -> None:
    for name in [each for each in weights if ".layers.1." in each]:
        del weights[name]


def _narrow_norm(weights: Weights) -> None:
    weights["model.norm.weight"] = weights["model.norm.weight"][:-1].clone()


def _a_wide_expert(weights: Weights) -> None:
    name = "model.layers.0.mlp.experts.2.up_proj.weight"
    weights[name] = torch.cat([weights[name], weights[name]])


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (_longer_vocabulary, {}, r"embed_tokens.weight' the shape \(\d+, \d+\), but the model needs \(\d+, \d+\)"),
        (None, {"vocab_size": 7}, r"embed_tokens.weight' the shape \(\d+, \d+\), but the model needs \(7, \d+\)"),
        (None, {"num_experts": 128}, r"mlp.gate.weight' the shape \(8, 64\), but the model needs \(128, 64\)"),
        (None, {"num_experts": 4, "num_experts_per_tok": 2}, r"gate.weight' the shape \(8, 64\), but .* \(4, 64\)"),
        (_one_expert_less, {}, r"lacks \d tensors that a OlmoeModel needs: model.layers.1.mlp.experts.3"),
        (_last_expert_less, {}, r"lacks \d+ tensors that a OlmoeModel needs: model.layers.0.mlp.experts.\d+"),
        (_a_layer_less, {}, r"lacks \d+ tensors that a OlmoeModel needs: layers.1|gate.weight"),
        (_narrow_norm, {}, r"norm.weight' the shape \(\d+,\), but the model needs \(\d+,\)"),
        (_a_wide_expert, {}, r"layers.0.mlp.experts.gate_up_proj' .*'model.layers.0.mlp.experts.\d.\w+.weight'"),
        (None, {"hidden_size": 128}, r"the shape \(.*\), but the model needs \("),
        (None, {"num_hidden_layers": 7}, r"lacks \d+ tensors that a OlmoeModel needs: layers.\d"),
    ],
)
@pytest.mark.parametrize("long_read", [0, opening._LONG_READ], ids=["headers first", "headers after"])
def test_weights_that_do_not_fit_are_named(
    change: Callable[[Weights], None] | None,
    settings: dict[str, Any],
    message: str,
    long_read: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "_LONG_READ", long_read)
    with pytest.raises(CheckpointError, match=message):
        opened(changed(tmp_path / "model", change, **settings))


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_headers_of_a_whole_checkpoint_fit(model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of every architecture passes: a check that refused a good one would be worse than none."""
    monkeypatch.setattr(opening, "_LONG_READ", 0)
    opened(save_checkpoint(model_type, tmp_path))


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("count", [0, -1, 10_000, 2.5, "8", True, [1, 10_000]])
def test_more_experts_per_token_than_there_are_is_named(count: Any, tmp_path: Path) -> None:
    folder = changed(tmp_path / "model", num_experts_per_tok=count)
    with pytest.raises(MoEEError, match=r"num_experts_per_tok = .*, but num_experts = \d+: a token goes to at least 1"):
        opened(folder)


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize(
    ("kind", "package"),
    [
        ("gptq", "gptqmodel"),
        ("awq", "gptqmodel"),
        ("compressed-tensors", "compressed-tensors"),
        ("bitsandbytes", "bitsandbytes"),
        ("hqq", "hqq"),
        ("torchao", "torchao"),
    ],
)
def test_a_quantised_checkpoint_names_what_it_needs_and_the_other_ways(kind: str, package: str, tmp_path: Path) -> None:
    settings = {"quant_method": kind, "bits": 4, "group_size": 128, "load_in_4bit": True, "config_groups": {}}
    folder = changed(tmp_path / "model", quantization_config=settings)
    with pytest.raises(MissingExtraError, match=rf"`{package}.*{kind}.*pip install {package}.*bfloat16, or one in fp8"):
        opened(folder)
