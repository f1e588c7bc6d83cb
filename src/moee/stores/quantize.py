"""Stored vectors in fewer bytes: 8 bits or 1 bit a dimension, around a saved centre.

A codec is fitted once, on vectors of the corpus, and saved with the index. Only stored vectors are rounded: a query
stays float32, which loses less than rounding both. Every dimension has its own centre and scale, because routing
weights are not centred by nature (signs of raw ones are all alike), and because dimensions differ in spread.

A binary code also keeps a number for each block of a vector: what the decoded block must be multiplied by so that its
dot product with the true one is 1. Signs shorten a block, and the blocks unequally; without the numbers weights would
mean something else in a binary index than in an exact one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from moee.errors import CheckpointError, InputError, check_choice
from moee.files.arrays import read_arrays, write_arrays
from moee.types import Array

CodecName = Literal["int8", "binary"]
CODECS: tuple[CodecName, ...] = get_args(CodecName)
FORMAT_VERSION = 2

Codes = npt.NDArray[np.uint8]
"""`(num_vectors, width)`: the bytes of every vector."""

_LEVELS = 127
"""Steps of an 8-bit code on either side of the centre; 255 levels, so that the centre itself is one."""
_FACTORS = np.dtype("<f2")


@dataclass(frozen=True, slots=True, eq=False)
class Codec(ABC):
    """Turns stored vectors into bytes and back, with a loss, around the centre of those it was fitted on.

    Attributes:
        centre: `(dim,)` float32, the mean.
        scale: `(dim,)` float32, size of a step from it.
        lengths: Length of each block; they add up to `dim`.
    """

    centre: Array
    scale: Array
    lengths: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.centre)

    @property
    @abstractmethod
    def name(self) -> CodecName:
        """`"int8"` or `"binary"`."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Bytes of a vector."""

    @abstractmethod
    def decode(self, codes: Codes) -> Array:
        """Return `(n, dim)` float32 vectors of `(n, width)` codes."""

    @abstractmethod
    def _encode(self, vectors: Array) -> Codes: ...

    def encode(self, vectors: Array) -> Codes:
        """Return `(n, width)` codes of `(n, dim)` vectors.

        Raises:
            InputError: If the vectors have another length.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise InputError(
                f"The codec was fitted on vectors of {self.dim} dimensions; got an array of shape {vectors.shape}. "
                "Use the codec of this index."
            )
        return self._encode(vectors)

    def save(self, path: Path) -> None:
        """Write the codec to a safetensors file, whole or not at all."""
        arrays = {"centre": self.centre, "scale": self.scale}
        write_arrays(path, "codec", arrays, {"name": self.name, "lengths": self.lengths}, version=FORMAT_VERSION)


class Int8Codec(Codec):
    """One byte a dimension: the distance from the centre in 127 steps, of which the widest one seen in the fit is last.

    Values beyond the last step are cut to it.
    """

    __slots__ = ()
    name = "int8"

    @property
    def width(self) -> int:
        """Bytes of a vector."""
        return self.dim

    def _encode(self, vectors: Array) -> Codes:
        steps = np.rint((vectors - self.centre) / self.scale)
        codes: Codes = np.clip(steps, -_LEVELS, _LEVELS).astype(np.int8).view(np.uint8)
        return codes

    def decode(self, codes: Codes) -> Array:
        """See `Codec.decode`."""
        return np.asarray(self.centre + self.scale * codes.view(np.int8), dtype=np.float32)


class BinaryCodec(Codec):
    """One bit a dimension: the side of the centre, at its mean distance; and a float16 factor for each block."""

    __slots__ = ()
    name = "binary"

    @property
    def width(self) -> int:
        """Bytes of a vector."""
        return self._bit_bytes + len(self.lengths) * _FACTORS.itemsize

    @property
    def _bit_bytes(self) -> int:
        return -(-self.dim // 8)

    def _encode(self, vectors: Array) -> Codes:
        bits = np.packbits(vectors > self.centre, axis=1)
        signed = self._signed(bits)
        factors = np.ones((len(vectors), len(self.lengths)), dtype=_FACTORS)
        for place, block in enumerate(self._blocks()):
            shared = np.einsum("nd,nd->n", vectors[:, block], signed[:, block])
            # a block that the bits say nothing of is left as it is, and one of zeros stays one
            factors[:, place] = np.where(shared > _LEAST_SHARED, 1.0 / np.maximum(shared, _LEAST_SHARED), 1.0)
            factors[~vectors[:, block].any(axis=1), place] = 0.0
        return np.concatenate([bits, factors.view(np.uint8)], axis=1)

    def decode(self, codes: Codes) -> Array:
        """See `Codec.decode`."""
        signed = self._signed(codes[:, : self._bit_bytes])
        factors = np.ascontiguousarray(codes[:, self._bit_bytes :]).view(_FACTORS).astype(np.float32)
        for place, block in enumerate(self._blocks()):
            signed[:, block] *= factors[:, place, None]
        return signed

    def _signed(self, bits: Codes) -> Array:
        signs = np.unpackbits(bits, axis=1, count=self.dim).astype(np.float32) * 2.0 - 1.0
        return np.asarray(self.centre + self.scale * signs, dtype=np.float32)

    def _blocks(self) -> list[slice]:
        ends = np.cumsum(self.lengths).tolist()
        return [slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True)]


_CLASSES: Mapping[str, type[Codec]] = {"int8": Int8Codec, "binary": BinaryCodec}
_LEAST_SHARED = 1e-3
"""Least dot product of a block with its decoded form; below it the factor would be noise."""


def fit_codec(name: str, vectors: Array, lengths: Iterable[int]) -> Codec:
    """Fit a codec to vectors like those to be stored.

    Args:
        name: `"int8"` or `"binary"`.
        vectors: `(n, dim)` float32, stored vectors of a sample, at least two.
        lengths: Length of each of their blocks.

    Raises:
        UnknownNameError: If there is no such codec.
        InputError: If there are fewer than two vectors.
    """
    check_choice("quantisation", name, CODECS)
    if len(vectors) < 2:
        raise InputError(
            f"Quantisation is fitted on at least 2 texts, and got {len(vectors)}. Store float32 vectors until there "
            "are more."
        )
    centre = vectors.mean(axis=0, dtype=np.float64)
    distances = np.abs(vectors - centre)
    scale = distances.mean(axis=0)
    if name == "int8":
        reach = distances.max(axis=0)
        # a dimension that never moves is its centre, whatever the step
        scale = np.where(reach > 0, reach, 1.0) / _LEVELS
    return _CLASSES[name](centre.astype(np.float32), scale.astype(np.float32), tuple(lengths))


def load_codec(path: Path) -> Codec:
    """Read what `Codec.save` wrote.

    Raises:
        CheckpointError: If the file is missing, damaged, or of a newer version.
    """
    advice = "Build the index again."
    found = read_arrays(
        path,
        "codec",
        arrays=("centre", "scale"),
        facts=("name",),
        version=FORMAT_VERSION,
        error=CheckpointError,
        advice=advice,
        # version 1 knew two blocks, and at first kept not even their lengths, which 8-bit codes do not need
        optional={"hidden_dim": 0, "lengths": None},
    )
    if found["name"] not in _CLASSES:
        raise CheckpointError(f"{str(path)!r} holds the unknown codec {found['name']!r}. {advice}")
    centre, hidden = found["centre"], int(found["hidden_dim"])
    lengths = found["lengths"] or (hidden, len(centre) - hidden)
    return _CLASSES[found["name"]](centre, found["scale"], tuple(lengths))
