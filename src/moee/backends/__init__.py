"""What runs a model: token batches in, `Activations` out. One module for each way of running one."""

from __future__ import annotations
