"""Every architecture row against a folder in the layout that its checkpoints are published in.

transformers writes a model back under the published names, so what it writes is what a hub repository holds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from moee.architectures import architecture_for
from moee.backends.checkpoint.headers import TensorEntry, tensor_entries, weight_files
from moee.backends.checkpoint.support import LoadOptions
from moee.backends.open import open_backend
from moee.backends.summary import inspect_model, routers_in_headers
from moee.types import CapturePlan
from tests.architectures.tiny import SEQUENCES, SUPPORTED, backend_for
from tests.checkpoints import save_checkpoint


def _drop_prefix(file: Path) -> None:
    """Name tensors as the published DeepSeek-V4 does.

    What transformers 5.23 writes, `model.norm.weight` among it, is tested as a saved folder.
    """
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def test_a_saved_deepseek_v4_loads_again(tmp_path: Path) -> None:
    """transformers 5.23 takes its `model.norm.weight` for the norm of a compressor."""
    loaded = open_backend(save_checkpoint("deepseek_v4", tmp_path), LoadOptions(dtype="float32", device="cpu"))
    ours = backend_for("deepseek_v4").forward(SEQUENCES, CapturePlan())
    np.testing.assert_allclose(loaded.forward(SEQUENCES, CapturePlan()).hidden_states, ours.hidden_states, atol=1e-6)


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_a_published_folder_is_described_and_loaded(model_type: str, tmp_path: Path) -> None:
    row = architecture_for(model_type)
    here = backend_for(model_type)
    folder = save_checkpoint(model_type, tmp_path)
    if model_type == "deepseek_v4":
        _drop_prefix(folder / "model.safetensors")
    expected = dict(zip(row.tiny_layers, row.tiny_experts, strict=True))
    # the header reading must not fall back to building the model, which hides a missing name
    assert routers_in_headers(list(tensor_entries(weight_files(folder))), row) == expected

    summary = inspect_model(folder)
    assert summary.model_type == model_type
    assert (summary.layer_ids, summary.num_experts) == (row.tiny_layers, row.tiny_experts)
    assert (summary.hidden_size, summary.num_layers) == (here.info.hidden_size, here.info.num_layers)
    top_k = summary.top_k if isinstance(summary.top_k, tuple) else (summary.top_k,) * len(row.tiny_layers)
    assert top_k == here.info.top_k

    loaded = open_backend(folder, LoadOptions(dtype="float32", device="cpu"))
    theirs, ours = loaded.forward(SEQUENCES, CapturePlan()), here.forward(SEQUENCES, CapturePlan())
    np.testing.assert_allclose(theirs.routing, ours.routing, atol=1e-6)
    np.testing.assert_allclose(theirs.hidden_states, ours.hidden_states, atol=1e-6)


def test_layers_that_predict_ahead_and_other_decoders_are_not_counted() -> None:
    """DeepSeek-V3 publishes layer 61 for prediction ahead; Qwen3-Omni a talker; K-EXAONE a stack of its own."""
    names = ["model.layers.1.mlp.gate.weight", "model.layers.2.mlp.gate.weight", "model.layers.3.mlp.gate.weight"]
    others = ["mtp.layers.0.mlp.gate.weight", "talker.model.layers.0.mlp.gate.weight", "model.layers.2.mlp.up.weight"]
    entries = [TensorEntry(name, "F32", (8, 32), Path("model.safetensors"), 0, 1024) for name in (*others, *names)]
    row = architecture_for("deepseek_v3")
    assert routers_in_headers(entries, row, num_layers=3) == {1: 8, 2: 8}
    assert routers_in_headers(entries, row) == {1: 8, 2: 8, 3: 8}
