"""STS scores of the embedded default: four fusions, raw and calibrated, carved and dense, beside a TF-IDF floor.

    MOEE_DATA=../shared/data python benchmarks/quality.py [--limit 200] [--json OUT.json]

Spearman correlation x 100 of the cosine with the human score, over all rows of five English sets. What the rows mean:

- raw: the views as the model gives them, alpha 1.
- builtin: the default recipe, with statistics frozen from the built-in sentences.
- corpus: the same, with statistics from the set's own sentences, without their scores.

The dense model is the one the demo was carved from; it has no routers, so only `hs` exists for it. Nothing was tuned on
these sets: the defaults were chosen on STSBenchmark dev. Views are cached, so that a second run takes seconds.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from scipy.stats import spearmanr

from moee import Calibration, EmbedderConfig, MoEE, Views
from moee.carve.source import DenseModel, open_dense
from moee.demo.build import demo_report, file_sha256, find_gguf
from moee.files import atomic_file, cache_dir
from moee.fusion import fuse
from moee.similarity import similarity_pairwise
from moee.types import Activations, Array, CapturePlan, Fusion, ModelInfo

SETS = ("STS12", "STS13", "STS16", "STSBenchmark", "SICK-R")
SETTINGS = ("raw", "builtin", "corpus")
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)

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

    def forward(self, sequences: Sequence[Sequence[int]], plan: CapturePlan) -> Activations:
        """Run one right-padded batch."""
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


@dataclass(frozen=True, slots=True)
class PairSet:
    """A set of scored sentence pairs.

    Attributes:
        name: Of the set.
        texts: Its different sentences.
        left: For each pair, the place of its first sentence in `texts`.
        right: The same for its second sentence.
        scores: Of the pairs, by people.
        floor: Spearman x 100 of the TF-IDF cosine.
    """

    name: str
    texts: list[str]
    left: list[int]
    right: list[int]
    scores: list[float]
    floor: float


def read_set(folder: Path, name: str, limit: int | None) -> PairSet:
    """Read a set's test part, or its first `limit` pairs."""
    with gzip.open(folder / name / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows: list[Row] = [json.loads(line) for line in lines][:limit]
    columns = [[str(row[column]) for row in rows] for column in ("sentence1", "sentence2")]
    places: dict[str, int] = {}
    left, right = ([places.setdefault(text, len(places)) for text in column] for column in columns)
    scores = [float(row["score"]) for row in rows]
    return PairSet(name, list(places), left, right, scores, spearman(tfidf_cosines(*columns), scores))


def spearman(similarities: Sequence[float] | Array, scores: Sequence[float]) -> float:
    """Return Spearman's correlation x 100."""
    return 100.0 * float(spearmanr(similarities, scores).statistic)


def tfidf_cosines(first: Sequence[str], second: Sequence[str]) -> list[float]:
    """Return the cosine of each pair under (1 + log tf) * log((n + 1) / (df + 0.5)), tokens `[a-z0-9]+`."""
    documents = [Counter(re.findall(r"[a-z0-9]+", text.lower())) for text in (*first, *second)]
    frequency = Counter(token for document in documents for token in document)
    weight = {token: math.log((len(documents) + 1) / (count + 0.5)) for token, count in frequency.items()}
    vectors = [{token: (1 + math.log(n)) * weight[token] for token, n in each.items()} for each in documents]
    lengths = [math.sqrt(sum(value * value for value in vector.values())) or 1.0 for vector in vectors]
    return [
        sum(value * vectors[j].get(token, 0.0) for token, value in vectors[i].items()) / (lengths[i] * lengths[j])
        for i, j in enumerate(range(len(first), len(documents)))
    ]


def cached_views(model: MoEE, texts: list[str], label: str) -> Views:
    """Return the views of texts, from the cache folder if they were computed before."""
    key = json.dumps([model.info.fingerprint, model.info.dtype, model.config.view_key(), texts])
    path = cache_dir() / "quality" / f"{label}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not path.is_file():
        print(f"{label}: {len(texts)} sentences", file=sys.stderr)
        views = model.encode_views(texts, show_progress_bar=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, hidden_states=views.hidden_states, routing_weights=views.routing_weights)
    with np.load(path) as arrays:
        info = model.info
        return Views(arrays["hidden_states"], arrays["routing_weights"], info.layer_ids, info.num_experts)


def vectors_by(model: MoEE, views: Views, setting: str) -> Callable[[Fusion], Array]:
    """Return the function from a fusion to the vectors of the views, under one of `SETTINGS`."""
    if setting == "raw":
        return lambda fusion: fuse(views.hidden_states, views.routing_weights, fusion, 1.0)
    if setting == "builtin":
        return lambda fusion: model.fuse(views, fusion=fusion)
    method = model.config.calibration
    statistics = Calibration.fit(views, info=model.info, config=model.config, texts="corpus")
    blocks = statistics.apply(views, method)
    return lambda fusion: fuse(*blocks, fusion, statistics.alpha(method))


def score_model(model: MoEE, label: str, sets: Sequence[PairSet]) -> list[Row]:
    """Return one row for every setting and fusion: the Spearman of each set and their mean."""
    scores: dict[tuple[str, Fusion], Scores] = {}
    for pairs in sets:
        views = cached_views(model, pairs.texts, f"{label}-{pairs.name}")
        for setting in SETTINGS:
            vectors_of = vectors_by(model, views, setting)
            for fusion in FUSIONS if views.num_experts else ("hs",):
                vectors = vectors_of(fusion)
                cosines = similarity_pairwise(vectors[pairs.left], vectors[pairs.right])
                scores.setdefault((setting, fusion), {})[pairs.name] = spearman(cosines, pairs.scores)
    return [
        {"model": label, "setting": setting, "fusion": fusion, "mean": _mean(by_set), **by_set}
        for (setting, fusion), by_set in sorted(scores.items(), key=lambda item: SETTINGS.index(item[0][0]))
    ]


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
        lines.append(f"SAMPLE: the first {result['limit']} pairs of each set; the promises are about whole sets.")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOEE_DATA"), help="folder of the sets")
    parser.add_argument("--limit", type=int, help="only the first N pairs of each set")
    parser.add_argument("--models", nargs="+", choices=("carved", "dense"), default=["carved", "dense"])
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    if arguments.data is None or not Path(arguments.data).is_dir():
        parser.error(f"no folder of evaluation sets at {arguments.data!r}: set MOEE_DATA or give --data")
    return arguments


def main() -> None:
    """Measure and print."""
    arguments, start = parse(), time.perf_counter()
    sets = [read_set(Path(arguments.data), name, arguments.limit) for name in SETS]
    floor = {pairs.name: pairs.floor for pairs in sets}
    rows: list[Row] = [{"model": "tf-idf", "setting": "-", "fusion": "-", "mean": _mean(floor), **floor}]
    config = EmbedderConfig()
    for label, open_model in open_models(config, arguments.models).items():
        model = open_model()
        rows += score_model(model, label, sets)
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
