"""STS scores of the embedded default beside the dense model it was carved from: four fusions, raw and calibrated.

    MOEE_DATA=../shared/data python benchmarks/quality.py [--limit 200] [--json OUT.json]

Spearman correlation x 100 of the cosine with the human score, over all rows of five English sets. What the rows mean:

- raw: the views as the model gives them, alpha 1.
- builtin: the default recipe, with statistics frozen from the built-in sentences.
- corpus: the same, with statistics from the set's own sentences, without their scores.

The dense model is the one the demo was carved from; it has no routers, so only `hs` exists for it. Nothing was tuned on
these sets: the defaults were chosen on STSBenchmark dev. Data, scores and the cache of views are those of `moee eval`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from moee import EmbedderConfig, MoEE
from moee.carve.source import DenseModel, open_dense
from moee.demo.build import demo_report
from moee.demo.weights import file_sha256, find_gguf
from moee.evaluate.study import Study
from moee.evaluate.tasks import tfidf_score
from moee.evaluate.vectors import CalibrationTexts, Setting
from moee.files.atomic import atomic_file
from moee.types import Activations, Array, CapturePlan, Fusion, ModelInfo

SETS = ("STS12", "STS13", "STS16", "STSBenchmark", "SICK-R")
SETTINGS: dict[str, CalibrationTexts] = {"raw": "none", "builtin": "builtin", "corpus": "corpus"}
FUSIONS: tuple[Fusion, ...] = ("hs", "rw", "concat", "sum", "weighted")

Row = dict[str, Any]
Scores = dict[str, float]


class DenseBackend:
    """A dense model behind the seam of `moee.backends`: the last token's hidden state, and no routers."""

    def __init__(self, model: DenseModel, name: str, fingerprint: str) -> None:
        self._inner = model.model.get_decoder()
        self._tokenizer = model.tokenizer
        self.info = ModelInfo(
            name=name,
            fingerprint=fingerprint,
            model_type=str(model.config["model_type"]),
            hidden_size=int(model.config["hidden_size"]),
            num_layers=int(model.config["num_hidden_layers"]),
            layer_ids=(),
            num_experts=(),
            top_k=(),
            scoring_func="softmax",
            max_tokens=int(model.config["max_position_embeddings"]),
            dtype="float32",
            device="cpu",
        )

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Turn prompts into token ids."""
        ids: list[list[int]] = self._tokenizer(list(prompts), verbose=False)["input_ids"]
        return ids

    def detokenize(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Turn token ids back into texts."""
        return [str(self._tokenizer.decode(list(sequence), skip_special_tokens=True)) for sequence in sequences]

    def run(
        self, batches: Sequence[Sequence[Sequence[int]]], plan: CapturePlan, *, shared: int = 0
    ) -> Iterator[Activations]:
        """Run right-padded batches; `shared` is not made use of."""
        for sequences in batches:
            yield self._forward(sequences, plan)

    def _forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        if (plan.hidden_pooling, plan.hidden_layers) != ("last_token", "last"):
            raise SystemExit("The dense comparison knows the last token of the last layer only.")
        width = max(len(sequence) for sequence in sequences)
        rows = torch.tensor([[*sequence, *[0] * (width - len(sequence))] for sequence in sequences])
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        mask = (torch.arange(width) < lengths[:, None]).long()
        with torch.inference_mode():
            states = self._inner(input_ids=rows, attention_mask=mask, use_cache=False).last_hidden_state
        hidden: Array = states[torch.arange(len(rows)), lengths - 1].float().numpy()
        nothing = np.empty((len(rows), 0), dtype=np.float32)
        return Activations(hidden, nothing, is_scored=True, layer_ids=(), num_experts=(), top_k=())

    def close(self) -> None:
        """Release the model."""
        del self._inner


def score_model(study: Study, label: str) -> list[Row]:
    """Return one row for every setting and fusion: the Spearman of each set and their mean."""
    rows: list[Row] = []
    for name, texts in SETTINGS.items():
        for fusion in FUSIONS if study.embedder.info.num_experts else FUSIONS[:1]:
            alpha: float | Literal["slope"] = 1.0 if name == "raw" else "slope"
            setting = Setting(fusion=fusion, calibration_texts=texts, alpha=alpha)
            by_set = {each: 100.0 * study.score(each, setting).main for each in SETS}
            rows.append({"model": label, "setting": name, "fusion": fusion, "mean": _mean(by_set), **by_set})
    return rows


def _mean(by_set: Scores) -> float:
    return sum(by_set.values()) / len(by_set)


