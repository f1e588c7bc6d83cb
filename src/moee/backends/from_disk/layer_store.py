"""A checkpoint whose decoder layers come into memory one at a time, for models larger than memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers.initialization import guard_torch_init_functions

from moee.architectures import Architecture
from moee.backends.checkpoint import headers
from moee.backends.checkpoint.support import register_native
from moee.backends.forward.routers import decoder_layers
from moee.backends.from_disk.layer_plan import Precision, Recipe, plan_weights
from moee.backends.from_disk.layer_slots import Slot, Undo, slots_of
from moee.backends.from_disk.meta_model import MetaModel, build_on_meta
from moee.backends.from_disk.weight_reader import read_weights
from moee.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Prepare = Callable[[int, nn.Module], None]
"""A function that is called with a layer's number and the layer, just after its weights came."""
Weights = dict[str, torch.Tensor]
"""Tensors by their name under the text model."""


class LayerStore:
    """Gives a text model its weights one decoder layer at a time, and reads the next one meanwhile.

    Everything outside the decoder layers is in memory from the start.

    Attributes:
        model: The text model, in evaluation mode, without a language-model head. Parameters and buffers of a decoder
            layer are on the meta device while the layer is not in memory.
        num_layers: Decoder layers.
        layer_bytes: What each layer takes in memory, in bytes.
        resident_bytes: What the rest takes, in bytes.
        bytes_read: Bytes read from the files for layers, so far.
    """

    def __init__(
        self, model: MetaModel, recipes: list[Recipe], *, architecture: Architecture, device: torch.device
    ) -> None:
        """Put what is outside the layers into memory; see `open`.

        Args:
            model: Model on the meta device.
            recipes: How every weight of its text model is made.
            architecture: Row that serves the model.
            device: Device that weights go to.
        """
        self.model: PreTrainedModel = model.text.eval()
        self._whole = model.whole
        self._device = device
        self._prefix = model.prefix
        self._layers: list[nn.Module] = list(decoder_layers(self.model, architecture))
        self.num_layers = len(self._layers)
        self._slots = [slots_of(layer, f"{architecture.layers}.{n}.") for n, layer in enumerate(self._layers)]
        in_layers = {key for slots in self._slots for key in slots}
        rest = {key: slot for key, slot in slots_of(self.model).items() if key not in in_layers}

        self._recipes = [_for_keys(recipes, self._prefix, slots) for slots in self._slots]
        made = {key.removeprefix(self._prefix): each.dtype for each in recipes for key in each.targets}
        everything = {**rest, **{key: slot for slots in self._slots for key, slot in slots.items()}}
        self._constants = _compute(self.model, {key: slot for key, slot in everything.items() if key not in made})
        self._constants = {key: value.to(device) for key, value in self._constants.items()}
        weights = self._collect(rest, _for_keys(recipes, self._prefix, rest))
        for key, slot in rest.items():
            slot.put(weights[key])
        _touch_up(self.model, (slot.module for slot in rest.values()))
        self.layer_bytes = tuple(_bytes(slots, made) for slots in self._slots)
        self.resident_bytes = _bytes(rest, made)
        self.bytes_read = 0
        self._is_busy = False
        self._is_loaded = False

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        name: str,
        dtype: torch.dtype,
        device: torch.device,
        architecture: Architecture,
        keep_experts: bool = False,
    ) -> LayerStore:
        """Open a checkpoint folder; no decoder layer is read yet.

        Args:
            folder: Folder with `config.json` and safetensors files. Weights in 8 or 4 bits are widened as they come.
            name: Name of the model, for messages.
            dtype: Type that weights are held in.
            device: Device that weights go to.
            architecture: Row that serves the model.
            keep_experts: Leave the experts' fused matrices in the dtype of the files where that is not wider than
                `dtype`. They are most of a model, so this halves what bfloat16 files take on a device that computes in
                float32; the expert kernel has to cast them.

        Raises:
            CheckpointError: If files are missing, corrupt or pickled, lack a tensor that the text model needs, or are
                quantised in another way than `meta_model.UNPACKED`.
            UnsupportedArchitectureError: If the decoder layers are not where `architecture` has them.
        """
        files = _safetensors(folder, name)
        register_native(architecture)
        model = build_on_meta(folder, name, dtype)
        entries = {entry.name: entry for entry in headers.tensor_entries(files)}
        precision = Precision.of(model.whole, dtype, keep_experts=keep_experts)
        recipes = plan_weights(model, entries, precision, name=name)
        return cls(model, recipes, architecture=architecture, device=device)

    def layers(self, *, prepare: Prepare | None = None) -> Iterator[tuple[int, nn.Module]]:
        """Yield every decoder layer with its weights in memory, in order.

        While a layer is out, a thread reads the next one. When the next one is asked for, or the iterator is closed,
        the layer's weights go, and with them what `prepare` put on it. So at most two layers are in memory.

        Args:
            prepare: Called with every layer just after its weights came, for example to quantise it. Not called after
                `load_all`, which takes one of its own.

        Raises:
            CheckpointError: If a file is gone, cannot be read or ends too early.
            InputError: If another pass over the layers is not finished.
        """
        if self._is_loaded:
            yield from enumerate(self._layers)
            return
        with closing(self._stream()) as stream:
            for number, weights in stream:
                undo = self._fill(number, weights, prepare)
                try:
                    yield number, self._layers[number]
                finally:
                    undo.restore()

    def layers_on_meta(self) -> tuple[nn.Module, ...]:
        """Return the decoder layers as they are, empty or not: their shapes can be read."""
        return tuple(self._layers)

    def load_all(self, *, prepare: Prepare | None = None) -> PreTrainedModel:
        """Bring every layer into memory, for a model that fits.

        Args:
            prepare: Called with every layer just after its weights came.

        Returns:
            `model`, with the values that `from_pretrained` gives it.

        Raises:
            CheckpointError: If a file is gone, cannot be read or ends too early.
            InputError: If a pass over the layers is not finished.
        """
        if not self._is_loaded:
            with ExitStack() as undo, closing(self._stream()) as stream:
                for number, weights in stream:
                    undo.callback(self._fill(number, weights, prepare).restore)
                undo.pop_all()
            self._is_loaded = True
        return self.model

    def _stream(self) -> Generator[tuple[int, Weights]]:
        """Yield the weights of every layer; a thread reads those of the next one from then on."""
        if self._is_busy:
            raise InputError(
                "Another pass over the layers of this model is not finished, and the layers are in memory only once. "
                "Use it up or close it first."
            )
        self._is_busy = True
        stopped = threading.Event()
        try:
            # leaving the block joins the thread
            with ThreadPoolExecutor(1, thread_name_prefix="moee-layers") as pool:
                try:
                    waiting = pool.submit(self._load, 0, stopped)
                    for number in range(self.num_layers):
                        weights = waiting.result()
                        if number + 1 < self.num_layers:
                            waiting = pool.submit(self._load, number + 1, stopped)
                        self.bytes_read += sum(
                            entry.size for each in self._recipes[number] for _, entry in each.sources
                        )
                        yield number, weights
                finally:
                    stopped.set()
        finally:
            self._is_busy = False

    def _load(self, number: int, stopped: threading.Event) -> Weights:
        return self._collect(self._slots[number], self._recipes[number], stopped)

    def _collect(
        self, slots: Mapping[str, Slot], recipes: list[Recipe], stopped: threading.Event | None = None
    ) -> Weights:
        """Make what `slots` hold: from the files, or as it was computed at the start."""
        made = read_weights(recipes, self._whole, self._device, stopped)
        return {
            key: slot.of(made[self._prefix + key] if self._prefix + key in made else self._constants[key])
            for key, slot in slots.items()
        }

    def _fill(self, number: int, weights: Weights, prepare: Prepare | None) -> Undo:
        """Put weights into their layer and let `prepare` at it; return how to empty it again."""
        layer = self._layers[number]
        undo = Undo.of(layer)
        try:
            for key, slot in self._slots[number].items():
                # taken out, so that what `prepare` replaces is freed at once
                slot.put(weights.pop(key))
            _touch_up(self.model, layer.modules())
            if prepare is not None:
                undo.watch(layer, lambda: prepare(number, layer))
        except BaseException:
            undo.restore()
            raise
        return undo


