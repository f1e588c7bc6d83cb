"""Search over a corpus: a model, a store, and what ties the two together on disk."""

from __future__ import annotations
