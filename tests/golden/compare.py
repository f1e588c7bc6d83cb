"""Compare an implementation with the golden arrays and print the largest absolute errors.

    python tests/golden/compare.py package.module:embed [--model olmoe-tiny ...] [--root DIR]

`embed(model_dir, texts, prompt, batch_size)` returns a dict. It may leave out any key; only what it returns is
compared.

    prompts    list[str]          the strings given to the tokenizer
    hs         (n, hidden)        last token, after the final norm, not standardised
    rw         (n, layers * E)    the routing vector the paper's code uses for this model, not standardised
    rw_logits  (n, layers * E)    router logits of the last token, MoE layers side by side
    rw_probs   (n, layers * E)    the same after a softmax over each layer's experts
    hs_z, rw_z                    hs and rw standardised over each batch of `batch_size` texts
    moee_z                        hs_z and rw_z side by side

`prompt` is one of "prompteol", "none", "sentiment". Needs numpy only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

PROMPTS = ("prompteol", "none", "sentiment")
# float32 noise: padding shifts positions (raw), division by a small std amplifies it (z)
TOLERANCE = {
    "hs": 1e-4,
    "rw": 1e-4,
    "rw_logits": 1e-4,
    "rw_probs": 1e-4,
    "hs_z": 1e-3,
    "rw_z": 1e-3,
    "moee_z": 1e-3,
    "cos": 1e-3,
}

# key of embed() -> golden array of one encode() call over the 24 texts
TEXT_ARRAYS = {
    "hs": "{prompt}.b{batch}.HS.embeddings",
    "rw": "{prompt}.b{batch}.HS.moe_rw",
    "hs_z": "{prompt}.b{batch}.RW.default",
    "rw_z": "{prompt}.b{batch}.RW.embeddings",
    "moee_z": "{prompt}.b{batch}.MoEE.embeddings",
    "rw_logits": "{prompt}.router_logits",
    "rw_probs": "{prompt}.router_probs",
}
# the last batch holds a single text
EDGE_ARRAYS = {
    "hs": "edge.b23.HS.embeddings",
    "hs_z": "edge.b23.RW.default",
    "rw_z": "edge.b23.RW.embeddings",
    "moee_z": "edge.b23.MoEE.embeddings",
}
# key of embed() on both columns -> golden cosine
PAIR_COSINES = {
    "hs": "HS.cos",
    "rw": "HS.cos_moe_rw",
    "hs_z": "MoEE.cos_default",
    "rw_z": "RW.cos",
    "moee_z": "MoEE.cos",
}
# (hidden-state key, routing key) -> golden weighted sum
PAIR_SUMS = {("hs_z", "rw_z"): "MoEE.sum_a{alpha}", ("hs", "rw"): "HS.sum_a{alpha}"}

Embed = Callable[[Path, list[str], str, int], Mapping[str, Any]]
Row = tuple[str, str, float, float]  # array, what, error, tolerance


def load(spec: str) -> Embed:
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)


def unit(x: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm == 0, 1, norm)  # a zero row stays zero


def paired_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - |a^ - b^|^2 / 2, the evaluator's formula: two zero rows give 1, one zero row gives 0.5."""
    return 1 - 0.5 * ((unit(a) - unit(b)) ** 2).sum(axis=1)


def error(got: Any, want: np.ndarray) -> float:
    got = np.asarray(got, dtype=np.float64).reshape(len(want), -1)
    want = want.astype(np.float64).reshape(len(want), -1)
    if got.shape != want.shape:
        raise ValueError(f"shape {got.shape} does not match the golden shape {want.shape}")
    return float(np.abs(got - want).max()) if np.isfinite(got).all() else float("inf")


def compare(embed: Embed, root: Path, model: str) -> Iterator[Row]:
    inputs = json.loads((root / "inputs.json").read_text(encoding="utf-8"))
    golden = np.load(root / f"{model}.npz")
    texts, columns = inputs["texts"], list(zip(*inputs["pairs"], strict=True))

    def against(table: Mapping[str, str], got: Mapping[str, Any], **names: object) -> Iterator[Row]:
        for key, pattern in table.items():
            if key in got:
                array = pattern.format(**names)
                yield array, key, error(got[key], golden[array]), TOLERANCE[key]

    for prompt in PROMPTS:
        for batch in (24, 8):
            got = embed(root / model, texts, prompt, batch)
            if "prompts" in got:
                wrong = sum(a != b for a, b in zip(got["prompts"], inputs["rendered_prompts"][prompt], strict=True))
                yield f"inputs.json rendered_prompts.{prompt}", "prompts", float(wrong), 0.0
            yield from against(TEXT_ARRAYS, got, prompt=prompt, batch=batch)

        for batch in (24, 11):  # 12 pairs: one batch, then 11 + 1
            left, right = (embed(root / model, list(column), prompt, batch) for column in columns)
            cosine = {
                key: paired_cosine(np.asarray(left[key]), np.asarray(right[key])) for key in PAIR_COSINES if key in left
            }
            prefix = f"sts.{prompt}.b{batch}."
            for key, got_cosine in cosine.items():
                yield (
                    prefix + PAIR_COSINES[key],
                    key,
                    error(got_cosine, golden[prefix + PAIR_COSINES[key]]),
                    TOLERANCE["cos"],
                )
            for (hidden, routing), name in PAIR_SUMS.items():
                if hidden not in cosine or routing not in cosine:
                    continue
                for alpha in (0.5, 1.0):
                    array = prefix + name.format(alpha=alpha)
                    total = cosine[hidden] + alpha * cosine[routing]
                    yield array, f"{hidden} + {alpha} {routing}", error(total, golden[array]), TOLERANCE["cos"]

    yield from against(EDGE_ARRAYS, embed(root / model, texts, "prompteol", 23))


def main() -> int:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Compare an implementation with the golden arrays.")
    parser.add_argument("embed", help="package.module:function")
    parser.add_argument("--root", type=Path, default=here)
    parser.add_argument("--model", nargs="*", default=["olmoe-tiny"])
    args = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    embed, failed, checked = load(args.embed), 0, 0
    for model in args.model:
        print(f"{model}\n  {'golden array':<44} {'compared':<18} max abs error")
        for array, what, err, tolerance in compare(embed, args.root, model):
            bad = not err <= tolerance
            failed, checked = failed + bad, checked + 1
            print(
                f"  {array:<44} {what:<18} {err:.2e}{'  FAILED, tolerance ' + format(tolerance, '.0e') if bad else ''}"
            )
    print(f"{checked - failed} passed, {failed} failed")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    raise SystemExit(main())