def _for_keys(recipes: Iterable[Recipe], prefix: str, keys: Iterable[str]) -> list[Recipe]:
    """Return the recipes that make any of `keys`."""
    wanted = {prefix + key for key in keys}
    return [each for each in recipes if not wanted.isdisjoint(each.targets)]


def _bytes(slots: Mapping[str, Slot], made: Mapping[str, torch.dtype]) -> int:
    """Return what the slots take in memory: in the dtype they are made in, or their own if they are computed."""
    return sum(slot.shape.numel() * made.get(key, slot.dtype).itemsize for key, slot in slots.items())


def _compute(text_model: PreTrainedModel, slots: Mapping[str, Slot]) -> Weights:
    """Return the tensors that no file holds, such as rotary frequencies, as transformers computes them.

    The slots are left as they were, on the meta device.
    """
    empty = {key: slot.tensor for key, slot in slots.items()}
    for value in [*text_model.parameters(), *text_model.buffers()]:
        value._is_hf_initialized = True  # type: ignore[attr-defined]
    for slot in slots.values():
        value = slot.of(torch.empty(slot.shape, dtype=slot.dtype))
        value._is_hf_initialized = False  # type: ignore[attr-defined]
        slot.put(value)
    _touch_up(text_model, text_model.modules())
    computed = {key: slot.tensor.detach() for key, slot in slots.items()}
    for key, slot in slots.items():
        slot.put(empty[key])
    return computed


@torch.no_grad()
def _touch_up(text_model: PreTrainedModel, modules: Iterable[nn.Module]) -> None:
    """Let the model's own code at modules that were just read, as `from_pretrained` does.

    It fills what is not marked as read, and some models set a number in what is: Zaya the bias of its skip choice.
    """
    with guard_torch_init_functions():
        for module in modules:
            text_model._init_weights(module)


def _safetensors(folder: Path, name: str) -> list[Path]:
    # pickles are not opened here, only named in the message
    files = headers.weight_files(folder, allow_pickle=True)
    if files[0].suffix != headers.SAFETENSORS:
        raise CheckpointError(
            f"{name!r} holds pickle weights ({files[0].name}), which can only be loaded whole. "
            "Get the safetensors version, or load it without a limit on memory."
        )
    return files
