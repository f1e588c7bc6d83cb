"""Reads tensors of safetensors files into memory that is already there.

Plain reads, not a memory map: mapped pages would count as memory of the process, and faulting them in one by one is
slower than the disk.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch

from moee.backends.checkpoint.headers import TensorEntry
from moee.backends.from_disk.layer_plan import Recipe, file_dtype
from moee.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CAST_ELEMENTS = 1 << 15
"""Numbers cast at once: they stay in the nearest cache, and are the most that torch starts no threads for."""
_ALIGNMENT = 64
"""Bytes that a place in memory is a multiple of, as torch's own allocations are."""
_READ_BYTES = 1 << 24
"""Bytes read at once where nothing is cast; a stop is noticed between two reads."""


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return memory for a tensor on the CPU.

    numpy asks Linux for large pages, torch does not: reading a layer of OLMoE into fresh memory is 2.5 times as fast.
    """
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return torch.from_numpy(raw[start : start + size]).view(dtype).view(shape)


class ReadStoppedError(Exception):
    """Reading was stopped because nobody waits for the result any more."""


class WeightReader:
    """Reads tensors while it is open; keeps each file open until then.

    Args:
        stopped: Becomes true when nobody waits for the result any more.
    """

    def __init__(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self._stopped = stopped
        self._files: dict[Path, FileIO] = {}
        self._stack = ExitStack()

    def __enter__(self) -> WeightReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._files.clear()

    def read(self, entry: TensorEntry, dtype: torch.dtype) -> torch.Tensor:
        """Return one tensor of the files in `dtype`.

        Raises:
            CheckpointError: If the file is gone, cannot be read or ends too early.
        """
        made = empty(entry.shape, dtype)
        self.read_into(entry, made.view(-1))
        return made

    def read_into(self, entry: TensorEntry, place: torch.Tensor) -> None:
        """Read one tensor of the files into `place`, `(elements,)`, casting to its dtype.

        Raises:
            CheckpointError: If the file is gone, cannot be read or ends too early.
        """
        stored = file_dtype(entry)
        try:
            file = self._open(entry.file)
            file.seek(entry.start)
            if stored == place.dtype:
                self._fill(file, entry, place)
                return
            scratch = torch.empty(min(_CAST_ELEMENTS, place.numel()), dtype=stored)
            for start in range(0, place.numel(), _CAST_ELEMENTS):
                part = place[start : start + _CAST_ELEMENTS]
                self._fill(file, entry, scratch[: part.numel()])
                part.copy_(scratch[: part.numel()])
        except OSError as error:
            raise CheckpointError(
                f"{str(entry.file)!r} could not be read ({error}). "
                "Keep the files of a model in place while it is used, and check the disk."
            ) from error

    def _open(self, path: Path) -> FileIO:
        if path not in self._files:
            # unbuffered: bytes go from the system straight to where they are wanted
            self._files[path] = self._stack.enter_context(FileIO(path, "rb"))
        return self._files[path]

    def _fill(self, file: FileIO, entry: TensorEntry, place: torch.Tensor) -> None:
        if place.numel() == 0:
            return
        room = place.view(torch.uint8).numpy().data
        while room.nbytes:
            if self._stopped():
                raise ReadStoppedError
            count = file.readinto(room[:_READ_BYTES])
            if not count:
                raise CheckpointError(
                    f"{str(entry.file)!r} ends inside the tensor {entry.name!r}; it was whole when it was opened. "
                    "Something changes it: copy it again, and keep it in place while the model is used."
                )
            room = room[count:]


def read_weights(
    recipes: Iterable[Recipe], model: PreTrainedModel, device: torch.device, stopped: threading.Event | None = None
) -> dict[str, torch.Tensor]:
    """Make the weights of some recipes.

    Args:
        recipes: What to make.
        model: The whole model; conversion rules look up its sizes.
        device: Device that the weights go to.
        stopped: Set when nobody waits for the result any more.

    Returns:
        Weights by name.

    Raises:
        CheckpointError: If a file is gone, cannot be read or ends too early.
        ReadStoppedError: If `stopped` was set.
    """
    made: dict[str, torch.Tensor] = {}
    with WeightReader(stopped.is_set if stopped else lambda: False) as reader:
        # in the order of the files: a disk is fastest from front to back
        for recipe in sorted(recipes, key=_position):
            if recipe.fills is None:
                weights = recipe.convert(model, reader.read)
                made.update({name: weights[name].to(device) for name in recipe.targets})
                continue
            weight = empty(recipe.shape, recipe.dtype)
            flat = weight.view(-1)
            for entry, start in sorted(recipe.fills, key=lambda fill: (str(fill[0].file), fill[0].start)):
                reader.read_into(entry, flat[start : start + math.prod(entry.shape)])
            made[recipe.targets[0]] = weight.to(device)
    return made


def _position(recipe: Recipe) -> tuple[str, int]:
    return min((str(entry.file), entry.start) for _, entry in recipe.sources)
