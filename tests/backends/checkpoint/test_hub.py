"""What is fetched of a repository on the hub. The hub is a folder here; which files match is its library's own rule."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from moee import MoEE
from moee.errors import CheckpointError

GOLDEN = Path(__file__).parents[2] / "golden" / "olmoe-tiny"
OTHERS = (
    "original/consolidated.00.pth",
    "original/params.json",
    "original/tokenizer.model",
    "original/model.safetensors",
    "checkpoint-500/model.safetensors",
    "checkpoint-500/config.json",
    "onnx/model.onnx",
    "consolidated.safetensors",
    "consolidated-00001-of-00002.safetensors",
    "consolidated.00.pth",
    "pytorch_model.bin",
    "training_args.bin",
    "optimizer.pt",
    "tf_model.h5",
    "model.gguf",
    "README.md",
    ".gitattributes",
)
"""What popular repositories have beside a model."""


class Hub:
    """A repository in a folder, and what was fetched of it."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository, self.cache = repository, cache
        cache.mkdir()

    def snapshot_download(
        self, repo_id: str, *, allow_patterns: Sequence[str], ignore_patterns: Sequence[str], **_: Any
    ) -> str:
        names = [str(path.relative_to(self.repository)) for path in self.repository.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.repository / name, self.cache / name)
        return str(self.cache)

    @property
    def fetched(self) -> set[str]:
        return {str(path.relative_to(self.cache)) for path in self.cache.rglob("*") if path.is_file()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    shutil.copytree(GOLDEN, tmp_path / "repository")
    for name in OTHERS:
        path = tmp_path / "repository" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}")
    found = Hub(tmp_path / "repository", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    return found


SMALL = {"config.json", "tokenizer.json", "tokenizer_config.json"}


def _one_file(_: Path) -> set[str]:
    return {"model.safetensors"}


def _shards(folder: Path) -> set[str]:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = ["model-00001-of-00002.safetensors", "weights [2].safetensors"]
    places = {tensor: names[number % 2] for number, tensor in enumerate(sorted(weights))}
    for name in names:
        save_file({each: weights[each] for each, place in places.items() if place == name}, folder / name)
    shutil.copy(folder / names[0], folder / "model-00009-of-00002.safetensors")
    shutil.copy(folder / names[0], folder / "weights 2.safetensors")
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return {*names, "model.safetensors.index.json"}


def _one_beside_a_variant(folder: Path) -> set[str]:
    shutil.copy(folder / "model.safetensors", folder / "model.fp16.safetensors")
    return {"model.safetensors"}


def _only_a_variant(folder: Path) -> set[str]:
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    return {"model.fp16.safetensors"}


@pytest.mark.parametrize("arrange", [_one_file, _shards, _one_beside_a_variant, _only_a_variant])
def test_only_what_loading_needs_is_fetched(arrange: Callable[[Path], set[str]], hub: Hub) -> None:
    weights = arrange(hub.repository)
    model = MoEE.from_pretrained("owner/model", calibration="none")
    assert hub.fetched == SMALL | weights
    assert len(model.encode("a cat")) > 0


def test_pickles_are_fetched_only_when_they_are_allowed(hub: Hub) -> None:
    import torch

    torch.save(load_file(GOLDEN / "model.safetensors"), hub.repository / "pytorch_model.bin")
    (hub.repository / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no \*.safetensors weights"):
        MoEE.from_pretrained("owner/model")
    assert hub.fetched == SMALL
    MoEE.from_pretrained("owner/model", allow_pickle=True)
    assert hub.fetched == SMALL | {"pytorch_model.bin"}


def test_an_adapter_is_refused_before_weights_are_fetched(hub: Hub) -> None:
    settings = {"base_model_name_or_path": "owner/base"}
    (hub.repository / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(CheckpointError, match="adapter for 'owner/base'"):
        MoEE.from_pretrained("owner/model")
    assert hub.fetched == SMALL | {"adapter_config.json"}
