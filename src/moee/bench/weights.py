"""One model in memory, and what is needed to load it: shared by every entry of a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from moee.backends.checkpoint.support import LoadOptions, auto_class, check_supported, register_native, resolve_folder
from moee.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What every entry is built from: the demo, or a model folder. Models of random weights are a subclass.

    Attributes:
        model: `"demo"` or a model folder.
        layers: Number of layers of a model of random weights; None for anything else.
        dtype: Settled, for example `"float32"`.
        device: Settled, for example `"cpu"`.
        threads: Number of torch's threads, on a CPU.
        batch_tokens: Tokens in a batch of ours; None is its own default.
        gguf: File for llama.cpp.
    """

    model: str
    layers: int | None = None
    dtype: str
    device: str
    threads: int
    batch_tokens: int | None = None
    gguf: Path | None = None

    @property
    def is_random(self) -> bool:
        """Whether the weights are random numbers."""
        return False

    @property
    def name(self) -> str:
        """The model's name in a document: of a folder its own name, for where it lies is nobody's business."""
        return "demo" if self.model == "demo" else self.folder.name

    @property
    def title(self) -> str:
        """The name of the published model whose widths it has; empty for real weights."""
        return ""

    @property
    def folder(self) -> Path:
        """The folder of weights and tokenizer."""
        return resolve_folder(self.model)

    @property
    def element_bytes(self) -> int:
        """Bytes of a weight."""
        return 4 if self.dtype == "float32" else 2

    def config(self) -> Any:
        """Return the configuration. `Any`: transformers leaves it untyped."""
        from transformers import AutoConfig

        from moee.backends.checkpoint.headers import read_config

        register_native(check_supported(read_config(self.folder), self.model))
        return AutoConfig.from_pretrained(self.folder, trust_remote_code=False, local_files_only=True)

    def published_config(self) -> Any:
        """Return the configuration with all layers of the published model."""
        return self.config()

    def settled(self, *, with_int8: bool = False) -> tuple[Self, str]:
        """Return the setup with the layers that fit in memory, and a sentence if they are fewer than the default.

        Args:
            with_int8: Whether a copy in 8 bits stands beside the shared model.

        Raises:
            InputError: If `layers` was given for real weights, or they do not fit.
        """
        if self.layers is not None:
            raise InputError(f"--layers is for models of random weights, not for {self.model!r}. Leave it out.")
        return self, ""

    def build(self, *, with_head: bool) -> PreTrainedModel:
        """Load the model, with a language-model head if its class has one and it is wanted."""
        import torch
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

        config = self.config()
        has_head = with_head and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        builder = AutoModelForCausalLM if has_head else auto_class(config)
        model: Any = builder.from_pretrained(
            self.folder, dtype=getattr(torch, self.dtype), use_safetensors=True, local_files_only=True
        )
        return model.to(self.device).eval()  # type: ignore[no-any-return]  # `Any`: untyped upstream

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer: a new one each time, for peers set its padding as they like."""
        from transformers import AutoTokenizer

        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        return found


def use_threads(setup: Setup) -> None:
    """Give torch its threads."""
    import torch

    torch.set_num_threads(setup.threads)


def settle(dtype: str | None, device: str | None) -> tuple[str, str]:
    """Return the dtype and device that `MoEE` would choose, as names.

    Raises:
        InputError: If one of them cannot be used here.
    """
    from moee.backends.devices import choose_dtype_and_device

    chosen, place = choose_dtype_and_device(LoadOptions(dtype=dtype, device=device))
    return str(chosen).removeprefix("torch."), str(place)


class Weights:
    """A model that is loaded, or built, once.

    Args:
        setup: What to load.
        with_head: Also with a language-model head; the decoder inside it is then the one that all use.
    """

    def __init__(self, setup: Setup, *, with_head: bool) -> None:
        self.setup = setup
        self._with_head = with_head

    @cached_property
    def whole(self) -> PreTrainedModel:
        """The model as it was built: with a head if one was wanted and its class has one."""
        return self.setup.build(with_head=self._with_head)

    @cached_property
    def base(self) -> PreTrainedModel:
        """The decoder, without a head."""
        from moee.backends.forward.huggingface import text_model_of

        return text_model_of(self.whole)

    @cached_property
    def head(self) -> torch.nn.Module | None:
        """A head of random numbers for a class that has none in transformers; None where `whole` has its own.

        What it returns is thrown away: only the work of it counts.
        """
        import torch

        if self.whole is not self.base:
            return None
        config: Any = self.base.config
        parameter = next(self.base.parameters())
        return torch.nn.Linear(
            int(config.hidden_size), int(config.vocab_size), bias=False, dtype=parameter.dtype, device=parameter.device
        )
