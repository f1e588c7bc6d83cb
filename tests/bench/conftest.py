"""Setups that run in seconds: a small checkpoint, and shapes of a few columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rivals.shapes import ShapeSetup

from moee.bench.weights import Setup
from tests.architectures.tiny import tiny_config

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "olmoe-tiny"
_GOLDEN_VOCABULARY = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class TinySetup(ShapeSetup):
    """A shape with the few columns of the tests' models, and the tokenizer of the golden checkpoint."""

    model_type: str = "olmoe"

    @property
    def folder(self) -> Path:
        return GOLDEN

    def config(self) -> Any:
        config = tiny_config(self.model_type)
        config.vocab_size = _GOLDEN_VOCABULARY
        return config


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A run sets torch's threads; later tests get theirs back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def golden() -> Setup:
    return Setup(model=str(GOLDEN), layers=None, dtype="float32", device="cpu", threads=1)