def open_models(config: EmbedderConfig, wanted: Sequence[str]) -> dict[str, Callable[[], MoEE]]:
    """Return how to open each wanted model; float32 on the CPU, so that both compute alike."""

    def dense() -> MoEE:
        gguf = find_gguf()
        backend = DenseBackend(open_dense(gguf), "SmolLM2-135M-Instruct", f"gguf-{file_sha256(gguf)[:12]}")
        return MoEE(backend, config)

    def carved() -> MoEE:
        return MoEE.from_pretrained("demo", dtype="float32", device="cpu")

    return {name: {"carved": carved, "dense": dense}[name] for name in wanted}


def comparisons(rows: Sequence[Row]) -> list[Row]:
    """Return the differences of means that the project promises, with the promise, where both sides are there."""
    means = {(row["model"], row["setting"], row["fusion"]): row["mean"] for row in rows}
    promises = [
        ("hs: built-in statistics over raw", ("carved", "builtin", "hs"), ("carved", "raw", "hs"), 1.0),
        ("hs: the set's own statistics over raw", ("carved", "corpus", "hs"), ("carved", "raw", "hs"), 2.5),
        ("hs: carved over dense, built-in statistics", ("carved", "builtin", "hs"), ("dense", "builtin", "hs"), -1.0),
        ("hs: carved over dense, own statistics", ("carved", "corpus", "hs"), ("dense", "corpus", "hs"), -1.0),
        ("sum over hs, built-in statistics", ("carved", "builtin", "sum"), ("carved", "builtin", "hs"), -1.0),
        ("sum over hs, own statistics", ("carved", "corpus", "sum"), ("carved", "corpus", "hs"), -1.0),
    ]
    found = [(name, means[a] - means[b], least) for name, a, b, least in promises if a in means and b in means]
    return [{"what": name, "difference": value, "at_least": least} for name, value, least in found]


def render(result: Row) -> str:
    """Return the result as a table for people."""
    names = [*result["sets"], "mean"]
    lines = [f"{'model':<8}{'statistics':<12}{'fusion':<8}" + "".join(f"{name:>14}" for name in names)]
    for row in result["rows"]:
        values = "".join(f"{row[name]:14.2f}" for name in names)
        lines.append(f"{row['model']:<8}{row['setting']:<12}{row['fusion']:<8}{values}")
    lines.append("")
    for row in result["comparisons"]:
        verdict = "ok" if row["difference"] >= row["at_least"] else "MISSED"
        lines.append(f"{row['what']:<44}{row['difference']:+7.2f}   at least {row['at_least']:+.1f}   {verdict}")
    perplexity = result["perplexity"]
    lines.append(
        f"perplexity on held-back text: dense {perplexity['dense']:.2f}, carved {perplexity['carved']:.2f}, "
        f"ratio {perplexity['ratio']:.3f} (measured when the demo was carved)"
    )
    if result["limit"]:
        lines.append(f"SAMPLE: {result['limit']} pairs of each set; the promises are about whole sets.")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOEE_DATA"), help="folder of the sets")
    parser.add_argument("--limit", type=int, help="only N pairs of each set, at equal distances")
    parser.add_argument("--models", nargs="+", choices=("carved", "dense"), default=["carved", "dense"])
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    if arguments.data is None or not Path(arguments.data).is_dir():
        parser.error(f"no folder of evaluation sets at {arguments.data!r}: set MOEE_DATA or give --data")
    return arguments


def main() -> None:
    """Measure and print."""
    arguments, start = parse(), time.perf_counter()
    rows: list[Row] = []
    config = EmbedderConfig()
    for label, open_model in open_models(config, arguments.models).items():
        model = open_model()
        study = Study(model, Path(arguments.data), limit=arguments.limit, show_progress=True)
        if not rows:
            floor = {name: 100.0 * study.baseline(name, tfidf_score, "tf-idf").main for name in SETS}
            rows.append({"model": "tf-idf", "setting": "-", "fusion": "-", "mean": _mean(floor), **floor})
        rows += score_model(study, label)
        model.close()
    report = demo_report()
    result: Row = {
        "sets": list(SETS),
        "limit": arguments.limit,
        "rows": rows,
        "comparisons": comparisons(rows),
        "perplexity": {
            "dense": report.perplexity_dense,
            "carved": report.perplexity_carved,
            "ratio": report.perplexity_carved / report.perplexity_dense,
        },
        "config": config.to_dict(),
        "versions": {name: version(name) for name in ("moee", "torch", "transformers", "numpy")},
        "seconds": time.perf_counter() - start,
    }
    print(render(result))
    if arguments.json is not None:
        with atomic_file(arguments.json) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
