"""Open a dense checkpoint: a folder with safetensors, or a GGUF file through transformers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moee.carve.checkpoint import check_dense
from moee.carve.config import CarveDtype
from moee.errors import CheckpointError, InputError, MissingExtraError, UnsupportedArchitectureError
from moee.files.json import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth")


@dataclass(frozen=True, slots=True)
class DenseModel:
    """A loaded dense model.

    Attributes:
        name: Name of the folder or file.
        config: The values of its `config.json`.
        model: Model in float32; a causal language model of transformers, which has no types.
        tokenizer: Tokenizer of the model.
        stored_dtype: Type of the weights on disk; bfloat16 stands for the quantised formats of GGUF.
    """

    name: str
    config: dict[str, Any]
    model: Any
    tokenizer: PreTrainedTokenizerBase
    stored_dtype: torch.dtype

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the weights by name, a tied LM head left out."""
        tied = bool(self.config.get("tie_word_embeddings"))
        for name, tensor in self.model.state_dict().items():
            if not (tied and name == "lm_head.weight"):
                yield name, tensor

    def choose_dtype(self, wanted: CarveDtype) -> torch.dtype:
        """Return the dtype of the carved weights."""
        if wanted == "auto":
            return self.stored_dtype
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype


def open_dense(path: str | Path) -> DenseModel:
    """Load a dense model and its tokenizer into memory, in float32.

    Raises:
        InputError: If the path is neither a folder nor a `.gguf` file, or the model is a Mixture of Experts already.
        UnsupportedArchitectureError: If the model cannot be carved.
        CheckpointError: If files are missing, corrupt, or pickles.
        MissingExtraError: If a `.gguf` file is given without the extra `gguf`.
    """
    path = Path(path).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return _open_gguf(path)
    if not path.is_dir():
        raise InputError(
            f"{str(path)!r} is neither a folder nor a .gguf file. Give the folder of a dense Llama or Qwen2 checkpoint "
            "(config.json, safetensors, tokenizer), or its .gguf file."
        )
    return _open_folder(path)


def _open_folder(folder: Path) -> DenseModel:
    try:
        config = read_json(folder / "config.json", allow_nan=True, allow_double=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{str(folder)!r} has no config.json. Give the folder of a whole checkpoint.") from error
    except InputError as error:
        raise CheckpointError(f"{error} Download it again.") from error
    check_dense(config)
    if not any(folder.glob("*.safetensors")):
        pickled = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
        found = f"only pickle files ({', '.join(pickled)}), which can run code when loaded" if pickled else "no weights"
        raise CheckpointError(f"{str(folder)!r} has {found}. Give a checkpoint in safetensors.")
    model, tokenizer = _load(folder)
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    # the resolved values, in which older files' spellings (rope_theta, rope_scaling) have become today's
    return DenseModel(folder.name, model.config.to_dict(), model, tokenizer, getattr(torch, stored))


def _open_gguf(path: Path) -> DenseModel:
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "reading .gguf files", "gguf")
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    except ValueError as error:
        raise UnsupportedArchitectureError(
            f"Cannot read {str(path)!r}: {error} Dense GGUF files of Llama and Qwen2 models can be carved."
        ) from error
    check_dense(config.to_dict())
    model, tokenizer = _load(path.parent, gguf_file=path.name)
    return DenseModel(path.stem, model.config.to_dict(), model, tokenizer, torch.bfloat16)


def _load(folder: Path, **options: str) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load model and tokenizer, and refuse a checkpoint whose weights are not all there."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loader: Any = AutoModelForCausalLM  # typed as returning a model alone, whatever output_loading_info says
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model, loading = loader.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"Cannot load {str(folder)!r}: {error} Download it again, or check its files.") from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{str(folder)!r} lacks {len(missing)} weights, for example {missing[0]!r}. Download it again."
        )
    return model.eval(), tokenizer
