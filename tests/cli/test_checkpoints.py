"""Model folders through the commands, as a user of those models would."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from tests.checkpoints import save_checkpoint
from tests.cli.conftest import Run

MODEL_TYPES = ("olmoe", "qwen2_moe", "deepseek", "mixtral", "gpt_oss", "deepseek_v3")
TEXTS = ["a cat sat down", "rates rose again, and then they fell", "no"]


# one of the six by default: each loads torch in a process of its own
PARAMETERS = [pytest.param(name, marks=() if name == "olmoe" else pytest.mark.slow) for name in MODEL_TYPES]


@pytest.fixture
def folder(model_type: str, tmp_path: Path) -> Path:
    return save_checkpoint(model_type, tmp_path / model_type)


@pytest.mark.parametrize("model_type", PARAMETERS)
def test_a_folder_goes_through_embed(moee: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    options = ["--calibration", "none", "--dtype", "float32", "--views", "-o", output]
    done = moee("embed", "-", "-m", folder, *options, stdin="".join(f"{text}\n" for text in TEXTS))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    model = MoEE.from_pretrained(folder, calibration="none", dtype="float32")
    with np.load(output) as arrays:
        vectors = arrays["embeddings"]
        assert vectors.shape == (3, arrays["hidden_states"].shape[1] + arrays["routing_weights"].shape[1])
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
        assert np.abs(arrays["routing_weights"].sum(axis=1) - len(arrays["layer_ids"])).max() < 1e-4
        one_by_one = np.stack([model.encode(text) for text in TEXTS])
        assert np.abs(vectors - one_by_one).max() < 1e-5


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_inspect_agrees_with_the_loaded_model(moee: Run, folder: Path, model_type: str) -> None:
    done = moee("inspect", folder, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    info = MoEE.from_pretrained(folder, dtype="float32").info
    assert summary["model_type"] == info.model_type == model_type
    assert tuple(summary["layer_ids"]) == info.layer_ids
    assert tuple(summary["num_experts"]) == info.num_experts
    assert summary["hidden_size"] == info.hidden_size
    assert summary["routing_size"] == sum(info.num_experts)
    assert summary["num_layers"] == info.num_layers
    assert summary["fingerprint"] == info.fingerprint
    assert summary["memory_bytes"]["float32"] == 4 * summary["num_parameters"]


def test_inspect_loads_no_weights(moee: Run, tmp_path: Path) -> None:
    """With zeros in place of all tensors the answer is the same: nothing but headers was read."""
    folder = save_checkpoint("olmoe", tmp_path / "model")
    before = moee("inspect", folder)
    assert before.returncode == 0
    assert "OlmoeTopKRouter at mlp.gate" in before.stdout
    assert "not yet: fitted on built-in sentences at first use" in before.stdout
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    path.write_bytes(raw[:header] + bytes(len(raw) - header))
    after = moee("inspect", folder)
    without = [line for line in before.stdout.splitlines() if not line.startswith("fingerprint")]
    assert [line for line in after.stdout.splitlines() if not line.startswith("fingerprint")] == without


@pytest.mark.parametrize("arguments", [("inspect",), ("embed", "-", "-m")])
def test_unusable_folders_are_refused_with_the_reason(moee: Run, arguments: tuple[str, ...], tmp_path: Path) -> None:
    def message(folder: Path, code: int) -> str:
        done = moee(*arguments, folder, stdin="a\n")
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no config.json" in message(empty, 1)

    cut = save_checkpoint("olmoe", tmp_path / "cut")
    raw = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    assert "model.safetensors" in message(cut, 1)

    pickled = save_checkpoint("olmoe", tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "pickle" in message(pickled, 1)

    dense = tmp_path / "dense"
    dense.mkdir()
    (dense / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1}))
    assert "moee carve" in message(dense, 2)
