from __future__ import annotations

from tests.bench.conftest import golden, threads

__all__ = ["golden", "threads"]
