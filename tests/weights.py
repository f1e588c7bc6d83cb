"""The weights file of the embedded default model, for tests that have a cache of their own."""

from __future__ import annotations

from pathlib import Path

from moee.demo import weights


def lend_weights(cache: Path) -> None:
    """Let a cache folder have the weights that this run's cache has; nothing if it has none."""
    fetched = weights.weights_path()
    lent = cache / fetched.parent.name / fetched.name
    if fetched.is_file() and not lent.exists():
        lent.parent.mkdir(parents=True, exist_ok=True)
        lent.symlink_to(fetched.resolve())
