"""How far a text's vector moves with what shares its batch: the promise that it does not, measured.

    python benchmarks/invariance.py                     # the demo in float32, 200 sentences
    python benchmarks/invariance.py --dtype bfloat16 -m FOLDER

Prints the largest absolute difference of a coordinate of the default unit vector, for each way of arranging the texts,
against one text at a time.
"""

from __future__ import annotations

import argparse

import numpy as np

from moee import MoEE
from moee.data import calibration_texts
from moee.types import Array


def measure(name: str, texts: list[str], dtype: str) -> dict[str, float]:
    """Return the largest absolute difference of each arrangement from one text at a time."""
    model = MoEE.from_pretrained(name, dtype=dtype)
    alone = np.concatenate([model.encode([text]) for text in texts])
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
    return {label: float(np.abs(vectors - alone).max()) for label, vectors in arrangements.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="demo")
    parser.add_argument("--texts", type=int, default=200, help="how many built-in sentences (default 200)")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    texts = calibration_texts()[: arguments.texts]
    print(f"{arguments.model}, {len(texts)} sentences, {arguments.dtype}: largest difference from one at a time")
    for label, difference in measure(arguments.model, texts, arguments.dtype).items():
        print(f"  {label:<20} {difference:.1e}")


if __name__ == "__main__":
    main()
