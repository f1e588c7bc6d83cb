"""What 8 bits change and what they gain: vectors, scores and speed beside full precision, interleaved in one run.

    OMP_NUM_THREADS=1 python benchmarks/precision.py [--wider] [--json benchmarks/results/performance/precision.json]
    MOEE_DATA=../shared/data python benchmarks/precision.py --sts 250      # 0 for whole sets

- vectors: cosine between the vector of a sentence in full precision and in 8 bits, for the embedded default, over
  built-in calibration sentences. `raw` is a view as the model gives it; the rest is calibrated with the statistics of
  the exact model, which the 8-bit one uses too: nothing is fitted again.
- scores (`--sts`): Spearman correlation x 100 on STS13 and STS16, same statistics. Nothing was chosen on these sets.
- wider (`--wider`): the same vectors and speed when layers down to 256 outputs are converted too.
- speed: the embedded default on whole sentences, and one decoder layer of OLMoE-1B-7B's full width with random weights
  (its routing is then nearly even; needs 3 GiB). CPU seconds, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moee import EmbedderConfig, MoEE
from moee.backends.checkpoint.support import LoadOptions
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.backends.forward.twin import Twin
from moee.backends.int8 import describe_arithmetic, quantize
from moee.backends.int8.convert import SMALLEST
from moee.backends.kernels.select import experts_kernel
from moee.backends.open import open_backend
from moee.data import calibration_texts
from moee.evaluate.study import Study
from moee.evaluate.vectors import Setting
from moee.files.atomic import atomic_file
from moee.types import Array, Views

STS_SETS = ("STS13", "STS16")
LAYER_TOKENS = (512, 2048, 4096)
SENTENCE_TOKENS = 32
WIDER = 256
TARGETS = {"cosine": 0.99, "layer_ratio": 1.5, "sts_points": 0.5}
Row = dict[str, Any]


def open_demo(smallest: int | None) -> tuple[MoEE, Row]:
    """Return the embedded default in float32, or converted down to layers of `smallest` outputs, and what that did."""
    backend = open_backend("demo", LoadOptions(dtype="float32", device="cpu"))
    assert isinstance(backend, HuggingFaceBackend)
    converted: Row = {}
    if smallest is not None:
        report = quantize(backend.text_model, keep=[site.module for site in backend.sites], smallest=smallest)
        converted = {
            "smallest": smallest,
            "linears": report.linears,
            "experts": report.experts,
            "kept": len(report.kept),
            "bytes_before": report.bytes_before,
            "bytes_after": report.bytes_after,
        }
    return MoEE(backend, EmbedderConfig()), converted


def compare_vectors(exact: MoEE, exact_views: Views, ours: MoEE, texts: Sequence[str]) -> Row:
    """Return the mean, 1st percentile and minimum of the cosines, for every fusion and for the raw views."""
    views = ours.encode_views(texts)
    pairs = {
        "default": (ours.fuse(views), exact.fuse(exact_views)),
        "hs": (ours.fuse(views, fusion="hs"), exact.fuse(exact_views, fusion="hs")),
        "rw": (ours.fuse(views, fusion="rw"), exact.fuse(exact_views, fusion="rw")),
        "raw hs": (views.hidden_states, exact_views.hidden_states),
        "raw rw": (views.routing_weights, exact_views.routing_weights),
    }
    return {name: _summary(_cosines(a, b)) for name, (a, b) in pairs.items()}


def _cosines(a: Array, b: Array) -> Array:
    a, b = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (a, b))
    return np.asarray((a * b).sum(axis=1))


def _summary(cosines: Array) -> dict[str, float]:
    return {
        "mean": float(cosines.mean()),
        "percentile_1": float(np.percentile(cosines, 1)),
        "min": float(cosines.min()),
    }


def interleave(runs: dict[str, Callable[[], object]], rounds: int) -> Row:
    """Return per run the median of its CPU seconds and their spread, taken in turn, and the ratio of the medians."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if turn:  # the first is a warm-up
                seconds[name].append(time.process_time() - start)
    found: Row = {
        name: {"median": statistics.median(each), "least": min(each), "most": max(each)}
        for name, each in seconds.items()
    }
    found["ratio"] = found["exact"]["median"] / found["int8"]["median"]
    return found


