from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moee.errors import CheckpointError, InputError, OutputError, UnknownNameError
from moee.method.fusion import unit
from moee.stores.quantize import CODECS, fit_codec, load_codec

LENGTHS = (48, 13, 21)
DIM = sum(LENGTHS)
BLOCKS = (slice(0, 48), slice(48, 61), slice(61, 82))
ROUTING = BLOCKS[2]
RNG = np.random.default_rng(3)


def stored(num_texts: int) -> np.ndarray:
    """Vectors of unit blocks whose dimensions differ in spread, and whose routing block is far from centred."""
    h = unit(RNG.standard_normal((num_texts, 48)) * np.linspace(0.2, 3, 48))
    t = unit(RNG.standard_normal((num_texts, 13)))
    r = unit(np.abs(RNG.standard_normal((num_texts, 21))) ** 3 + 0.5)
    return np.concatenate([h, t, r], axis=1)


SAMPLE, OTHERS = stored(600), stored(400)


def test_eight_bits_keep_every_value_to_half_a_step() -> None:
    codec = fit_codec("int8", SAMPLE, LENGTHS)
    codes = codec.encode(SAMPLE)
    assert (codes.dtype, codes.shape, codec.width) == (np.uint8, (600, DIM), DIM)
    assert np.all(np.abs(codec.decode(codes) - SAMPLE) <= 0.51 * codec.scale)


def test_values_beyond_the_range_of_the_fit_are_cut_to_its_end() -> None:
    codec = fit_codec("int8", SAMPLE, LENGTHS)
    far = np.full((1, codec.dim), 9.0, dtype=np.float32)
    assert np.allclose(codec.decode(codec.encode(far)), codec.centre + 127 * codec.scale)
    assert np.allclose(codec.decode(codec.encode(-far)), codec.centre - 127 * codec.scale)


def test_a_bit_a_dimension_and_a_factor_for_each_block() -> None:
    codec = fit_codec("binary", SAMPLE, LENGTHS)
    codes = codec.encode(OTHERS)
    assert (codes.dtype, codes.shape) == (np.uint8, (400, (DIM + 7) // 8 + 6))
    assert codec.width == codes.shape[1]


def test_a_binary_block_has_product_one_with_the_true_one() -> None:
    """So a text finds itself with a cosine of 1 in every view, and weights mean what they do in an exact index."""
    codec = fit_codec("binary", SAMPLE, LENGTHS)
    decoded = codec.decode(codec.encode(OTHERS))
    for block in BLOCKS:
        own = np.einsum("nd,nd->n", OTHERS[:, block], decoded[:, block])
        assert np.abs(own - 1).max() < 2e-3  # factors are float16


def test_positive_blocks_keep_their_differences_in_one_bit() -> None:
    """Signs of routing weights as they are would all be alike; around the centre, about half are."""
    codec = fit_codec("binary", SAMPLE, LENGTHS)
    bits = np.unpackbits(codec.encode(OTHERS)[:, :-6], axis=1, count=codec.dim)[:, ROUTING]
    assert np.all(OTHERS[:, ROUTING] > 0)
    assert 0.2 < bits.mean() < 0.6
    assert len(np.unique(bits, axis=0)) > 350


@pytest.mark.parametrize(("name", "least"), [("int8", 0.999), ("binary", 0.7)])
def test_similarities_to_float_queries_survive(name: str, least: float) -> None:
    codec = fit_codec(name, SAMPLE, LENGTHS)
    queries = stored(50)
    exact, found = queries @ OTHERS.T, queries @ codec.decode(codec.encode(OTHERS)).T
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > least


@pytest.mark.parametrize("name", CODECS)
def test_a_constant_dimension_and_a_zero_block_come_back(name: str) -> None:
    sample = SAMPLE.copy()
    sample[:, 5] = 0.25
    codec = fit_codec(name, sample, LENGTHS)
    odd = sample[:2].copy()
    odd[0, ROUTING] = 0
    decoded = codec.decode(codec.encode(odd))
    assert np.isfinite(decoded).all()
    assert np.abs(decoded[0, ROUTING]).max() <= 0.51 * codec.scale.max() * (name == "int8")
    if name == "int8":
        assert np.allclose(decoded[:, 5], 0.25, atol=1e-6)


@pytest.mark.parametrize("name", CODECS)
def test_a_saved_codec_gives_the_same_codes(name: str, tmp_path: Path) -> None:
    codec = fit_codec(name, SAMPLE, LENGTHS)
    codec.save(tmp_path / "codec.safetensors")
    again = load_codec(tmp_path / "codec.safetensors")
    assert (again.name, again.dim, again.width) == (codec.name, codec.dim, codec.width)
    codes = codec.encode(OTHERS)
    assert np.array_equal(again.encode(OTHERS), codes)
    assert np.array_equal(again.decode(codes), codec.decode(codes))


def test_unknown_codecs_are_refused_with_close_matches() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown quantisation 'in8'.*Did you mean 'int8'"):
        fit_codec("in8", SAMPLE, LENGTHS)


def test_one_vector_is_too_few() -> None:
    with pytest.raises(InputError, match="at least 2 texts, and got 1"):
        fit_codec("int8", SAMPLE[:1], LENGTHS)


@pytest.mark.parametrize("name", CODECS)
def test_vectors_of_another_length_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="vectors of 82 dimensions; got an array of shape"):
        fit_codec(name, SAMPLE, LENGTHS).encode(OTHERS[:, 1:])


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"
    with pytest.raises(CheckpointError, match="is not a readable codec"):
        load_codec(path)
    fit_codec("int8", SAMPLE, LENGTHS).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is not a readable codec"):
        load_codec(path)


def test_newer_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "codec.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("moee.stores.quantize.FORMAT_VERSION", 3)
        fit_codec("int8", SAMPLE, LENGTHS).save(path)
    with pytest.raises(CheckpointError, match="codec format 3; this program reads formats up to 2"):
        load_codec(path)


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        fit_codec("int8", SAMPLE, LENGTHS).save(tmp_path / "missing" / "codec.safetensors")
