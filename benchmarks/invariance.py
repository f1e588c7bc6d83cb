"""How far a text's vector moves with what shares its batch: the promise that it does not, measured.

    python benchmarks/invariance.py                     # the demo in float32, 200 sentences
    python benchmarks/invariance.py --dtype bfloat16 -m FOLDER

Prints the largest absolute difference of a coordinate of the default unit vector, for each way of arranging the texts,
against one text at a time. A router chooses the best k experts: where the k-th and the next are equal up to rounding,
the rounding decides, and a text may move more than rounding does. Such texts are counted apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from moee import MoEE
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.data import calibration_texts
from moee.types import Array

NEAR_TIE = 3e-7
"""Difference of two router logits that rounding may turn round: a few units in the last place of a float32 near 1."""


@dataclass(frozen=True, slots=True)
class Invariance:
    """How far texts moved from one at a time.

    Attributes:
        differences: Per arrangement: the largest absolute difference of a coordinate of each text, `(texts,)`.
        margins: The smallest difference, over tokens and layers, between the last expert that a router chose and the
            first that it did not, `(texts,)`.
    """

    differences: dict[str, Array]
    margins: Array

    def largest(self, *, near_ties: bool) -> dict[str, float]:
        """Return the largest difference of each arrangement among the texts with, or without, a near tie."""
        chosen = (self.margins < NEAR_TIE) == near_ties
        return {name: float(values[chosen].max(initial=0.0)) for name, values in self.differences.items()}


def measure(name: str, texts: list[str], dtype: str) -> Invariance:
    """Embed `texts` one at a time and in several arrangements."""
    model = MoEE.from_pretrained(name, dtype=dtype)
    model.encode(texts[:1])  # statistics that a prompt needs are fitted now: they must not count as a text
    rows, margins = [], []
    for text in texts:
        with _smallest_margin(model) as found:
            rows.append(model.encode([text]))
        margins.append(min(found))
    alone = np.concatenate(rows)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled: Array = np.empty_like(alone)
    shuffled[order] = model.encode([texts[index] for index in order])
    doubled = model.encode([*texts, *texts])
    left = MoEE.from_pretrained(name, dtype=dtype, padding_side="left")
    arrangements = {
        "in batches": model.encode(texts),
        "shuffled": shuffled,
        "duplicated": doubled[len(texts) :],
        "small batches": MoEE.from_pretrained(name, dtype=dtype, batch_tokens=256).encode(texts),
        "padded on the left": left.encode(texts),
    }
    differences = {label: np.abs(vectors - alone).max(axis=1) for label, vectors in arrangements.items()}
    return Invariance(differences, np.asarray(margins, dtype=np.float32))


@contextmanager
def _smallest_margin(model: MoEE) -> Iterator[list[float]]:
    """Collect the smallest margin of every router while the model runs."""
    backend = model._backend
    assert isinstance(backend, HuggingFaceBackend), "margins are read from the routers of a transformers model"
    found: list[float] = []

    def hook_of(output: int | None, top_k: int) -> Any:
        def hook(_module: Any, _inputs: Any, returned: Any) -> None:
            logits = (returned if output is None else returned[output]).float()
            best = logits.reshape(-1, logits.shape[-1]).topk(top_k + 1, dim=-1).values
            found.append(float((best[:, -2] - best[:, -1]).min()))

        return hook

    handles = [site.module.register_forward_hook(hook_of(site.output, site.top_k)) for site in backend.sites]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="demo")
    parser.add_argument("--texts", type=int, default=200, help="how many built-in sentences (default 200)")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    texts = calibration_texts()[: arguments.texts]
    print(f"{arguments.model}, {len(texts)} sentences, {arguments.dtype}: largest difference from one at a time")
    found = measure(arguments.model, texts, arguments.dtype)
    ties = int((found.margins < NEAR_TIE).sum())
    print(f"  {'':<20} {len(texts) - ties:>4} texts   {ties} with two experts within {NEAR_TIE:g} of each other")
    tied = found.largest(near_ties=True)
    for label, difference in found.largest(near_ties=False).items():
        print(f"  {label:<20} {difference:>10.1e}   {tied[label]:.1e}")


if __name__ == "__main__":
    main()