def layer_speed(rounds: int) -> Iterator[Row]:
    """Measure one OLMoE layer of full width at several numbers of tokens, in sentences of 32."""
    from transformers import OlmoeConfig, OlmoeModel

    torch.manual_seed(0)
    config = OlmoeConfig(num_hidden_layers=1, vocab_size=512, pad_token_id=None, eos_token_id=None, use_cache=False)
    exact = OlmoeModel(config).eval()
    with torch.inference_mode():
        ours = copy.deepcopy(exact)
        quantize(ours, keep=[ours.layers[0].mlp.gate])
    active = 2 * (
        4 * config.hidden_size**2 + config.num_experts_per_tok * 3 * config.hidden_size * config.intermediate_size
    )
    for tokens in LAYER_TOKENS:
        ids = torch.randint(0, config.vocab_size, (tokens // SENTENCE_TOKENS, SENTENCE_TOKENS))

        def run(model: Any, ids: torch.Tensor = ids) -> torch.Tensor:
            twin = Twin(model).root
            experts_kernel(twin)
            with torch.inference_mode():
                states: torch.Tensor = twin(input_ids=ids).last_hidden_state
                return states

        row = interleave({"exact": lambda: run(exact), "int8": lambda: run(ours)}, rounds)
        for name in ("exact", "int8"):
            row[name]["gflops"] = tokens * active / row[name]["median"] / 1e9
        cosines = torch.cosine_similarity(run(exact), run(ours), dim=-1)
        yield {"tokens": tokens, **row, "cosine": {"median": float(cosines.median()), "min": float(cosines.min())}}


def sts_scores(model: MoEE, data: Path, limit: int | None) -> dict[str, float]:
    """Return the default recipe's Spearman x 100 of every set; views are not shared with other runs."""
    with tempfile.TemporaryDirectory() as cache:
        study = Study(model, data, cache=Path(cache), limit=limit, show_progress=True)
        return {name: 100.0 * study.score(name, Setting()).main for name in STS_SETS}


def render(result: Row) -> str:
    """Return the result as a table for people."""
    lines = [result["arithmetic"], "", f"{'cosine to full precision':<28}{'mean':>10}{'1st pct':>10}{'min':>10}"]

    def add(label: str, row: Row) -> None:
        lines.append(f"{label:<28}{row['mean']:10.4f}{row['percentile_1']:10.4f}{row['min']:10.4f}")

    for name, row in result["vectors"].items():
        add(name, row)
    if "wider" in result:
        add("default, wider", result["wider"]["vectors"]["default"])
    lines += ["", f"{'CPU seconds, 1 thread':<28}{'exact':>10}{'int8':>10}{'ratio':>10}"]
    rows = {f"OLMoE layer, {row['tokens']} tokens": row for row in result["layers"]}
    rows[f"demo, {result['demo']['sentences']} sentences"] = result["demo"]
    if "wider" in result:
        rows["demo, wider"] = {**result["demo"], **result["wider"]["speed"]}
    for label, row in rows.items():
        lines.append(f"{label:<28}{row['exact']['median']:10.3f}{row['int8']['median']:10.3f}{row['ratio']:10.2f}")
    if "sts" in result:
        lines += ["", f"{'Spearman x 100':<28}{'exact':>10}{'int8':>10}{'change':>10}"]
        for name in STS_SETS:
            exact, ours = (result["sts"][each][name] for each in ("exact", "int8"))
            lines.append(f"{name:<28}{exact:10.2f}{ours:10.2f}{ours - exact:+10.2f}")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=500, help="for the vectors")
    parser.add_argument("--rounds", type=int, default=5, help="timed repetitions")
    parser.add_argument("--wider", action="store_true", help="also convert smaller layers, for comparison")
    parser.add_argument("--sts", type=int, metavar="N", help="also score N pairs of each set; 0 for all")
    parser.add_argument("--data", type=Path, default=os.environ.get("MOEE_DATA"), help="folder of the sets")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    if arguments.sts is not None and (arguments.data is None or not Path(arguments.data).is_dir()):
        parser.error(f"no folder of evaluation sets at {arguments.data!r}: set MOEE_DATA or give --data")
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = parse()
    torch.set_num_threads(1)
    result: Row = {
        "arithmetic": describe_arithmetic(),
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 1},
        "versions": {name: version(name) for name in ("moee", "torch", "transformers", "numpy")},
        "targets": TARGETS,
        "layers": list(layer_speed(arguments.rounds)),
    }
    gc.collect()
    every = calibration_texts()
    texts = every[:: max(1, len(every) // arguments.sentences)][: arguments.sentences]
    exact, _ = open_demo(None)
    ours, result["converted"] = open_demo(SMALLEST)
    views = exact.encode_views(texts)
    result["sentences"] = len(texts)
    result["vectors"] = compare_vectors(exact, views, ours, texts)
    some = texts[:100]

    def speed(other: MoEE) -> Row:
        return interleave({"exact": lambda: exact.encode(some), "int8": lambda: other.encode(some)}, arguments.rounds)

    result["demo"] = {"sentences": len(some), **speed(ours)}
    if arguments.sts is not None:
        limit = arguments.sts or None
        models = {"exact": exact, "int8": ours}
        scores = {name: sts_scores(model, Path(arguments.data), limit) for name, model in models.items()}
        result["sts"] = {"limit": limit, "statistics": "those of the exact model", **scores}
    if arguments.wider:
        wider, converted = open_demo(WIDER)
        vectors = compare_vectors(exact, views, wider, texts)
        result["wider"] = {"converted": converted, "vectors": vectors, "speed": speed(wider)}
    print(render(result))
    if arguments.json is not None:
        with atomic_file(arguments.json) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
