"""Make the shipped assets of the demo model again from calibration text.

    python scripts/make_demo.py --texts FILE [--texts FILE ...] [--tokens 120000] [--out src/moee/demo/assets]
    python scripts/make_demo.py --top-k K    (keeps the fitted routers; minutes instead of half an hour)

FILE is `.jsonl` or `.jsonl.gz` with the fields `text`, `source` and `licence`. The result is the same for the same
texts, options, library versions and number of threads. Needs the extra `demo`. Where other work shares the cores,
`OMP_NUM_THREADS=1` is the fastest: threads that wait for each other at every product waste most of a busy core.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from moee.carve.config import CarveConfig
from moee.carve.perplexity import perplexity
from moee.carve.pipeline import build_report, make_plan
from moee.carve.plan import CarvePlan
from moee.carve.report import CarveReport
from moee.carve.sequences import batches, passages_of
from moee.carve.source import open_dense
from moee.demo import build, weights
from moee.demo.gguf import build_tokenizer, open_gguf


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a JSONL file, compressed or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_heldback(path: Path, rows: Sequence[dict[str, str]], texts: Sequence[str]) -> None:
    """Write the held-back texts with their sources and licences; the same bytes for the same texts."""
    by_text = {row["text"].strip(): row for row in rows}
    lines = [json.dumps({**by_text[text], "text": text}, ensure_ascii=False) + "\n" for text in texts]
    path.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


def make(rows: Sequence[dict[str, str]], config: CarveConfig, out: Path) -> dict[str, object]:
    """Write plan, manifest and held-back texts into `out`; return the manifest."""
    started = time.monotonic()
    dense = dataclasses.replace(open_dense(weights.find_gguf()), name=build.SOURCE_NAME)
    result = make_plan(dense, [row["text"] for row in rows], config=config, progress=True)
    digest, carved = measure(result.plan, result.sequences.heldback, config)
    report = build_report(
        dense.name, result, config=config, dtype=build.DTYPE, digest=digest, perplexity_carved=carved, started=started
    )
    out.mkdir(parents=True, exist_ok=True)
    write_heldback(out / build.HELDBACK_NAME, rows, result.sequences.heldback_texts)
    return write_plan(result.plan, report, out)


def change_top_k(top_k: int, out: Path) -> dict[str, object]:
    """Give the plan in `out` another number of experts a token; routers and neuron order do not depend on it."""
    manifest = json.loads((out / build.MANIFEST_NAME).read_text(encoding="utf-8"))
    report = CarveReport.from_json(manifest["report"])
    config = CarveConfig(**{**report.config, "top_k": top_k})
    plan = dataclasses.replace(CarvePlan.load(out / build.PLAN_NAME), top_k=top_k)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=build_tokenizer(open_gguf(weights.find_gguf())))
    texts = [row["text"] for row in read_rows(out / build.HELDBACK_NAME)]
    digest, carved = measure(plan, passages_of(texts, tokenizer, config.sequence_length), config)
    report = dataclasses.replace(
        report,
        top_k=top_k,
        active_neuron_share=plan.active_share,
        perplexity_carved=carved,
        tensors_sha256=digest,
        config=dataclasses.asdict(config),
    )
    return write_plan(plan, report, out)


def measure(plan: CarvePlan, heldback: Sequence[list[int]], config: CarveConfig) -> tuple[str, float]:
    """Return the digest of the checkpoint of a plan, and its held-back perplexity when loaded by transformers."""
    with tempfile.TemporaryDirectory() as scratch:
        digest = build.write_demo(Path(scratch), plan, open_gguf(weights.find_gguf()))
        model = AutoModelForCausalLM.from_pretrained(scratch, dtype=torch.float32)
        return digest, perplexity(model, batches(heldback, batch_tokens=config.batch_tokens))


def write_plan(plan: CarvePlan, report: CarveReport, out: Path) -> dict[str, object]:
    """Write plan and manifest into `out`; return the manifest."""
    plan.save(out / build.PLAN_NAME)
    manifest = {
        "format_version": build.FORMAT_VERSION,
        "source_package": weights.REQUIREMENT,
        "source_file": weights.GGUF_NAME,
        "source_sha256": weights.file_sha256(weights.find_gguf()),
        "plan_sha256": weights.file_sha256(out / build.PLAN_NAME),
        "tensors_sha256": report.tensors_sha256,
        "report": report.to_json(),
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (out / build.MANIFEST_NAME).write_text(text, encoding="utf-8")
    return manifest


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--tokens", type=int, default=120_000, help="calibration tokens")
    parser.add_argument("--top-k", type=int, default=CarveConfig().top_k)
    parser.add_argument("--out", type=Path, default=build.ASSETS)
    options = parser.parse_args()
    if options.texts:
        rows = [row for path in options.texts for row in read_rows(path)]
        manifest = make(rows, CarveConfig(calibration_tokens=options.tokens, top_k=options.top_k), options.out)
    else:
        manifest = change_top_k(options.top_k, options.out)
    json.dump(manifest, sys.stdout, indent=2, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
