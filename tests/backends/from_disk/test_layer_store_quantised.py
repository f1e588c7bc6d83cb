"""Quantised checkpoints: their weights are made wide layer by layer, or they are refused by name."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from moee.backends.forward.huggingface import text_model_of
from moee.errors import CheckpointError
from tests.architectures.tiny import tiny_config, tiny_model
from tests.backends.from_disk.test_layer_store import (
    assert_same,
    from_pretrained,
    open_store,
    rewritten,
    save,
    swept,
    values,
)


def quantised(folder: Path, method: str, **settings: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, **settings}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("model_type", ["deepseek_v3", "olmoe", "qwen3_next"])
def test_weights_in_8_bits_are_made_wide_as_they_come(model_type: str, tmp_path: Path) -> None:
    save(model_type, tmp_path, torch.bfloat16)
    tensors = load_file(tmp_path / "model.safetensors")
    for name, value in list(tensors.items()):
        if ".layers." in name and name.endswith("_proj.weight"):
            # the layout of DeepSeek-V3: numbers of 8 bits, and a scale for each block of 128 x 128
            scale = value.float().abs().max() / 448
            tensors[name] = (value.float() / scale).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = scale.reshape(1, 1)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    quantised(tmp_path, "fp8", activation_scheme="dynamic", weight_block_size=[128, 128])
    for dtype in (torch.float32, torch.bfloat16):
        store = open_store(tmp_path, model_type, dtype=dtype)
        found = swept(store)
        # transformers 5.23 leaves what is not quantised as it is stored, and then cannot compute with it in float32
        expected = {
            name: value.to(found[name].dtype) for name, value in values(from_pretrained(tmp_path, dtype)).items()
        }
        assert_same(found, expected)
        assert {each.dtype for each in store.model.parameters()} <= {dtype, torch.float32}
        assert getattr(store.model.config, "quantization_config", None) is None
    original = values(text_model_of(tiny_model(model_type)))
    found = values(open_store(tmp_path, model_type).load_all())
    experts = next(name for name in original if name.endswith("gate_up_proj"))
    torch.testing.assert_close(found[experts], original[experts], rtol=0.1, atol=0.01)


def test_weights_in_4_bits_are_made_wide_as_they_come(tmp_path: Path) -> None:
    config = copy.deepcopy(tiny_config("gpt_oss"))
    config.hidden_size = config.intermediate_size = 64
    from transformers import GptOssForCausalLM

    GptOssForCausalLM(config).bfloat16().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    generator = torch.Generator().manual_seed(3)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, rows, columns = tensors.pop(name).shape
        # the layout of gpt-oss: transposed, two numbers a byte, one exponent for 32 of them
        blocks = (experts, columns, rows // 32, 16)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, blocks, dtype=torch.uint8, generator=generator)
        tensors[f"{name}_scales"] = torch.randint(118, 128, blocks[:3], dtype=torch.uint8, generator=generator)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    quantised(tmp_path, "mxfp4")
    for dtype in (torch.float32, torch.bfloat16):
        found = swept(open_store(tmp_path, "gpt_oss", dtype=dtype))
        expected = values(from_pretrained(tmp_path, dtype))
        assert_same(found, {name: value.to(found[name].dtype) for name, value in expected.items()})


def test_another_quantisation_can_only_be_loaded_whole(tmp_path: Path) -> None:
    rewritten(tmp_path, lambda tensors: tensors)
    quantised(tmp_path, "awq", bits=4)
    with pytest.raises(CheckpointError, match=r"'awq'.*whole.*fp8, mxfp4"):
        open_store(tmp_path)
