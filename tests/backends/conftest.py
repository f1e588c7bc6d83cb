"""Tiny models run on one thread here too."""

from __future__ import annotations

from tests.architectures.conftest import one_thread

__all__ = ["one_thread"]
