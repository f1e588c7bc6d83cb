"""Vectors that can be searched: stores behind one small protocol, reduction, and quantisation. It knows no model."""

from __future__ import annotations
