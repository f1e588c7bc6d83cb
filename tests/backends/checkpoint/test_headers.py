from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from moee import MoEE
from moee.errors import CheckpointError

GOLDEN = Path(__file__).parents[2] / "golden" / "olmoe-tiny"


def pickled(folder: Path, *, scale: float = 1.0) -> Path:
    """Copy the golden checkpoint with its weights, scaled, as a pickle."""
    shutil.copytree(GOLDEN, folder)
    weights = load_file(folder / "model.safetensors")
    torch.save({name: scale * tensor for name, tensor in weights.items()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_pickles_load_only_when_asked_for(tmp_path: Path) -> None:
    folder = pickled(tmp_path / "pickled")
    with pytest.raises(CheckpointError, match="loading a pickle can run any code"):
        MoEE.from_pretrained(folder)
    found = MoEE.from_pretrained(folder, allow_pickle=True, dtype="float32").encode_views(["a cat"])
    expected = MoEE.from_pretrained(GOLDEN, dtype="float32").encode_views(["a cat"])
    np.testing.assert_allclose(found.hidden_states, expected.hidden_states, atol=1e-5)


def test_other_pickled_weights_are_another_model(tmp_path: Path) -> None:
    """Statistics of one must never be taken for the other's."""
    one, other = pickled(tmp_path / "one"), pickled(tmp_path / "other", scale=1.01)
    prints = {MoEE.from_pretrained(each, allow_pickle=True).info.fingerprint for each in (one, other)}
    assert len(prints) == 2
