"""Model folders through the commands, as a user of those models would."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

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
        assert vectors.shape == (3, sum(model.dims.values()))
        assert arrays["routing_weights"].shape[1] == model.dims["rw"]
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
        assert np.abs(arrays["routing_weights"].sum(axis=1) - len(arrays["layer_ids"])).max() < 1e-4
        one_by_one = np.stack([model.encode(text) for text in TEXTS])
        assert np.abs(vectors - one_by_one).max() < 1e-5


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_inspect_agrees_with_the_loaded_model(moee: Run, folder: Path, model_type: str) -> None:
    done = moee("inspect", folder, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    model = MoEE.from_pretrained(folder, dtype="float32")
    info = model.info
    assert summary["dims"] == dict(model.dims)
    assert summary["fusion"] == model.config.fusion
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


def test_nan_in_a_layer_names_the_text_and_the_layer(moee: Run, tmp_path: Path) -> None:
    folder = save_checkpoint("olmoe", tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.1.mlp.gate.weight"))
    tensors[name][:] = np.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    output = tmp_path / "out.npy"
    done = moee("embed", "-", "-m", folder, "--calibration", "none", "-o", output, stdin="first\nsecond\n")
    assert (done.returncode, done.stdout) == (1, "")
    message = done.stderr.splitlines()[-1]
    assert message.startswith("Error: ")
    assert "layer 1" in message
    assert re.search(r"[Tt]ext \d", message)
    assert not output.exists()


def test_statistics_of_other_weights_are_refused(moee: Run, tmp_path: Path) -> None:
    model, embedder = save_checkpoint("olmoe", tmp_path / "model"), tmp_path / "embedder"
    (tmp_path / "corpus.txt").write_text("".join(f"text number {number}\n" for number in range(20)))
    done = moee("calibrate", model, "--texts", tmp_path / "corpus.txt", "--out", embedder)
    assert done.returncode == 0, done.stderr
    assert "yes, with statistics saved in this folder" in moee("inspect", embedder).stdout
    tensors = load_file(model / "model.safetensors")
    save_file(
        {name: values + np.float32(0.125) for name, values in tensors.items()},
        model / "model.safetensors",
        metadata={"format": "pt"},
    )
    done = moee("embed", tmp_path / "corpus.txt", "-m", embedder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "The calibration was fitted for the model" in done.stderr
