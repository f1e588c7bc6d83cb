"""Text embeddings from any Mixture-of-Experts LLM, without training (Li & Zhou, ICLR 2025, arXiv 2410.10814).

Importing this package loads neither torch nor transformers; they are loaded when a model is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moee.embedder import MoEE
    from moee.errors import MoEEError
    from moee.method.calibration import Calibration
    from moee.method.config import EmbedderConfig
    from moee.types import Views

__version__ = "0.1.0"
__all__ = ["Calibration", "EmbedderConfig", "MoEE", "MoEEError", "Views", "__version__"]

_HOMES = {
    "Calibration": "moee.method.calibration",
    "EmbedderConfig": "moee.method.config",
    "MoEE": "moee.embedder",
    "MoEEError": "moee.errors",
    "Views": "moee.types",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
