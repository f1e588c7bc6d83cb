"""Which files of a folder are its weights, and what stands in their place: one rule, whole or a layer at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from moee import MoEE
from moee.backends.summary import inspect_model
from moee.errors import CheckpointError
from moee.types import Array

GOLDEN = Path(__file__).parents[2] / "golden" / "olmoe-tiny"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in to go on.</body></html>\n"


def copied(folder: Path) -> Path:
    shutil.copytree(GOLDEN, folder)
    return folder


def sharded(folder: Path) -> Path:
    """Copy the golden checkpoint with its weights in two files and an index."""
    copied(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    places = {tensor: names[number % 2] for number, tensor in enumerate(sorted(weights))}
    for name in names:
        save_file({each: weights[each] for each, place in places.items() if place == name}, folder / name)
    write_index(folder, {"metadata": {}, "weight_map": places})
    return folder


def write_index(folder: Path, index: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def opened(folder: Path) -> MoEE:
    return MoEE.from_pretrained(folder, dtype="float32", device="cpu", calibration="none")


def hidden_states(folder: Path) -> Array:
    return opened(folder).encode(["a cat", "nine dogs ran"], fusion="hs")


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("name", ["model.fp16.safetensors", "weights.safetensors"])
def test_the_only_weight_file_counts_whatever_its_name(name: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / name)
    np.testing.assert_allclose(hidden_states(folder), hidden_states(GOLDEN), atol=1e-6)


@pytest.mark.usefixtures("mode")
def test_the_index_decides_whatever_else_is_in_the_folder(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    weights = {name: tensor + 1 for name, tensor in load_file(GOLDEN / "model.safetensors").items()}
    for other in ("model.safetensors", "consolidated.safetensors"):
        save_file(weights, folder / other)
    np.testing.assert_allclose(hidden_states(folder), hidden_states(GOLDEN), atol=1e-6)


@pytest.mark.usefixtures("mode")
def test_shards_without_an_index_are_refused_by_name(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match=r"2 weight files \(model-00001-of-00002.*neither .*Copy the index too"):
        opened(folder)


def test_the_index_of_a_variant_counts_if_it_is_the_only_one(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    (folder / "model.safetensors.index.json").rename(folder / "model.fp16.safetensors.index.json")
    np.testing.assert_allclose(hidden_states(folder), hidden_states(GOLDEN), atol=1e-6)


def _with(name: Any) -> Any:
    return {"metadata": {}, "weight_map": {"model.norm.weight": name}}


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([], "holds a list; a JSON object is expected"),
        ({}, 'needs an object "weight_map".* and has null'),
        ({"weight_map": ["model.safetensors"]}, "needs an object .*list"),
        ({"weight_map": {"model.norm.weight": "model.safetensors"}}, 'has no object "metadata"'),
        (_with(None), "puts the tensor 'model.norm.weight' into null"),
        (_with(3), "puts the tensor 'model.norm.weight' into 3"),
        (_with(["model.safetensors"]), "puts the tensor 'model.norm.weight' into .*list"),
        (_with("../other/model.safetensors"), r"into '../other/model.safetensors' \(str\); a .* same folder"),
        (_with("/etc/model.safetensors"), "into '/etc/model.safetensors'"),
        (_with("..\\model.safetensors"), "same folder is expected"),
        (_with("C:\\model.safetensors"), "same folder is expected"),
        (_with("pytorch_model.bin"), "into 'pytorch_model.bin'"),
        (_with("gone.safetensors"), "lacks 1 of 1 weight files that its index names: gone.safetensors"),
    ],
    ids=lambda value: json.dumps(value)[:40] if not isinstance(value, str) else "",
)
def test_an_index_that_cannot_be_used_is_named(index: Any, message: str, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    write_index(folder, index)
    with pytest.raises(CheckpointError, match=message):
        opened(folder)


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "is a Git LFS pointer.*git lfs pull"),
        (PAGE, "is a web page.*hf download"),
        ("", "corrupt|not valid JSON|no usable tokenizer"),
    ],
    ids=["pointer", "page", "empty"],
)
def test_a_placeholder_is_named_with_how_to_fetch_the_file(
    content: str, message: str, file: str, tmp_path: Path
) -> None:
    folder = copied(tmp_path / "model")
    (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message) as caught:
        opened(folder)
    assert file in str(caught.value) or "tokenizer" in file


def test_a_pickle_that_is_a_pointer_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_text(POINTER, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin' is a Git LFS pointer"):
        MoEE.from_pretrained(folder, allow_pickle=True)


def test_a_placeholder_in_place_of_the_index_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(POINTER, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"index.json' is a Git LFS pointer"):
        inspect_model(folder)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": ' + "9" * 5_000 + "}", "[1]", "\udcff"])
def test_a_configuration_that_is_no_object_is_named(text: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")
    (folder / "config.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(CheckpointError, match=r"config.json' (is not|is JSON that cannot be used|holds a list)"):
        inspect_model(folder)


ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "allenai/OLMoE-1B-7B-0924", "r": 8}


def _settings(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER), encoding="utf-8")


def _weights(folder: Path) -> None:
    shutil.copy(GOLDEN / "model.safetensors", folder / "adapter_model.safetensors")


def _both(folder: Path) -> None:
    _settings(folder)
    _weights(folder)


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("add", [_settings, _both])
def test_an_adapter_beside_the_weights_is_refused_with_the_line_that_merges(
    add: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = copied(tmp_path / "model")
    add(folder)
    with pytest.raises(
        CheckpointError, match=r"holds an adapter for 'allenai/OLMoE-1B-7B-0924' .*beside a model.*merge_and_unload"
    ):
        opened(folder)


def test_adapter_weights_without_their_settings_are_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")
    _weights(folder)
    with pytest.raises(CheckpointError, match=r"adapter weights \(adapter_model.safetensors\) without their"):
        inspect_model(folder)


def test_a_folder_of_an_adapter_alone_names_its_base(tmp_path: Path) -> None:
    _both(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"is an adapter for 'allenai/OLMoE-1B-7B-0924', not a model. Merge .*merge_and_unload"
    ):
        MoEE.from_pretrained(tmp_path)
