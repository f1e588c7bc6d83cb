"""One model in memory, and what is needed to load it: shared by every contestant of a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moee.backends.checkpoint.support import LoadOptions, auto_class, check_supported, register_native, resolve_folder
from moee.bench.shapes import SHAPES, build_random, shape_config
from moee.errors import UnknownNameError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What every contestant is built from.

    Attributes:
        model: `"demo"`, a key of `SHAPES`, or a model folder.
        layers: Of a shape; None for anything else.
        dtype: Settled, for example `"float32"`.
        device: Settled, for example `"cpu"`.
        threads: Of torch, on a CPU.
        batch_tokens: Of ours; None is its own default.
        gguf: File for llama.cpp.
    """

    model: str
    layers: int | None
    dtype: str
    device: str
    threads: int
    batch_tokens: int | None = None
    gguf: Path | None = None

    @property
    def is_random(self) -> bool:
        """Whether the weights are random numbers."""
        return self.model in SHAPES

    @property
    def folder(self) -> Path:
        """The folder of the weights; for a shape, of the demo, whose tokenizer it borrows."""
        return resolve_folder("demo" if self.is_random else self.model)

    def config(self) -> Any:
        """Return the configuration. `Any`: of transformers, untyped upstream."""
        if self.is_random:
            return shape_config(self.model, self.layers)
        from transformers import AutoConfig

        from moee.backends.checkpoint.headers import read_config

        register_native(check_supported(read_config(self.folder), self.model))
        return AutoConfig.from_pretrained(self.folder, trust_remote_code=False, local_files_only=True)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer: a new one each time, for peers set its padding as they like."""
        from transformers import AutoTokenizer

        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        return found


def check_model(name: str) -> None:
    """Refuse a name that is no model here, before anything is loaded.

    Raises:
        UnknownNameError: If it is neither the demo, a shape, nor a folder; names close matches.
    """
    if name != "demo" and name not in SHAPES and not Path(name).expanduser().is_dir():
        raise UnknownNameError("model", name, ("demo", *SHAPES), hint="Or give an existing model folder.")


def settle(dtype: str | None, device: str | None) -> tuple[str, str]:
    """Return the dtype and device that `MoEE` would choose, as names.

    Raises:
        InputError: If one of them cannot be used here.
    """
    from moee.backends.devices import choose_dtype_and_device

    chosen, place = choose_dtype_and_device(LoadOptions(dtype=dtype, device=device))
    return str(chosen).removeprefix("torch."), str(place)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the bars and notes of transformers while models load; there is one for every contestant."""
    from transformers.utils import logging as upstream

    verbosity, bars = upstream.get_verbosity(), upstream.is_progress_bar_enabled()
    upstream.set_verbosity_error()
    upstream.disable_progress_bar()
    try:
        yield
    finally:
        upstream.set_verbosity(verbosity)
        if bars:
            upstream.enable_progress_bar()


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
        setup = self.setup
        config = setup.config()
        if setup.is_random:
            return build_random(config, setup.dtype, setup.device, with_head=self._with_head)
        import torch
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

        has_head = self._with_head and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        builder = AutoModelForCausalLM if has_head else auto_class(config)
        model: Any = builder.from_pretrained(
            setup.folder, dtype=getattr(torch, setup.dtype), use_safetensors=True, local_files_only=True
        )
        return model.to(setup.device).eval()  # type: ignore[no-any-return]  # `Any`: untyped upstream

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
